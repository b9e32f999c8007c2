"""Small untrained checkpoints: every code path of inference, in seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import torch

from fhir_adapters.patient_record import PatientRecord
from model.inference.calibration import Calibration, FeatureReference, Platt
from model.inference.vocabulary import InputVocabulary
from model.inference.weights import Description, LabelSpec, save_checkpoint
from model.network.config import preset
from model.network.fusion import TriModalModel
from model.synthetic.emit import to_record
from model.synthetic.generate import generate

LABELS = (
    LabelSpec("pneumonia", "Pneumonia", 0.4),
    LabelSpec("effusion", "Pleural effusion", 0.6),
)


def cases(n: int = 24, seed: int = 5) -> list[PatientRecord]:
    """Artificial patients with all three modalities, of today."""
    made = [to_record(case) for case in generate(n, seed)]
    return [shifted(record) for record in made]


def shifted(record: PatientRecord) -> PatientRecord:
    """The same record with its cutoff, and all else, moved to the present."""
    gap = datetime.now(UTC) - record.cutoff
    return replace(
        record,
        cutoff=record.cutoff + gap,
        images=tuple(
            replace(i, acquired_at=i.acquired_at + gap if i.acquired_at else None)
            for i in record.images
        ),
        notes=tuple(
            replace(n, written_at=n.written_at + gap if n.written_at else None)
            for n in record.notes
        ),
        values=tuple(
            replace(v, measured_at=v.measured_at + gap) for v in record.values
        ),
        history=tuple(
            replace(v, measured_at=v.measured_at + gap) for v in record.history
        ),
    )


def calibration(
    *, map_floor: float = 0.0, references: dict[str, FeatureReference] | None = None
) -> Calibration:
    """A different calibration for each presence pattern, so that mixing them shows."""
    plain = Calibration.identity([label.label for label in LABELS])
    platt = {
        pattern: {
            label.label: Platt(1.0 + 0.1 * number, 0.05 * number - 0.1)
            for label in LABELS
        }
        for number, pattern in enumerate(plain.platt)
    }
    floors = {label.label: map_floor for label in LABELS}
    return Calibration("test-1", platt, references or {}, floors)


def write_checkpoint(
    folder: Path,
    records: Sequence[PatientRecord],
    *,
    calibrated: Calibration | None = None,
    seed: int = 3,
) -> Path:
    """An untrained tiny network with a fitted vocabulary; returns the folder."""
    torch.manual_seed(seed)
    vocabulary = InputVocabulary.fit(records, image_size=64, max_tokens=128, pieces=400)
    config = preset(
        "tiny",
        vocabulary=len(vocabulary.pieces),
        codes=len(vocabulary.codes),
        labels=tuple(label.label for label in LABELS),
    )
    save_checkpoint(
        folder,
        TriModalModel(config),
        vocabulary,
        calibrated or calibration(),
        Description(
            name="untrained",
            version="0",
            preset="tiny",
            trained_on="nothing at all",
            labels=LABELS,
        ),
    )
    return folder
