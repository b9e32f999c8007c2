"""Values in a wrong unit, through the door by which a hospital sends them.

The case is written as FHIR Observations, one unit is damaged, and the adapters read it
back: a value is *caught* when it is not used afterwards, or when the predictor refuses.

Three kinds: a unit that nobody knows, no unit at all, and the number of another unit in
use for that quantity under the label of the canonical one (leukocytes 14,000 instead
of 14). The last cannot always be told from a true value: mg/dL for mg/L of C-reactive
protein is a tenth, and a tenth is a healthy patient's. A fourth row is the control: a
right number under its right, other unit must change nothing.
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
from model.evaluation.rows import Row, at_most, judged, not_measured
from model.evaluation.scores import share
from model.synthetic.case import SynthCase
from model.synthetic.emit import to_fhir

Quantity = dict[str, Any]
Damage = Callable[[str, Quantity, np.random.Generator], bool]

SAME_LOGIT = 1e-3
_UNKNOWN = "arb.units"


@dataclass(frozen=True, slots=True)
class Damaged:
    """A record after one of its units was damaged, and the code of that value."""

    record: PatientRecord
    loinc: str


def unit_rows(bench: Bench) -> list[Row]:
    """Three kinds of damage, and the control."""
    kinds: tuple[tuple[str, Damage], ...] = (
        ("a unit that nobody knows", unknown_unit),
        ("no unit", missing_unit),
        ("the number of another unit", other_number),
    )
    rows = [_caught(bench, number, *kind) for number, kind in enumerate(kinds)]
    return [*rows, _control(bench)]


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
    if chosen is None:
        return False
    quantity["value"] = _in_other_unit(quantity["value"], chosen[1])
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


def _caught(bench: Bench, number: int, name: str, damage: Damage) -> Row:
    """Share of damaged values that no estimate rests on."""
    title = f"caught: {name}"
    stopped, through = 0, Counter[str]()
    some = zip(bench.cases[: bench.served_cases], bench.records)
    found = [
        damaged(case, record, damage, bench.random(900 + number, row))
        for row, (case, record) in enumerate(some)
    ]
    made = [one for one in found if one is not None]
    if not made:
        return not_measured(title, "= 1", "no value could be damaged")
    answers = bench.serve([one.record for one in made], title)
    for one, answer in zip(made, answers):
        used = any(value.loinc == one.loinc for value in one.record.values)
        doubted = any(w.code == "impossible_value" for w in answer.warnings)
        if used and answer.estimates and not doubted:
            through[MEASUREMENTS[one.loinc].name] += 1
        else:
            stopped += 1
    missed = ", ".join(f"{what} {count}" for what, count in through.most_common(6))
    result = share(stopped, len(made))
    note = f"passed as plausible: {missed}" if missed else "refused by the adapters"
    return judged(
        title, result.value, "= 1", result.value == 1.0, n=result.n, note=note
    )


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
