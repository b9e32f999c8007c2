"""Measurements of a record to one row each: values, sensor windows, what is missing.

Nothing is imputed. A measurement whose code the vocabulary does not know gets no token
(a measured value without a statistic has no meaning to the model); age and sex are
tokens only beside at least one measured value, so that a record without measurements
is not a record with "values". Where the vocabulary says so, a code with many values
before the cutoff gets a window token too, and an expected code without a value a token
that says just that; the latter carries no reference, because no resource stands for it,
and therefore comes last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fhir_adapters.patient_record import CodedValue, PatientRecord
from model.inference.vocabulary import AGE, SEX, SEX_NUMBERS, InputVocabulary
from model.network.inputs import ABSENT, FLAGS, KINDS

_WINDOW_BOUND = 5.0  # interquartile ranges; extremes stay apart but bounded
_SECONDS_AN_HOUR = 3600.0


@dataclass(slots=True)
class ValuesRow:
    """Measurements of one record, one list per tensor.

    ``ids`` is shorter than the others by the expected items that were not measured.
    """

    code: list[int] = field(default_factory=list)
    value: list[NDArray[np.float32]] = field(default_factory=list)
    hours: list[float] = field(default_factory=list)
    flag: list[int] = field(default_factory=list)
    kind: list[int] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)


def values_row(record: PatientRecord, vocabulary: InputVocabulary) -> ValuesRow:
    """Measured values, sensor windows, age and sex, then what was expected."""
    row = ValuesRow()
    known = [v for v in record.values if v.loinc in vocabulary.code_rows]
    if not known:
        return row
    room = vocabulary.max_values - 2  # age and sex keep their places
    for item in known[:room]:
        _add(row, vocabulary, item.loinc, float(item.value), _age(record, item))
        row.flag[-1] = FLAGS.index(interpretation(item))
        row.ids.append(item.provenance.reference)
    if vocabulary.sensor_hours:
        _add_windows(row, record, vocabulary, room)
    _add_demographics(row, record, vocabulary)
    measured = {item.loinc for item in record.values}
    for loinc in vocabulary.expected:
        if loinc not in measured and len(row.code) < vocabulary.max_values:
            _add(row, vocabulary, loinc, None, 0.0)
            row.flag[-1] = ABSENT
    return row


def interpretation(item: CodedValue) -> str:
    """LL, L, N, H or HH as sent, else by the sent range; empty when neither is known.

    Deriving it keeps one meaning for both kinds of source: a laboratory that sends the
    range only and one that sends the flag only.
    """
    if item.interpretation in FLAGS:
        return item.interpretation or ""
    if item.reference_low is not None and item.value < item.reference_low:
        return "L"
    if item.reference_high is not None and item.value > item.reference_high:
        return "H"
    known = item.reference_low is not None or item.reference_high is not None
    return "N" if known else ""


def _age(record: PatientRecord, item: CodedValue) -> float:
    """Hours between the measurement and the cutoff."""
    return (record.cutoff - item.measured_at).total_seconds() / _SECONDS_AN_HOUR


def _add_demographics(
    row: ValuesRow, record: PatientRecord, vocabulary: InputVocabulary
) -> None:
    """Age and sex where the record states them; the reference is the patient's."""
    reference = f"Patient/{record.patient.patient_id}"
    years = record.patient.age_years(record.cutoff)
    sex = SEX_NUMBERS.get(record.patient.sex or "")
    for loinc, value in ((AGE, years), (SEX, sex)):
        if value is not None:
            _add(row, vocabulary, loinc, value, 0.0)
            row.ids.append(reference)


def _add_windows(
    row: ValuesRow, record: PatientRecord, vocabulary: InputVocabulary, room: int
) -> None:
    """One token per code with enough values inside the window before the cutoff."""
    by_code: dict[str, list[CodedValue]] = {}
    for item in record.history:
        if item.loinc in vocabulary.code_rows:
            if 0 <= _age(record, item) <= vocabulary.sensor_hours:
                by_code.setdefault(item.loinc, []).append(item)
    for loinc in sorted(by_code):
        items = by_code[loinc]
        if len(items) < vocabulary.sensor_count or len(row.code) >= room:
            continue
        ages = [_age(record, item) for item in items]
        values = [float(item.value) for item in items]
        _add(row, vocabulary, loinc, float(np.mean(values)), min(ages))
        statistic = vocabulary.codes[vocabulary.code_rows[loinc]]
        z = (np.asarray(values) - statistic.median) / statistic.iqr
        row.value[-1][vocabulary.bins :] = sensor_window(ages, z)
        row.kind[-1] = KINDS.index("sensor")
        newest = items[int(np.argmin(ages))]
        row.ids.append(newest.provenance.reference)


def sensor_window(ages: Sequence[float], z: NDArray[np.float64]) -> NDArray[np.float32]:
    """Slope, minimum and maximum of a series in robust z.

    Args:
        ages: Hours before the cutoff.
        z: The values in interquartile ranges around the median.

    Returns:
        (3,): change over the whole window by least squares, minimum, maximum; each cut
        at five interquartile ranges. A series of one moment has slope 0.
    """
    hours = -np.asarray(ages, dtype=np.float64)
    centred = hours - hours.mean()
    spread = float((centred**2).sum())
    slope = float((centred * z).sum()) / spread if spread > 0 else 0.0
    change = slope * float(hours.max() - hours.min())
    found = np.array([change, z.min(), z.max()], dtype=np.float32)
    bounded: NDArray[np.float32] = np.clip(found, -_WINDOW_BOUND, _WINDOW_BOUND)
    return bounded


def _add(
    row: ValuesRow,
    vocabulary: InputVocabulary,
    loinc: str,
    value: float | None,
    hours: float,
) -> None:
    """Append one token without flag and reference; ``None`` has no value."""
    number = vocabulary.code_rows[loinc]
    statistic = vocabulary.codes[number]
    numbers = np.zeros(vocabulary.columns, dtype=np.float32)
    if value is not None:
        numbers[: vocabulary.bins] = statistic.encode(value)
    row.code.append(number)
    row.value.append(numbers)
    row.hours.append(max(0.0, hours))
    row.flag.append(0)
    row.kind.append(KINDS.index(statistic.kind))
