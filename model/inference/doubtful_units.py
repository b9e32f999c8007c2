"""Numbers that look like another unit's: left out, and the record says why.

A value may be possible and still be wrong by the factor between two units in use
(C-reactive protein in mg/dL under the label mg/L). Nothing in the number alone need
show it, so four questions are asked, each against what the training records taught of
this code. A value is doubted only where the stated unit fails a question that one of
the other units in use (``fhir_adapters/loinc_ucum.csv``) passes:

``range``
    outside of all training values as stated, among them in the other unit;
``fineness``
    more decimals than any training value, none too many in the other unit. Asked only
    of numbers that arrived in the stated unit: a rightly converted one is fine;
``flag``
    the laboratory's own flag contradicts its own range, but not in the other unit;
``company``
    never seen beside related values of the record, but seen so in the other unit.

What no question can tell: a number that is usual in both units, rounded, unflagged or
flagged alike, of a code that goes with no other. The evaluation counts these.

A checkpoint without the statistics (``CodeStatistic.decimals`` is None) doubts nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from math import isclose

from fhir_adapters.code_systems import MEASUREMENTS
from fhir_adapters.patient_record import (
    CodedValue,
    Modality,
    ModalityState,
    ModalityStatus,
    PatientRecord,
    Skip,
)
from model.inference.code_statistics import CodeStatistic, other_factors
from model.inference.possible_values import is_possible
from model.inference.vocabulary import InputVocabulary

REASON = "doubtful_unit"
_SAME = 1e-6  # relative: a quotient of decimals times its divisor


def without_doubtful_units(
    record: PatientRecord, vocabulary: InputVocabulary
) -> PatientRecord:
    """The record without values that look like another unit's.

    Args:
        record: As received.
        vocabulary: Of the checkpoint, with or without statistics of units.

    Returns:
        The record itself where nothing is doubted; else without these values, each
        listed in ``skipped`` with its code and the question that it failed.
    """
    doubts = {
        id(value): why
        for value in record.values
        if (why := doubt(value, record.values, vocabulary))
    }
    if not doubts:
        return record
    kept = tuple(value for value in record.values if id(value) not in doubts)
    skips = tuple(
        Skip(value.provenance.reference, REASON, f"{value.loinc} {doubts[id(value)]}")
        for value in record.values
        if id(value) in doubts
    )
    states = dict(record.states)
    if not kept:
        states[Modality.VALUES] = ModalityState(ModalityStatus.UNREADABLE, REASON)
    return replace(
        record, values=kept, states=states, skipped=(*record.skipped, *skips)
    )


def doubt(
    value: CodedValue, beside: Sequence[CodedValue], vocabulary: InputVocabulary
) -> str:
    """The question that the stated unit fails and another passes, "" for none.

    Args:
        value: In its canonical unit, as the record states it.
        beside: All values of the record.
        vocabulary: Of the checkpoint.
    """
    row = vocabulary.code_rows.get(value.loinc)
    known = MEASUREMENTS.get(value.loinc)
    if row is None or known is None or not is_possible(value):
        return ""
    statistic = vocabulary.codes[row]
    # a factor belongs to the canonical unit; a record in another is judged elsewhere
    if statistic.decimals is None or value.unit != known.unit:
        return ""
    numbers = {v.loinc: float(v.value) for v in beside}
    for factor in other_factors(value.loinc):
        if not statistic.usual(float(value.value) * factor):
            continue
        for name, fails in (
            ("range", not statistic.usual(float(value.value))),
            ("fineness", _too_fine(value, statistic, factor)),
            ("flag", _contradicted(value, factor)),
            ("company", _in_strange_company(value, factor, numbers, vocabulary)),
        ):
            if fails:
                return name
    return ""


def _too_fine(value: CodedValue, statistic: CodeStatistic, factor: float) -> bool:
    """More decimals than usual, and usual ones once read in the other unit."""
    if value.source_unit not in ("", value.unit) or statistic.decimals is None:
        return False
    if decimals(value.value) <= statistic.decimals:
        return False
    other = float(value.value) * factor
    return isclose(round(other, statistic.decimals), other, rel_tol=_SAME)


def decimals(number: Decimal) -> int:
    """Digits behind the point, trailing zeros not counted."""
    exponent = number.normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def _contradicted(value: CodedValue, factor: float) -> bool:
    """Flag and range disagree as stated, and agree in the other unit."""
    number = float(value.value)
    return not _agrees(value, number) and _agrees(value, number * factor)


def _agrees(value: CodedValue, number: float) -> bool:
    """Whether a number lies where its flag says; True where nothing says anything."""
    low = value.reference_low is not None and number < float(value.reference_low)
    high = value.reference_high is not None and number > float(value.reference_high)
    flag = (value.interpretation or "")[:1]
    if flag == "H":
        return high or value.reference_high is None
    if flag == "L":
        return low or value.reference_low is None
    return flag != "N" or not (low or high)


def _in_strange_company(
    value: CodedValue,
    factor: float,
    numbers: Mapping[str, float],
    vocabulary: InputVocabulary,
) -> bool:
    """Never seen beside a related value of the record, but seen so in the other unit.

    A related value that speaks the other way round settles it for the stated unit.
    """
    number, strange = float(value.value), False
    for pair in vocabulary.company:
        if pair.loinc != value.loinc or pair.other not in numbers:
            continue
        theirs = vocabulary.codes[vocabulary.code_rows[pair.other]]
        beside = theirs.bin(numbers[pair.other])
        here, there = (pair.usual(x, beside) for x in (number, number * factor))
        if here and not there:
            return False
        strange = strange or (here is False and there is True)
    return strange
