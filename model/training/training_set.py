"""What a training run learns from, whatever its source.

Records with one row of targets each, and optionally what single modalities show
(*findings*), because the concordance of three modalities is not learnt end to end:
every encoder is first taught what its own modality can tell. Without findings the
encoders are taught the labels themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from fhir_adapters.patient_record import PatientRecord
from model.errors import ConfigurationError
from model.network.inputs import MODALITIES
from model.network.losses import UNKNOWN_CLASS


@dataclass(frozen=True, slots=True)
class Finding:
    """A question that one modality can answer: ``target`` (n,) in 0..classes-1.

    -1 marks a record for which the answer is not known.
    """

    name: str
    classes: int
    target: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What carries the label in note and values, where the source says so.

    Never trained on: it judges whether explanations got better. ``spans`` are
    characters of the first note, ``codes`` LOINC codes.
    """

    spans: tuple[tuple[int, int], ...] = ()
    codes: frozenset[str] = frozenset()


@dataclass(frozen=True)
class TrainingSet:
    """n records with targets.

    ``targets`` (n, C) in {0, 1} and ``known`` (n, C); ``findings`` by modality name;
    ``lesion_masks`` (n, H, W) bool or None, where the image's evidence lies, for
    square images of the size that the network reads; ``evidence`` of each record, or
    None.
    """

    records: Sequence[PatientRecord]
    labels: tuple[str, ...]
    targets: NDArray[np.float32]
    known: NDArray[np.bool_]
    findings: Mapping[str, tuple[Finding, ...]] = field(default_factory=dict)
    lesion_masks: NDArray[np.bool_] | None = None
    evidence: tuple[Evidence, ...] | None = None

    def __post_init__(self) -> None:
        """Refuse sets whose parts have different lengths.

        Raises:
            ConfigurationError: shapes differ, or there is no record.
        """
        shape = (len(self.records), len(self.labels))
        if not shape[0] or self.targets.shape != shape or self.known.shape != shape:
            raise ConfigurationError("records, targets and labels do not match")

    def __len__(self) -> int:
        """Number of records."""
        return len(self.records)

    @classmethod
    def of_labels(
        cls,
        records: Sequence[PatientRecord],
        labels: tuple[str, ...],
        targets: NDArray[np.float32],
    ) -> TrainingSet:
        """A set without findings; NaN targets are unknown.

        Args:
            records: n records.
            labels: C label codes.
            targets: (n, C) in {0, 1} or NaN.
        """
        known = ~np.isnan(targets)
        clean = np.where(known, targets, 0.0).astype(np.float32)
        return cls(records, labels, clean, known)

    def subset(self, rows: Sequence[int] | NDArray[np.int64]) -> TrainingSet:
        """The given rows, in that order: a fold, a split."""
        index = np.asarray(rows, dtype=np.int64)
        return TrainingSet(
            records=[self.records[row] for row in index.tolist()],
            labels=self.labels,
            targets=self.targets[index],
            known=self.known[index],
            findings={
                name: tuple(Finding(f.name, f.classes, f.target[index]) for f in items)
                for name, items in self.findings.items()
            },
            lesion_masks=(
                None if self.lesion_masks is None else self.lesion_masks[index]
            ),
            evidence=(
                None
                if self.evidence is None
                else tuple(self.evidence[row] for row in index.tolist())
            ),
        )

    def questions(self, modality: str) -> tuple[Finding, ...]:
        """What the encoder of ``modality`` is taught: findings, else the labels."""
        if modality not in MODALITIES:
            raise ConfigurationError("no such modality")
        return self.findings.get(modality) or tuple(
            Finding(
                label,
                2,
                np.where(self.known[:, c], self.targets[:, c], UNKNOWN_CLASS).astype(
                    np.int64
                ),
            )
            for c, label in enumerate(self.labels)
        )

    def target_tensors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Targets (n, C) float and known (n, C) bool."""
        return torch.from_numpy(self.targets), torch.from_numpy(self.known)
