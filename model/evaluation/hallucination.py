"""Findings where there is none: normal cases, films of nothing, other body parts.

The measure is the false-positive rate that the decision threshold has on negatives of
the same draw: nothing empty may be called ill more often than that, plus .01. Empty
films are shown alone, where only they can speak, and beside the note and the values of
a normal case.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fhir_adapters.patient_record import Modality, PatientRecord
from model.evaluation import film_shifts
from model.evaluation.bench import Bench, called, refused
from model.evaluation.rows import Row, at_most, judged, reported
from model.evaluation.scores import share, specificity
from model.evaluation.value_shifts import only
from model.inference.photometry import BODY_PART_FLAG
from model.synthetic.latents import Severity

MARGIN = 0.01
EMPTY: tuple[tuple[str, film_shifts.FilmShift], ...] = (
    ("blank film", film_shifts.blank),
    ("film of noise", film_shifts.white_noise),
    ("film of a hand", film_shifts.hand),
    ("film of a limb", film_shifts.limb),
)


def normal(bench: Bench) -> NDArray[np.int64]:
    """Rows of cases that are truly without the finding, in truth and label."""
    return np.array(
        [
            row
            for row, case in enumerate(bench.cases)
            if case.label == 0 and case.latents.severity is Severity.LOW
        ],
        dtype=np.int64,
    )


def hallucination_rows(bench: Bench) -> list[Row]:
    """Findings on normals, then on films of nothing."""
    rate = 1 - specificity(bench.chance, bench.truth, bench.threshold)
    negatives = int((bench.truth == 0).sum())
    limit = round(rate + MARGIN, 4)
    usual = normal(bench)
    found = float((bench.chance[usual] >= bench.threshold).mean())
    rows = [
        reported(
            "false-positive rate at the decision threshold, all negatives",
            rate,
            n=negatives,
            note=f"threshold {bench.threshold:.4f}",
        ),
        at_most("findings on normal cases", found, limit, n=len(usual)),
    ]
    some = [bench.records[row] for row in usual[: bench.served_cases]]
    for number, (name, shift) in enumerate(EMPTY):
        rows += _empty_rows(bench, number, name, shift, some, limit)
    return [*rows, _named_row(bench, some)]


def _empty_rows(
    bench: Bench,
    number: int,
    name: str,
    shift: film_shifts.FilmShift,
    records: list[PatientRecord],
    limit: float,
) -> list[Row]:
    """One kind of empty film alone, and beside a normal note and normal values."""
    changed = [
        film_shifts.with_film(record, shift, bench.random(800 + number, row))
        for row, record in enumerate(records)
    ]
    rows = []
    for where, shown in (
        ("alone", [only(record, Modality.IMAGE) for record in changed]),
        ("in a normal case", changed),
    ):
        answers = bench.serve(shown, f"{name}, {where}")
        found = float(called(answers).mean())
        gone = float(refused(answers).mean())
        rows.append(
            at_most(
                f"findings on a {name}, {where}",
                found,
                limit,
                n=len(answers),
                note=f"{gone:.0%} refused",
            )
        )
    return rows


def _named_row(bench: Bench, records: list[PatientRecord]) -> Row:
    """A film whose own header names another body part must not be read."""
    shown = []
    for record in records:
        images = tuple(
            replace(image, flags=(*image.flags, f"{BODY_PART_FLAG}HAND"))
            for image in record.images
        )
        shown.append(only(replace(record, images=images), Modality.IMAGE))
    answers = bench.serve(shown, "another body part by its header")
    found = share(int(refused(answers).sum()), len(answers))
    return judged(
        "caught: another body part by its DICOM header",
        found.value,
        "= 1",
        found.value == 1.0,
        n=found.n,
    )
