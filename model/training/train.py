"""From a training set to a calibrated model, stage by stage.

S0 fits vocabulary and statistics, S1 teaches each encoder alone, S3 fuses cached
tokens, S4 (optional) tunes everything a little, S5 calibrates on held-out records.
Contrastive alignment (S2) and compression (S6) are not part of this version.

The same entry serves synthetic cases and real folders::

    trained = train(TrainingSet.of_labels(records, ("covid19",), y), held_out, settings)
    trained.save(folder, description)
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from model.errors import ConfigurationError
from model.inference.calibration import Calibration
from model.inference.runtime import choose_device, configure_threads
from model.inference.tensors import to_tensors
from model.inference.vocabulary import InputVocabulary
from model.inference.weights import Description, save_checkpoint
from model.network.config import TriModalConfig, preset
from model.network.fusion import TriModalModel
from model.network.inputs import MODALITIES
from model.training.calibrate import Charts, HeldOut, calibrate
from model.training.finding_heads import lesion_patches
from model.training.optimise import Schedule
from model.training.sparse import sparse_copies
from model.training.stages import (
    Prepared,
    cache_tokens,
    probe,
    train_encoder,
    train_everything,
    train_fusion,
)
from model.training.training_set import TrainingSet

SPARSE_COPIES = 3_000  # records of a set that are also looked at as sparse charts


@dataclass(frozen=True)
class TrainSettings:
    """One run; the defaults are the recipe of the demonstration checkpoint.

    ``encoders`` holds one schedule per modality (S1), ``dropout`` is the chance that a
    record of a fusion batch loses modalities. ``encoders`` has one schedule a modality,
    ``pooled`` and ``fusion`` train S3 on pooled and on all tokens. One thread by
    default: reruns then agree bit for bit, and a busy machine does not stall threads
    that wait for each other; 0 leaves torch's choice.
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

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)


@dataclass(frozen=True)
class Trained:
    """A calibrated model and what its training measured."""

    model: TriModalModel
    vocabulary: InputVocabulary
    calibration: Calibration
    thresholds: tuple[float, ...]
    figures: Mapping[str, Any] = field(default_factory=dict)

    def save(self, folder: Path, description: Description) -> str:
        """Write a checkpoint folder; thresholds come from the calibration.

        Returns:
            The model's digest.
        """
        labels = tuple(
            replace(label, threshold=threshold)
            for label, threshold in zip(
                description.labels, self.thresholds, strict=True
            )
        )
        return save_checkpoint(
            folder,
            self.model,
            self.vocabulary,
            self.calibration,
            replace(description, labels=labels),
        )


def train(
    training: TrainingSet, held_out: TrainingSet, settings: TrainSettings
) -> Trained:
    """Train and calibrate one model.

    Args:
        training: Records that the weights, the vocabulary and the statistics may see.
        held_out: Records for calibration only, of other patients.
        settings: Sizes, stages, seed.

    Returns:
        The model in evaluation mode with its calibration and the run's figures.

    Raises:
        ConfigurationError: the two sets have different labels.
    """
    if training.labels != held_out.labels:
        raise ConfigurationError("training and held-out labels differ")
    configure_threads(settings.threads)
    with torch.random.fork_rng(devices=[]):  # same seed, same run; callers keep theirs
        torch.manual_seed(settings.seed)
        return _run(training, held_out, settings)


def _run(
    training: TrainingSet, held_out: TrainingSet, settings: TrainSettings
) -> Trained:
    """All stages, under the run's own random state."""
    device = choose_device(settings.device)
    clock = _Clock()
    model, vocabulary = build(training, settings)
    model.to(device)
    data = prepare(training, vocabulary, model.config, device)
    fresh = prepare(held_out, vocabulary, model.config, device)
    clock.lap("prepare")
    figures: dict[str, Any] = {"parameters": sum(p.numel() for p in model.parameters())}
    if settings.staged:
        figures.update(_staged(model, training, held_out, (data, fresh), settings))
    else:
        figures["whole"] = train_everything(
            "end to end",
            model,
            data,
            settings.whole,
            dropout=settings.dropout,
            seed=settings.seed,
            progress=settings.progress,
        )
    clock.lap("train")
    model.eval()
    calibration, thresholds = calibrate_on(
        model, vocabulary, (training, held_out), (data, fresh), settings.seed
    )
    clock.lap("calibrate")
    figures["gates"] = model.direction_gates()
    figures["seconds"] = clock.laps
    return Trained(model, vocabulary, calibration, thresholds, figures)


def calibrate_on(
    model: TriModalModel,
    vocabulary: InputVocabulary,
    sets: tuple[TrainingSet, TrainingSet],
    prepared: tuple[Prepared, Prepared],
    seed: int,
) -> tuple[Calibration, tuple[float, ...]]:
    """S5 on the held-out set; both sets also in sparser copies, see :mod:`.sparse`.

    Args:
        model: With final weights.
        vocabulary: Of that model.
        sets: Training and held-out records.
        prepared: The same two as tensors.
        seed: Of the sparser copies.
    """
    data, fresh = prepared
    sparse = [
        cache_tokens(
            model,
            to_tensors(
                sparse_copies(part.records[:SPARSE_COPIES], seed + 1 + number),
                vocabulary,
            ).to(fresh.targets.device),
        )
        for number, part in enumerate(sets)
    ]
    held_out = HeldOut(
        cache_tokens(model, fresh.inputs),
        fresh.inputs.present,
        fresh.targets,
        fresh.known,
        plain_films(sets[1]),
    )
    training = Charts(cache_tokens(model, data.inputs), sparse[0])
    return calibrate(model, training, held_out, sparse[1])


def plain_films(data: TrainingSet) -> torch.Tensor | None:
    """Films whose own finding is the lowest of its scale; None without findings."""
    findings = data.findings.get(MODALITIES[0], ())
    return torch.from_numpy(findings[0].target == 0) if findings else None


def build(
    training: TrainingSet, settings: TrainSettings
) -> tuple[TriModalModel, InputVocabulary]:
    """S0: fit vocabulary and statistics, then initialise a network for them."""
    sizes = preset(settings.preset, vocabulary=1, codes=1, labels=training.labels)
    vocabulary = InputVocabulary.fit(
        training.records,
        image_size=sizes.image.size,
        max_tokens=sizes.text.max_tokens,
        pieces=settings.pieces,
        bins=sizes.values.bins,
    )
    config = preset(
        settings.preset,
        vocabulary=len(vocabulary.pieces),
        codes=len(vocabulary.codes),
        labels=training.labels,
    )
    return TriModalModel(config), vocabulary


def prepare(
    data: TrainingSet,
    vocabulary: InputVocabulary,
    config: TriModalConfig,
    device: torch.device,
) -> Prepared:
    """A training set as tensors on ``device``."""
    lesion = None
    if data.lesion_masks is not None:
        masks = torch.from_numpy(data.lesion_masks)
        lesion = lesion_patches(masks, config.image.patch).to(device)
    targets, known = data.target_tensors()
    inputs = to_tensors(data.records, vocabulary).to(device)
    return Prepared(inputs, targets.to(device), known.to(device), lesion)


def _staged(
    model: TriModalModel,
    training: TrainingSet,
    held_out: TrainingSet,
    prepared: tuple[Prepared, Prepared],
    settings: TrainSettings,
) -> dict[str, Any]:
    """S1, S3 and, where asked for, S4; returns losses and held-out probe scores."""
    data, fresh = prepared
    figures: dict[str, Any] = {"encoders": {}}
    for m, name in enumerate(MODALITIES):
        losses, heads = train_encoder(
            model,
            m,
            data,
            training.questions(name),
            settings.encoders[m],
            seed=settings.seed,
            progress=settings.progress,
        )
        questions = held_out.questions(name)
        heads.ask(questions)
        scores = probe(model, m, fresh, heads)
        figures["encoders"][name] = {
            "loss": losses,
            "held_out_accuracy": dict(zip((q.name for q in questions), scores)),
        }
    figures["fusion"] = train_fusion(
        model,
        data,
        (settings.pooled, settings.fusion),
        dropout=settings.dropout,
        seed=settings.seed,
        progress=settings.progress,
    )
    if settings.finetune is not None:
        figures["finetune"] = train_everything(
            "S4 all",
            model,
            data,
            settings.finetune,
            dropout=settings.dropout,
            seed=settings.seed,
            progress=settings.progress,
        )
    return figures


class _Clock:
    """Seconds between laps."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, name: str) -> None:
        """Name the time since the previous lap."""
        now = time.monotonic()
        self.laps[name] = round(now - self._last, 1)
        self._last = now
