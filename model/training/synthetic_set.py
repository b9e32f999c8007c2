"""Synthetic cases as a training set: the label, and what each modality shows of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from model.network.inputs import MODALITIES
from model.synthetic.case import Carries, SpanKind, SynthCase
from model.synthetic.emit import to_record
from model.synthetic.generate import generate
from model.synthetic.latents import Split
from model.training.training_set import Evidence, Finding, TrainingSet

LABEL = "pneumonia"
DISPLAY = "Pneumonia"


def synthetic_cases(
    n: int, seed: int, *, split: Split, parameters: str = "P0", image_size: int = 64
) -> list[SynthCase]:
    """Draw ``n`` cases of one seed namespace; see ``model.synthetic.generate``."""
    return list(generate(n, seed, parameters, image_size, split))


def synthetic_set(cases: Sequence[SynthCase]) -> TrainingSet:
    """Records, label, findings as *shown* by each modality, and lesion masks.

    Each encoder learns severity and pattern as its own modality shows them, errors of
    observation included: nobody could read the hidden truth off one film.
    """
    severity = np.array([c.latents.seen_severity for c in cases], dtype=np.int64)
    pattern = np.array([c.latents.seen_pattern for c in cases], dtype=np.int64)
    findings = {
        name: (
            Finding("severity", 3, severity[:, m]),
            Finding("pattern", 3, pattern[:, m]),
        )
        for m, name in enumerate(MODALITIES)
    }
    targets = np.array([[c.label] for c in cases], dtype=np.float32)
    return TrainingSet(
        records=[to_record(case) for case in cases],
        labels=(LABEL,),
        targets=targets,
        known=np.ones_like(targets, dtype=np.bool_),
        findings=findings,
        lesion_masks=np.stack([case.mask for case in cases]),
        evidence=tuple(planted(case) for case in cases),
    )


def planted(case: SynthCase) -> Evidence:
    """The passages and the values that were planted to carry the label."""
    told = (SpanKind.SEVERITY, SpanKind.SYNDROME)
    return Evidence(
        tuple((s.start, s.end) for s in case.note.spans if s.kind in told),
        frozenset(v.loinc for v in case.values if v.carries is not Carries.NOTHING),
    )
