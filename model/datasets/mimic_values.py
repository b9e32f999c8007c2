"""Measurements of MIMIC-IV: laboratory, bedside chart and outpatient record.

Rows are streamed and dropped by item id before anything else of them is looked at.
Each kept row becomes a :class:`CodedValue` in its UCUM unit, or a counted reason:

- the item is not in the closed table (``unmapped_item``);
- measured or stored outside the admission's window (:mod:`mimic_windows`);
- ``___`` in place of the value: an identifier was removed there (``deidentified``);
- no number (``text_value``), a unit that the closed table does not know for the item,
  a number no patient can have (``unknown_unit``, ``missing_unit``,
  ``implausible_value``);
- the same code, time and value twice (``duplicate``).

``<0.01`` becomes a censored value with its comparator, never a measured one.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from fhir_adapters.code_systems import MEASUREMENTS
from fhir_adapters.errors import ValueRejectedError
from fhir_adapters.patient_record import CodedValue, Provenance, Skip
from model.datasets.account import Account
from model.datasets.csv_table import Row, find_table, need_table, read_rows
from model.datasets.mimic_items import (
    CHARTEVENTS,
    ITEMS,
    LABEVENTS,
    OMR,
    MimicItem,
    canonical,
)
from model.datasets.mimic_windows import OUTSIDE_COHORT, Verdict, Windows

FILES = {
    LABEVENTS: "hosp/labevents.csv",
    CHARTEVENTS: "icu/chartevents.csv",
    OMR: "hosp/omr.csv",
}
ORIGIN = "folder"
UNMAPPED = "unmapped_item"
_DEIDENTIFIED = re.compile(r"_{3,}")
_CENSORED = re.compile(r"(<=|>=|<|>)\s*([0-9]+(?:\.[0-9]+)?)")
_PAIR = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*/\s*([0-9]+(?:\.[0-9]+)?)")
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_EVENT = (
    *("subject_id", "hadm_id", "itemid", "charttime", "storetime"),
    *("value", "valuenum", "valueuom"),
)
_LAB = ("labevent_id", *_EVENT, "ref_range_lower", "ref_range_upper")
_CHART = ("stay_id", *_EVENT, "warning")
_OMR = ("subject_id", "chartdate", "seq_num", "result_name", "result_value")


@dataclass(slots=True)
class Found:
    """What was found for one admission: values by code, and rejected rows."""

    values: dict[str, list[CodedValue]] = field(default_factory=dict)
    skips: list[Skip] = field(default_factory=list)
    seen: set[tuple[object, ...]] = field(default_factory=set)


class ValueReader:
    """Collects the values of all windows in one pass over each file.

    Args:
        windows: which patient, which time.
        account: counts every row.
        per_code: how many values of one code are kept, newest first; this bounds the
            memory of a long intensive-care stay.
    """

    def __init__(self, windows: Windows, account: Account, *, per_code: int) -> None:
        self._windows, self._account, self._per_code = windows, account, per_code
        self.found: dict[str, Found] = {}

    def read_labs(self, folder: Path) -> None:
        """Stream ``hosp/labevents``.

        Raises:
            DatasetFileError: no such table, or a row that breaks it.
        """
        path = need_table(folder, FILES[LABEVENTS])
        for row, item in self._events(path, LABEVENTS, _LAB):
            reference = f"Observation/mimic-lab-{row.key('labevent_id')}"
            low, high = row.number("ref_range_lower"), row.number("ref_range_upper")
            self._event(LABEVENTS, row, item, reference, (low, high))

    def read_chart(self, folder: Path) -> None:
        """Stream ``icu/chartevents``, where the folder has it.

        Raises:
            DatasetFileError: a row that breaks the table.
        """
        path = find_table(folder, FILES[CHARTEVENTS])
        if path is None:
            return
        for row, item in self._events(path, CHARTEVENTS, _CHART):
            reference = f"Observation/mimic-chart-{_digest(row)[:32]}"
            self._event(CHARTEVENTS, row, item, reference, (None, None))

    def read_omr(self, folder: Path, *, days: int) -> None:
        """Stream ``hosp/omr``, where the folder has it: values of earlier days.

        Raises:
            DatasetFileError: a row that breaks the table.
        """
        path = find_table(folder, FILES[OMR])
        if path is None:
            return
        dropped: Counter[str] = Counter()
        names = frozenset(name for name in ITEMS[OMR] if "/2" not in name)
        keep = ("result_name", names)
        for row in read_rows(path, _OMR, keep=keep, dropped=dropped):
            self._omr(row, days)
        self._count_dropped(OMR, dropped)

    def _events(
        self, path: Path, table: str, columns: tuple[str, ...]
    ) -> Iterator[tuple[Row, MimicItem]]:
        dropped: Counter[str] = Counter()
        items = ITEMS[table]
        keep = ("itemid", items)
        for row in read_rows(path, columns, keep=keep, dropped=dropped):
            yield row, items[row.text("itemid")]
        self._count_dropped(table, dropped)

    def _count_dropped(self, table: str, dropped: Counter[str]) -> None:
        if dropped:
            self._account.skip(table, UNMAPPED, sum(dropped.values()))

    def _event(
        self,
        table: str,
        row: Row,
        item: MimicItem,
        reference: str,
        limits: tuple[Decimal | None, Decimal | None],
    ) -> None:
        subject = self._windows.subject(row)
        verdict = Verdict((), OUTSIDE_COHORT)
        if self._windows.of(subject):
            verdict = self._windows.judge(
                subject,
                row.optional_key("hadm_id"),
                row.time("charttime"),
                row.time("storetime"),
            )
        if not verdict.windows:
            self._account.skip(table, verdict.reason)
            return
        number, comparator, reason = _reading(row)
        at = row.time("charttime")
        if number is None or at is None:
            self._reject(table, verdict, reference, reason)
            return
        try:
            value = _coded(item, number, row, reference, at, comparator, limits)
        except ValueRejectedError as error:
            self._reject(table, verdict, reference, error.reason)
            return
        self._keep(table, verdict, [value])

    def _omr(self, row: Row, days: int) -> None:
        day = row.day("chartdate")
        verdict = self._windows.judge_day(self._windows.subject(row), day, days)
        if not verdict.windows or day is None:
            self._account.skip(OMR, verdict.reason)
            return
        at = datetime(day.year, day.month, day.day, tzinfo=UTC)
        name, reference = (
            row.text("result_name"),
            f"Observation/mimic-omr-{_digest(row)[:32]}",
        )
        pair = _PAIR.fullmatch(row.text("result_value"))
        second = ITEMS[OMR].get(f"{name}/2")
        numbers = pair.groups() if pair and second else (row.text("result_value"),)
        items = [ITEMS[OMR][name], *([second] if pair and second else [])]
        wrong = second is not None and pair is None
        if wrong or not all(_NUMBER.fullmatch(text) for text in numbers):
            self._reject(OMR, verdict, reference, "text_value")
            return
        try:
            values = [
                replace(
                    _coded(item, Decimal(text), row, reference, at, None, (None, None)),
                    flags=("date-only",),
                )
                for item, text in zip(items, numbers, strict=True)
            ]
        except ValueRejectedError as error:
            self._reject(OMR, verdict, reference, error.reason)
            return
        self._keep(OMR, verdict, values)

    def _reject(
        self, table: str, verdict: Verdict, reference: str, reason: str
    ) -> None:
        self._account.skip(table, reason)
        for window in verdict.windows:
            found = self.found.setdefault(window.admission.hadm_id, Found())
            found.skips.append(Skip(reference, reason))

    def _keep(self, table: str, verdict: Verdict, values: list[CodedValue]) -> None:
        new = False
        for window in verdict.windows:
            found = self.found.setdefault(window.admission.hadm_id, Found())
            for value in values:
                key = (value.loinc, value.measured_at, value.value, value.comparator)
                if key in found.seen:
                    continue
                new = True
                found.seen.add(key)
                own = found.values.setdefault(value.loinc, [])
                own.append(value)
                own.sort(key=_recency, reverse=True)
                del own[self._per_code :]
        if new:
            self._account.use(table)
        else:
            self._account.skip(table, "duplicate")


def latest_and_history(
    found: Found,
) -> tuple[tuple[CodedValue, ...], tuple[CodedValue, ...]]:
    """The newest value of each code in the order of the code table, and all values."""
    latest = tuple(
        found.values[code][0] for code in MEASUREMENTS if code in found.values
    )
    every = [value for values in found.values.values() for value in values]
    return latest, tuple(sorted(every, key=_recency, reverse=True))


def _recency(value: CodedValue) -> tuple[datetime, str, str]:
    return value.measured_at, value.provenance.reference, value.loinc


def _reading(row: Row) -> tuple[Decimal | None, str | None, str]:
    """Number and comparator of an event, or None and the reason."""
    text, number = row.text("value"), row.number("valuenum")
    if _DEIDENTIFIED.search(text):
        return None, None, "deidentified"
    censored = _CENSORED.fullmatch(text)
    if censored:
        return Decimal(censored[2]), censored[1], ""
    if number is None:
        return None, None, "text_value" if text else "no_value"
    return number, None, ""


def _coded(
    item: MimicItem,
    number: Decimal,
    row: Row,
    reference: str,
    at: datetime,
    comparator: str | None,
    limits: tuple[Decimal | None, Decimal | None],
) -> CodedValue:
    unit = row.text("valueuom")
    value, ucum, flags = canonical(item, number, unit)
    if row.text("warning") not in ("", "0"):
        flags = (*flags, "source-warning")
    low, high = (limit_in_unit(item, limit, unit) for limit in limits)
    return CodedValue(
        loinc=item.loinc,
        name=MEASUREMENTS[item.loinc].name,
        value=value,
        unit=ucum,
        measured_at=at,
        provenance=Provenance(reference, ORIGIN, _digest(row)),
        comparator=comparator,
        reference_low=low,
        reference_high=high,
        source_value=str(number),
        source_unit=unit,
        flags=flags,
    )


def limit_in_unit(item: MimicItem, limit: Decimal | None, unit: str) -> Decimal | None:
    """A bound of the reference range in the canonical unit, None where it has none."""
    if limit is None:
        return None
    try:
        return canonical(item, limit, unit)[0]
    except ValueRejectedError:
        return None


def _digest(row: Row) -> str:
    return hashlib.sha256("\x1f".join(row.cells).encode()).hexdigest()
