"""What the model says about one patient, as JSON that both processes share."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Validation:
    """How well the model did, as measured by a command: never a claim beyond it.

    ``low`` and ``high`` bound a 95 % interval; ``n`` counts patients; ``method`` names
    the data and the split in words a clinician can read.
    """

    metric: str
    value: float
    low: float
    high: float
    n: int
    method: str


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """Which model it was: name, version, digest of its weights, what it learnt from."""

    name: str
    version: str
    sha256: str
    trained_on: str
    validation: Validation | None = None


@dataclass(frozen=True, slots=True)
class LabelEstimate:
    """One condition: raw logit, calibrated probability, decision threshold."""

    label: str
    display: str
    logit: float
    probability: float
    threshold: float

    @property
    def positive(self) -> bool:
        """True where the calibrated probability reaches the decision threshold."""
        return self.probability >= self.threshold


@dataclass(frozen=True, slots=True)
class Abstention:
    """A first-class refusal to answer: a typed code and plain words."""

    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Prediction:
    """One assessment; ``presence`` is keyed "image", "text", "values".

    ``states`` keeps for each modality its status and reason ("absent: no_study").
    With abstentions ``estimates`` may be empty: no number is shown then. ``warnings``
    stand beside an estimate; ``checks`` says of each detector whether it ran: "passed",
    "raised" or "not checked" (a checkpoint without its statistic).
    """

    prediction_id: str
    made_at: str
    model: ModelIdentity
    device: str
    presence: dict[str, bool]
    states: dict[str, str]
    calibration: str
    estimates: tuple[LabelEstimate, ...]
    abstentions: tuple[Abstention, ...]
    inputs: tuple[str, ...]
    evidence_sha256: str
    warnings: tuple[Abstention, ...] = ()
    checks: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Prediction:
        """Rebuild from :meth:`to_json`.

        Raises:
            KeyError, TypeError: a field is missing or of the wrong shape.
        """
        model = dict(data["model"])
        validation = model.pop("validation")
        identity = ModelIdentity(
            **model, validation=Validation(**validation) if validation else None
        )
        rest = {
            k: v
            for k, v in data.items()
            if k not in {"model", "estimates", "abstentions", "inputs", "warnings"}
        }
        return cls(
            **rest,
            model=identity,
            estimates=tuple(LabelEstimate(**e) for e in data["estimates"]),
            abstentions=tuple(Abstention(**a) for a in data["abstentions"]),
            inputs=tuple(data["inputs"]),
            # Older results have none.
            warnings=tuple(Abstention(**w) for w in data.get("warnings", ())),
        )
