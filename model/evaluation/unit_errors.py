"""Values in a wrong unit, through the door by which a hospital sends them.

The case is written as FHIR Observations, one unit is damaged, and the adapters read it
back: a value is *caught* when it is not used afterwards, or when the predictor refuses.

Four kinds: a unit that nobody knows, no unit at all, and the number of another unit in
use for that quantity under the label of the canonical one (leukocytes 14,000 instead
of 14), as software converts it, with all its digits, and rounded to three figures, as a
laboratory prints it. The last cannot always be told from a true value: a rounded number
that is usual in both units, of a code that goes with no other, shows nothing. A zero is
the same in every unit and is not damaged.

Three controls: a right number under its right, other unit must change nothing, plain
values must not be doubted, and what slips through must not sway the estimate.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import numpy as np

from fhir_adapters.assemble import Received, assemble
from fhir_adapters.code_systems import MEASUREMENTS, Conversion
from fhir_adapters.patient_record import PatientRecord
from model.evaluation.bench import Bench
from model.evaluation.rows import Row, at_most, judged, not_measured, reported
from model.evaluation.scores import share
from model.inference.doubtful_units import without_doubtful_units
from model.inference.possible_values import is_possible
from model.synthetic.case import SynthCase
from model.synthetic.emit import to_fhir

Quantity = dict[str, Any]
Damage = Callable[[str, Quantity, np.random.Generator], bool]

SAME_LOGIT = 1e-3
FALSE_ALARMS = 0.002
_UNKNOWN = "arb.units"
_DOUBTS = frozenset({"impossible_value", "doubtful_unit"})


@dataclass(frozen=True, slots=True)
class Damaged:
    """A record after one of its units was damaged, and the code of that value."""

    record: PatientRecord
    loinc: str


def unit_rows(bench: Bench) -> list[Row]:
    """Four kinds of damage, and the controls."""
    kinds: tuple[tuple[str, Damage], ...] = (
        ("a unit that nobody knows", unknown_unit),
        ("no unit", missing_unit),
        ("the number of another unit", other_number),
        ("the number of another unit, rounded", rounded_number),
    )
    rows = []
    for number, kind in enumerate(kinds):
        rows += _caught(bench, number, *kind)
    return [*rows, _control(bench), _alarms(bench)]


def unknown_unit(loinc: str, quantity: Quantity, random: np.random.Generator) -> bool:
    """A unit that is in no table."""
    quantity["unit"] = quantity["code"] = _UNKNOWN
    return True


def missing_unit(loinc: str, quantity: Quantity, random: np.random.Generator) -> bool:
    """The number alone."""
    for key in ("unit", "code", "system"):
        quantity.pop(key)
    return True


def other_number(loinc: str, quantity: Quantity, random: np.random.Generator) -> bool:
    """The number as another unit in use would have it, under the old label."""
    chosen = _other_unit(loinc, random)
    if chosen is None or not quantity["value"]:
        return False
    quantity["value"] = _in_other_unit(quantity["value"], chosen[1])
    return True


def rounded_number(loinc: str, quantity: Quantity, random: np.random.Generator) -> bool:
    """The same, with three figures."""
    if not other_number(loinc, quantity, random):
        return False
    quantity["value"] = Decimal(f"{float(quantity['value']):.3g}")
    return True


def right_other_unit(
    loinc: str, quantity: Quantity, random: np.random.Generator
) -> bool:
    """The same amount, rightly labelled, in another unit in use."""
    if other_number(loinc, quantity, random):
        chosen = _other_unit(loinc, random)
        assert chosen is not None  # there is one, and it is the only choice
        quantity["unit"] = quantity["code"] = chosen[0]
        return True
    return False


def _other_unit(
    loinc: str, random: np.random.Generator
) -> tuple[str, Conversion] | None:
    """The first other unit of this quantity that is a multiple of the canonical one."""
    for unit, conversion in MEASUREMENTS[loinc].alternatives.items():
        if not conversion.formula and conversion.factor != 1:
            return unit, conversion
    return None


def _in_other_unit(value: Decimal | float, conversion: Conversion) -> Decimal:
    return Decimal(str(value)) / conversion.factor


def damaged(
    case: SynthCase, record: PatientRecord, damage: Damage, random: np.random.Generator
) -> Damaged | None:
    """The record of a case, read from FHIR after one value's unit was damaged.

    None where no value of the case can be damaged in this way.
    """
    resources = deepcopy(to_fhir(case).resources)
    observations = [r for r in resources if r["resourceType"] == "Observation"]
    for row in random.permutation(len(observations)):
        observation = observations[row]
        loinc = observation["code"]["coding"][0]["code"]
        quantity = observation["valueQuantity"]
        quantity["value"] = Decimal(str(quantity["value"]))
        if damage(loinc, quantity, random):
            return Damaged(_read(resources, record), loinc)
    return None


def _read(resources: list[dict[str, Any]], record: PatientRecord) -> PatientRecord:
    """Values by way of the adapters; film and note as they were."""
    patient = next(r for r in resources if r["resourceType"] == "Patient")
    observed = [
        Received(_decimals(r), "fhir")
        for r in resources
        if r["resourceType"] == "Observation"
    ]
    read = assemble(patient, observed, (), cutoff=record.cutoff)
    return replace(
        record,
        patient=read.patient,
        values=read.values,
        history=read.history,
        skipped=read.skipped,
    )


def _decimals(value: Any) -> Any:
    """Numbers as the adapters get them from JSON."""
    if isinstance(value, dict):
        return {key: _decimals(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_decimals(item) for item in value]
    return Decimal(str(value)) if isinstance(value, float) else value


def _caught(bench: Bench, number: int, name: str, damage: Damage) -> list[Row]:
    """Share of damaged values that no estimate rests on, and what the others do."""
    title = f"caught: {name}"
    through: list[tuple[int, Damaged]] = []
    some = zip(bench.cases[: bench.served_cases], bench.records)
    found = [
        (row, one)
        for row, (case, record) in enumerate(some)
        if (one := damaged(case, record, damage, bench.random(900 + number, row)))
    ]
    if not found:
        return [not_measured(title, "= 1", "no value could be damaged")]
    answers = bench.serve([one.record for _, one in found], title)
    for (row, one), answer in zip(found, answers):
        used = any(value.loinc == one.loinc for value in one.record.values)
        doubted = any(w.code in _DOUBTS for w in answer.warnings)
        if used and answer.estimates and not doubted:
            through.append((row, one))
    counted = Counter(MEASUREMENTS[one.loinc].name for _, one in through)
    missed = ", ".join(f"{what} {count}" for what, count in counted.most_common(6))
    result = share(len(found) - len(through), len(found))
    note = f"passed as plausible: {missed}" if missed else "none reached an estimate"
    caught = judged(
        title, result.value, "= 1", result.value == 1.0, n=result.n, note=note
    )
    return [caught, *_swayed(bench, name, through)]


def _swayed(bench: Bench, name: str, through: list[tuple[int, Damaged]]) -> list[Row]:
    """How far the estimate moves where a wrong value slipped through."""
    if not through:
        return []
    title = f"logit change, largest, of those that passed: {name}"
    before = bench.logits([bench.records[row] for row, _ in through], title)
    moved = np.abs(bench.logits([one.record for _, one in through], title) - before)
    return [reported(title, float(moved.max()), n=len(moved),
                     note=f"mean {moved.mean():.3f}")]  # fmt: skip


def _control(bench: Bench) -> Row:
    """A right number in its right, other unit: the estimate must stay."""
    title = "logit change: the right number in another unit"
    kept, rows = [], []
    for row, case in enumerate(bench.cases[: bench.served_cases]):
        one = damaged(
            case, bench.records[row], right_other_unit, bench.random(950, row)
        )
        if one is not None:
            kept.append(one.record)
            rows.append(row)
    if not kept:
        return not_measured(title, f"\u2264 {SAME_LOGIT:g}", "no such value")
    before = bench.logits([bench.records[row] for row in rows], title)
    after = bench.logits(kept, title)
    worst = float(np.abs(after - before).max())
    return at_most(title, worst, SAME_LOGIT, n=len(kept), note="largest of all")


def _alarms(bench: Bench) -> Row:
    """Share of plain values that are doubted or called impossible."""
    doubted = total = 0
    for record in bench.records[bench.shifted]:
        total += len(record.values)
        kept = without_doubtful_units(record, bench.checkpoint.vocabulary)
        doubted += len(record.values) - sum(map(is_possible, kept.values))
    return at_most(
        "plain values that are doubted", doubted / max(total, 1), FALSE_ALARMS, n=total
    )
