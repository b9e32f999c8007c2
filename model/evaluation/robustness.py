"""What a shift costs: AUROC before and after on the same cases, and what is caught.

A mild shift must cost at most .03 AUROC; a gross one must never reach an estimate. A
film counts as caught when the estimate is refused or rests on the rest without it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from fhir_adapters.patient_record import Modality, PatientRecord
from model.evaluation import film_shifts, note_shifts, value_shifts
from model.evaluation.bench import Bench, probability, refused
from model.evaluation.resampling import Difference, paired_bootstrap
from model.evaluation.rows import Row, at_most, judged, reported
from model.evaluation.scores import Floats, all_scores, auroc, share
from model.evaluation.unit_errors import unit_rows
from model.jobs.prediction import Prediction

MILD_DROP = 0.03

RecordShift = Callable[[PatientRecord, np.random.Generator], PatientRecord]


@dataclass(frozen=True, slots=True)
class Shift:
    """A change of a record; ``mild`` ones have a target."""

    name: str
    change: RecordShift
    mild: bool = True


def film(shift: film_shifts.FilmShift) -> RecordShift:
    """A change of the film as one of the record."""
    return lambda record, random: film_shifts.with_film(record, shift, random)


def text(shift: note_shifts.TextShift) -> RecordShift:
    """A change of the note as one of the record."""
    return lambda record, random: note_shifts.with_text(record, shift, random)


def other_site(record: PatientRecord, random: np.random.Generator) -> PatientRecord:
    """Film, note and values in the style of another site."""
    record = film_shifts.with_film(record, film_shifts.other_scanner, random)
    record = note_shifts.with_text(record, note_shifts.other_site, random)
    return value_shifts.other_laboratory(record, random)


SHIFTS: tuple[Shift, ...] = (
    Shift("Gaussian noise, 3 % of the grey scale", film(film_shifts.gaussian_noise)),
    Shift("JPEG, quality 60", film(film_shifts.jpeg)),
    Shift("rotation by 10 degrees", film(film_shifts.rotation)),
    Shift("contrast at 70 %", film(film_shifts.contrast)),
    Shift("typing errors in 5 % of the longer words", text(note_shifts.typos)),
    Shift("abbreviations", text(note_shifts.abbreviated)),
    Shift("20 % of the values missing", value_shifts.dropout),
    Shift("another site's style", other_site),
    Shift("Gaussian noise, 10 %", film(film_shifts.strong_noise), mild=False),
    Shift("most words garbled", text(note_shifts.garbled), mild=False),
    Shift("film inverted", film(film_shifts.inversion), mild=False),
    Shift("film blank", film(film_shifts.blank), mild=False),
)
#: Shifts whose film must never be read.
CAUGHT = (
    Shift("film inverted", film(film_shifts.inversion), mild=False),
    Shift("film blank", film(film_shifts.blank), mild=False),
)


def robustness_rows(bench: Bench) -> list[Row]:
    """All shifts: cost, share refused, and what is caught."""
    rows = [_cost_row(bench, number, shift) for number, shift in enumerate(SHIFTS)]
    rows += [_caught_row(bench, number, shift) for number, shift in enumerate(CAUGHT)]
    return rows + unit_rows(bench)


def drop(bench: Bench, shift: Shift, number: int) -> Difference:
    """AUROC before minus after the shift, both forced, on the same cases."""
    return _lost(bench, after(bench, shift, number))


def after(bench: Bench, shift: Shift, number: int) -> Floats:
    """Forced probabilities after the shift: (n,)."""
    records = changed(bench, shift.change, number, bench.records[bench.shifted])
    return probability(bench.logits(records, shift.name))


def _lost(bench: Bench, chance: Floats) -> Difference:
    return paired_bootstrap(
        auroc,
        bench.chance[bench.shifted],
        chance,
        bench.truth[bench.shifted],
        draws=bench.draws,
        seed=bench.seed,
    )


def decided(chance: Floats, truth: Floats) -> str:
    """AUROC and, at one half, accuracy, precision, recall and F1 in words."""
    found = all_scores(chance, truth)
    names = ("auroc", "accuracy", "precision", "recall", "f1")
    words = ("AUROC", "accuracy", "precision", "recall", "F1")
    return ", ".join(f"{word} {found[name]:.3f}" for word, name in zip(words, names))


def changed(
    bench: Bench,
    change: RecordShift,
    number: int,
    records: Sequence[PatientRecord],
) -> list[PatientRecord]:
    """Records after a change, each with a random stream of its own."""
    return [
        change(record, bench.random(number, row)) for row, record in enumerate(records)
    ]


def _cost_row(bench: Bench, number: int, shift: Shift) -> Row:
    chance = after(bench, shift, number)
    found = _lost(bench, chance)
    some = changed(bench, shift.change, number, bench.records[: bench.served_cases])
    answers = bench.serve(some, f"{shift.name}: served")
    gone = share(int(refused(answers).sum()), len(answers))
    note = (
        f"after: {decided(chance, bench.truth[bench.shifted])}; the predictor refuses "
        f"{gone.value:.1%} of {gone.n}"
    )
    name = f"AUROC lost: {shift.name}"
    if not shift.mild:
        return reported(name, found, note=f"not mild; {note}")
    return at_most(name, found, MILD_DROP, note=note)


def _caught_row(bench: Bench, number: int, shift: Shift) -> Row:
    some = changed(bench, shift.change, number, bench.records[: bench.served_cases])
    answers = bench.serve(some, f"{shift.name}: caught")
    stopped = [not_read(answer) for answer in answers]
    found = share(sum(stopped), len(stopped))
    return judged(
        f"caught: {shift.name}",
        found.value,
        "= 1",
        found.value == 1.0,
        n=found.n,
        note="refused, or estimated without the film",
    )


def not_read(answer: Prediction) -> bool:
    """True where no estimate rests on the film."""
    return not answer.estimates or not answer.presence[Modality.IMAGE.value]
