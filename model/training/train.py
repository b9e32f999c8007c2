"""From a training set to a calibrated model, stage by stage.

S0 fits vocabulary and statistics, S1 teaches each encoder alone, S2 (optional) aligns
the modalities, S3 fuses cached tokens, S4 (optional) tunes everything a little, S5
calibrates on held-out records. Compression (S6) is not part of this version.

The same entry serves synthetic cases and real folders::

    trained = train(TrainingSet.of_labels(records, ("covid19",), y), held_out, settings)
    trained.save(folder, description)
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from model.errors import ConfigurationError
from model.inference.calibration import Calibration
from model.inference.photometry import fit_film_reference
from model.inference.runtime import choose_device, configure_threads
from model.inference.tensors import to_tensors
from model.inference.vocabulary import InputVocabulary
from model.inference.weights import Description, save_checkpoint
from model.network.config import TriModalConfig, preset
from model.network.fusion import TriModalModel
from model.network.inputs import MODALITIES
from model.training.calibrate import Charts, HeldOut, calibrate
from model.training.companion import Companion
from model.training.contrastive import Alignment
from model.training.finding_heads import lesion_patches, patch_grid
from model.training.run_folder import RunFolder
from model.training.sparse import sparse_copies
from model.training.staged_run import Work, objective_of, run_stages
from model.training.stages import Prepared, cache_tokens, train_everything
from model.training.train_settings import TrainSettings
from model.training.training_set import TrainingSet

__all__ = [
    "TrainSettings",
    "Trained",
    "build",
    "calibrate_on",
    "plain_films",
    "prepare",
    "train",
]

SPARSE_COPIES = 3_000  # records of a set that are also looked at as sparse charts


@dataclass(frozen=True)
class Trained:
    """A calibrated model and what its training measured."""

    model: TriModalModel
    vocabulary: InputVocabulary
    calibration: Calibration
    thresholds: tuple[float, ...]
    figures: Mapping[str, Any] = field(default_factory=dict)
    alignment: Alignment | None = None

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
    training: TrainingSet,
    held_out: TrainingSet,
    settings: TrainSettings,
    run: RunFolder | None = None,
) -> Trained:
    """Train and calibrate one model.

    Args:
        training: Records that the weights, the vocabulary and the statistics may see.
        held_out: Records for calibration only, of other patients.
        settings: Sizes, stages, seed.
        run: Where measurements and states are kept; a killed run that is started
            again with the same folder ends in the same weights.

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
        return _run(training, held_out, settings, run)


def _run(
    training: TrainingSet,
    held_out: TrainingSet,
    settings: TrainSettings,
    run: RunFolder | None,
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
    companion = Companion(
        fresh if run is not None or settings.early_stop else None,
        held_out.questions,
        settings.early_stop,
        run,
        settings.precision == "auto",
    )
    work = Work(model, vocabulary, training, held_out, data, fresh, settings, companion)
    objective = objective_of(work)
    if settings.staged:
        figures.update(run_stages(work, objective))
    else:
        figures["whole"] = train_everything(
            "end to end",
            model,
            data,
            settings.whole,
            dropout=settings.dropout,
            seed=settings.seed,
            progress=settings.progress,
            objective=objective,
            companion=companion,
        )
    clock.lap("train")
    model.eval()
    labels = model.config.labels
    calibration, thresholds = Calibration.identity(labels), (0.5,) * len(labels)
    if "S5" in settings.stages:
        calibration, thresholds = calibrate_on(
            model, vocabulary, (training, held_out), (data, fresh), settings.seed
        )
    clock.lap("calibrate")
    figures["gates"] = model.direction_gates()
    figures["seconds"] = clock.laps
    return Trained(
        model, vocabulary, calibration, thresholds, figures, objective.alignment
    )


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
    calibration, thresholds = calibrate(model, training, held_out, sparse[1])
    films = (i for record in sets[0].records[:SPARSE_COPIES] for i in record.images)
    return replace(calibration, films=fit_film_reference(films)), thresholds


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
        views=sizes.image.views,
        windows=sizes.text.windows,
    )
    if settings.watch:
        vocabulary = vocabulary.watching(training.records)
    config = preset(
        settings.preset,
        vocabulary=len(vocabulary.pieces),
        codes=len(vocabulary.codes),
        labels=training.labels,
    )
    config = replace(config, fusion=settings.fusion_module)
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
        lesion = lesion_patches(masks, patch_grid(config.image)).to(device)
    targets, known = data.target_tensors()
    inputs = to_tensors(data.records, vocabulary).to(device)
    numbers: dict[str, int] = {}
    patient = torch.tensor(
        [numbers.setdefault(r.patient.patient_id, len(numbers)) for r in data.records]
    )
    return Prepared(
        inputs,
        targets.to(device),
        known.to(device),
        lesion,
        patient.to(device),
        answers(data).to(device),
    )


def answers(data: TrainingSet) -> torch.Tensor:
    """By what patients are alike (n, F): all findings, the labels without any."""
    questions = [q for name in MODALITIES for q in data.findings.get(name, ())]
    if not questions:
        questions = list(data.questions(MODALITIES[0]))
    return torch.from_numpy(np.stack([q.target for q in questions], axis=1))


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
