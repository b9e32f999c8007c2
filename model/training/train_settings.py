"""What one training run is asked to do, as one frozen object."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from model.errors import ConfigurationError
from model.training.loss_weights import LossWeights
from model.training.optimise import Schedule

#: S0 (vocabulary and statistics) always runs; S6 (compression) is elsewhere.
STAGES = ("S1", "S2", "S3", "S4", "S5")


@dataclass(frozen=True)
class TrainSettings:
    """One run; the defaults are the recipe of the demonstration checkpoint.

    ``encoders`` holds one schedule per modality (S1), ``dropout`` is the chance that a
    record of a fusion batch loses modalities. ``pooled`` and ``fusion`` train S3 on
    pooled and on all tokens. One thread by default: reruns then agree bit for bit, and
    a busy machine does not stall threads that wait for each other; 0 leaves torch's
    choice.

    ``self_supervised`` precedes S1 where set, one schedule per modality. ``alignment``
    (S2) runs where the contrastive loss is on, ``finetune`` (S4) where it is set.
    ``stages`` leaves stages out: what was not run stays as it was initialised.
    ``early_stop`` is how many epochs the held-out loss may fail to improve, 0 never
    stops. ``guard`` lets the explainability loss stay only where it pays.
    ``watch`` lets the vocabulary learn what notes and values usually look like, so that
    foreign sentences and doubtful units are left out; for large sets only.
    ``precision`` "auto" means bfloat16 on a CUDA device, "float32" everywhere.
    """

    preset: str = "tiny"
    seed: int = 7
    staged: bool = True
    encoders: tuple[Schedule, Schedule, Schedule] = (
        Schedule(epochs=5, rate=2e-3, batch=64),
        Schedule(epochs=2, rate=1e-3, batch=128),
        Schedule(epochs=3, rate=2e-3, batch=128),
    )
    pooled: Schedule = Schedule(epochs=14, rate=4e-3, batch=256, average=0.98)
    fusion: Schedule = Schedule(epochs=3, rate=1e-3, batch=128, average=0.98)
    finetune: Schedule | None = None
    whole: Schedule = Schedule(epochs=9, rate=1e-3, batch=128, average=0.99)
    dropout: float = 0.3
    pieces: int = 2000
    threads: int = 1
    device: str = "cpu"
    progress: bool = True
    losses: LossWeights = LossWeights()
    fusion_module: str = "catm"
    stages: tuple[str, ...] = STAGES
    self_supervised: tuple[Schedule, Schedule, Schedule] | None = None
    alignment: Schedule = Schedule(epochs=6, rate=2e-3, batch=256, average=0.98)
    early_stop: int = 0
    guard: bool = True
    precision: str = "auto"
    watch: bool = False

    def __post_init__(self) -> None:
        """Refuse what no run could do.

        Raises:
            ConfigurationError: an unknown stage or precision, a negative patience.
        """
        unknown = set(self.stages) - set(STAGES)
        if unknown:
            raise ConfigurationError(f"stages must be among {', '.join(STAGES)}")
        if self.precision not in ("auto", "float32"):
            raise ConfigurationError('precision must be "auto" or "float32"')
        if self.early_stop < 0:
            raise ConfigurationError("early_stop must not be negative")

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TrainSettings:
        """Rebuild from :meth:`to_json`, also after a way through JSON.

        Raises:
            ConfigurationError: a field is unknown or of the wrong shape.
        """
        rest = dict(data)
        try:
            for item in fields(cls):
                value = rest.get(item.name)
                if item.name in ("encoders", "self_supervised") and value is not None:
                    rest[item.name] = tuple(Schedule(**part) for part in value)
                elif isinstance(value, Mapping) and item.name == "losses":
                    rest[item.name] = LossWeights(**value)
                elif isinstance(value, Mapping):
                    rest[item.name] = Schedule(**value)
                elif item.name == "stages" and value is not None:
                    rest[item.name] = tuple(value)
            return cls(**rest)
        except TypeError as error:
            raise ConfigurationError("settings of a run are malformed") from error
