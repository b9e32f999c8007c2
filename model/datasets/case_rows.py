"""The lines of ``cases.jsonl``, judged once for training and for import into a chart.

Rules (harm in brackets):

- ``case_id`` becomes the id of a FHIR resource, so it keeps FHIR's rule for ids (a
  model that was trained on cases which no chart can hold).
- A ``case_id`` stands once (a figure that counts a patient twice, the evidence of one
  film under the id of another).
- A value needs a finite number, a unit and a time that can be read; nothing is guessed
  in their place (silent imputation).
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from model.errors import DatasetError, DuplicateCaseError

# FHIR R4, section 2.24.0.1, data type id.
_FHIR_ID = re.compile(r"[A-Za-z0-9.-]{1,64}")
_ID_SPACE = uuid.UUID("0d6b4c0a-0f43-4d0c-9a52-b5f0b4b6a1de")
# Larger is no measurement, and days beyond it leave the calendar.
_LARGEST = Decimal(10**12)
_LARGEST_OFFSET = Decimal(36500)


@dataclass(frozen=True, slots=True)
class Measured:
    """An entry of ``structured``: what of it can be used, None where it cannot.

    ``day_offset`` is in days from the film; ``number_given`` tells a number that
    cannot be read from one that was not stated.
    """

    loinc: str | None
    value: Decimal | None
    unit: str | None
    day_offset: float
    interpretation: str | None
    number_given: bool


def case_rows(
    folder: Path, required: tuple[str, ...]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number and row of every line that is not blank.

    Args:
        folder: holds ``cases.jsonl``.
        required: columns that must hold a string; ``case_id`` is one of them.

    Raises:
        DatasetError: no readable file, or a line that breaks the layout.
        DuplicateCaseError: a case id on two lines.
    """
    first: dict[str, int] = {}
    try:
        text = (folder / "cases.jsonl").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{folder} holds no readable cases.jsonl") from error
    # Not splitlines(): a note may hold U+2028, which JSON allows within a string.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        row = _row(number, line, required)
        known = first.setdefault(row["case_id"], number)
        if known != number:
            raise DuplicateCaseError(
                f"cases.jsonl line {number}: the case_id of line {known} again"
            )
        yield number, row


def _row(number: int, line: str, required: tuple[str, ...]) -> dict[str, Any]:
    where = f"cases.jsonl line {number}"
    try:
        row = json.loads(line, parse_float=Decimal)
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{where} is not JSON") from error
    if not isinstance(row, dict):
        raise DatasetError(f"{where} is not an object")
    missing = [name for name in required if not isinstance(row.get(name), str)]
    if missing:
        raise DatasetError(f"{where} lacks {', '.join(missing)}")
    if not _FHIR_ID.fullmatch(row["case_id"]):
        raise DatasetError(
            f"{where}: case_id is no FHIR id (1 to 64 of A-Z a-z 0-9 . and -)"
        )
    return row


def is_primary(row: Mapping[str, Any]) -> bool:
    """Whether this is the patient's one image for figures; so where it is not said."""
    return bool(row.get("primary", True))


def entries(row: Mapping[str, Any]) -> dict[str, Any]:
    """The ``structured`` column; empty where there is none."""
    structured = row.get("structured")
    return structured if isinstance(structured, dict) else {}


def measured(entry: object) -> Measured | None:
    """What of an entry can be used; None: no object, or a time that is no number."""
    if not isinstance(entry, dict):
        return None
    offset = entry.get("day_offset")
    days = Decimal(0) if offset is None else number_of(offset)
    if days is None or abs(days) > _LARGEST_OFFSET:
        return None
    return Measured(
        loinc=_text(entry.get("loinc")),
        value=number_of(entry.get("value")),
        unit=_text(entry.get("unit")),
        day_offset=float(days),
        interpretation=_text(entry.get("interpretation")),
        number_given=entry.get("value") is not None,
    )


def number_of(given: object) -> Decimal | None:
    """A finite number, also when it is written as a string; else None."""
    if isinstance(given, bool) or not isinstance(given, (int, float, Decimal, str)):
        return None
    try:
        number = Decimal(str(given))
    except (InvalidOperation, ValueError):
        return None
    return number if number.is_finite() and abs(number) <= _LARGEST else None


def observation_id(case_id: str, name: str) -> str:
    """FHIR id of a case's value; a hash where the plain one breaks FHIR's rule."""
    plain = f"{case_id}-{name.replace('_', '-')}"
    if _FHIR_ID.fullmatch(plain):
        return plain
    return str(uuid.uuid5(_ID_SPACE, f"{case_id}/{name}"))


def _text(given: object) -> str | None:
    return given.strip() or None if isinstance(given, str) else None
