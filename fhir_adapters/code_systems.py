"""Which measurements Trivium knows, in which unit, within which limits.

Two tables beside this file, read once at import; a row that breaks the grammar below
stops the import, because a half-read unit table is worse than none:

``loinc_ucum.csv``
    ``loinc|name|unit|low|high|conversions|note``. Units are UCUM. ``conversions`` is
    ``unit=factor`` (multiply by it) or ``unit=@name`` with a name from
    :data:`NAMED_CONVERSIONS`, separated by ``; ``. A row with ``-`` for its unit is a
    code that is recognised and carries no number (a panel, a report). The ranges are
    engineering limits for "this cannot be a patient's value", not reference ranges;
    they and the names await clinical sign-off.
``site_codes.csv``
    ``system|code|loinc|display|note``. Local codes whose published display leaves no
    doubt about the measurement. Nothing is mapped by display text at run time.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType

LOINC = "http://loinc.org"
UCUM = "http://unitsofmeasure.org"

NAMED_CONVERSIONS = frozenset({"fahrenheit", "kelvin", "hydrogen_ion"})

_LOINC_CODE = re.compile(r"[0-9]{1,7}-[0-9]")
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")
_UNIT = re.compile(r"[!-~]{1,24}")


class CodeTableError(ValueError):
    """A row of a table in this package breaks its grammar: our bug, not the EHR's."""


@dataclass(frozen=True, slots=True)
class Conversion:
    """How a unit becomes the canonical one: a factor, or one named formula."""

    factor: Decimal = Decimal(1)
    formula: str = ""


@dataclass(frozen=True, slots=True)
class Measurement:
    """One row: a LOINC code with its canonical UCUM unit and plausible range.

    ``low`` and ``high`` are inclusive, in ``unit``; ``alternatives`` maps each other
    accepted UCUM unit to its conversion.
    """

    loinc: str
    name: str
    unit: str
    low: Decimal
    high: Decimal
    alternatives: Mapping[str, Conversion]
    note: str = ""


@dataclass(frozen=True, slots=True)
class CodeTable:
    """The parsed ``loinc_ucum.csv``: measurements, and codes without a number."""

    measurements: Mapping[str, Measurement]
    code_only: Mapping[str, str]


def check_digit_ok(loinc: str) -> bool:
    """Whether the LOINC mod-10 check digit (Luhn, as LOINC's appendix) is right.

    It catches a slip of one digit, such as 3150-6 for 3150-0.
    """
    if not _LOINC_CODE.fullmatch(loinc):
        return False
    body, digit = loinc.split("-")
    total = 0
    for place, character in enumerate(reversed(body)):
        doubled = int(character) * (2 if place % 2 == 0 else 1)
        total += doubled - 9 if doubled > 9 else doubled
    return (10 - total % 10) % 10 == int(digit)


def parse_conversions(text: str) -> dict[str, Conversion]:
    """Parse the ``conversions`` column; raise :class:`CodeTableError` on all else."""
    found: dict[str, Conversion] = {}
    for part in filter(None, text.split("; ")):
        # The unit may hold "=" nowhere, so the last one separates.
        unit, separator, how = part.rpartition("=")
        if not separator or not _UNIT.fullmatch(unit) or unit in found:
            raise CodeTableError(f"conversion {part!r}")
        if how.startswith("@") and how[1:] in NAMED_CONVERSIONS:
            found[unit] = Conversion(formula=how[1:])
        elif _NUMBER.fullmatch(how) and Decimal(how) > 0:
            found[unit] = Conversion(factor=Decimal(how))
        else:
            raise CodeTableError(f"conversion {part!r}")
    return found


def _measurement(cells: list[str]) -> Measurement:
    loinc, name, unit, low, high, conversions, note = cells
    if not (_UNIT.fullmatch(unit) and _NUMBER.fullmatch(low)):
        raise CodeTableError(f"row {loinc}")
    if not _NUMBER.fullmatch(high) or Decimal(low) >= Decimal(high):
        raise CodeTableError(f"range of {loinc}")
    alternatives = parse_conversions(conversions)
    if unit in alternatives:
        raise CodeTableError(f"{loinc} converts its own unit")
    return Measurement(
        loinc, name, unit, Decimal(low), Decimal(high), alternatives, note
    )


def parse_code_table(text: str) -> CodeTable:
    """Parse ``loinc_ucum.csv``; raise :class:`CodeTableError` on any broken row."""
    measurements: dict[str, Measurement] = {}
    code_only: dict[str, str] = {}
    lines = text.splitlines()
    if lines[:1] != ["loinc|name|unit|low|high|conversions|note"]:
        raise CodeTableError("header")
    for line in lines[1:]:
        cells = line.split("|")
        if len(cells) != 7 or not check_digit_ok(cells[0]) or not cells[1]:
            raise CodeTableError(f"row {line!r}")
        if cells[0] in measurements or cells[0] in code_only:
            raise CodeTableError(f"{cells[0]} twice")
        if cells[2:6] == ["-", "-", "-", ""]:
            code_only[cells[0]] = cells[1]
        else:
            measurements[cells[0]] = _measurement(cells)
    return CodeTable(MappingProxyType(measurements), MappingProxyType(code_only))


def parse_site_codes(text: str, table: CodeTable) -> Mapping[tuple[str, str], str]:
    """Parse ``site_codes.csv`` to (system, code) -> LOINC of a known measurement."""
    found: dict[tuple[str, str], str] = {}
    lines = text.splitlines()
    if lines[:1] != ["system|code|loinc|display|note"]:
        raise CodeTableError("header")
    for line in lines[1:]:
        cells = line.split("|")
        if len(cells) != 5 or not all(cells) or cells[2] not in table.measurements:
            raise CodeTableError(f"row {line!r}")
        if (cells[0], cells[1]) in found or cells[0] == LOINC:
            raise CodeTableError(f"{cells[1]} twice, or LOINC itself")
        found[cells[0], cells[1]] = cells[2]
    return MappingProxyType(found)


_FOLDER = Path(__file__).parent
_TABLE = parse_code_table((_FOLDER / "loinc_ucum.csv").read_text("utf-8"))

MEASUREMENTS: Mapping[str, Measurement] = _TABLE.measurements
"""The measurements by LOINC code, in the order of the table."""

CODE_ONLY: Mapping[str, str] = _TABLE.code_only
"""Recognised codes without a number of their own: panels and reports."""

SITE_CODES: Mapping[tuple[str, str], str] = parse_site_codes(
    (_FOLDER / "site_codes.csv").read_text("utf-8"), _TABLE
)
"""Local (system, code) pairs that mean exactly one measurement of the table."""

PREFERRED: tuple[tuple[str, str], ...] = (
    # US Core pulse oximetry carries both codings; the value is the oximeter's.
    ("59408-5", "2708-6"),
    # Automated count beside the method-less code for the same count.
    ("6690-2", "26464-8"),
)
"""Pairs that may stand on one Observation: the first says it more exactly."""


def measurement_code(system: str, code: str) -> str | None:
    """The LOINC code of the table that (system, code) means, or None."""
    if system == LOINC:
        return code if code in MEASUREMENTS else None
    return SITE_CODES.get((system, code))
