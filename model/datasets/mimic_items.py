"""Which items of MIMIC-IV mean which LOINC measurement: a closed table, no guessing.

``mimic_items.csv`` beside this file, one row an item::

    table|itemid|loinc|label|source_unit|ucum|note

``label`` is that of the source's dictionary. The codes agree with the concept map of
the MIMIC Code Repository (MIT licence); an item is in the table only where that map
calls the match exact, or where the broader code is stated in ``note``, and where
``fhir_adapters`` has a row with units for the code. Left out on purpose: gases of
blood of unstated origin (arterial or venous), troponin T of the conventional assay, the
temperature a blood gas was corrected to, and laboratory values that nurses copied into
the chart (they are in ``labevents`` already).

Units are those of :mod:`fhir_adapters.units`. ``source_unit`` and ``ucum`` add at most
one spelling an item: the row's unit as MIMIC writes it or, with ``source_unit`` empty,
the unit that the item's own label states where the row has none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType

from fhir_adapters.code_systems import MEASUREMENTS
from fhir_adapters.units import conversion_of, normalise, to_canonical
from model.errors import DatasetError

LABEVENTS, CHARTEVENTS, OMR = "labevents", "chartevents", "omr"
_HEADER = "table|itemid|loinc|label|source_unit|ucum|note"


@dataclass(frozen=True, slots=True)
class MimicItem:
    """One row of the table."""

    itemid: str
    loinc: str
    label: str
    source_unit: str
    ucum: str
    note: str

    def unit(self, given: str) -> str:
        """The unit to look up for a value whose row says ``given``."""
        if self.ucum and normalise(given) == normalise(self.source_unit):
            return self.ucum
        return given


Items = Mapping[str, MimicItem]


def parse_items(text: str) -> Mapping[str, Items]:
    """Parse the table to items by source table and item id.

    Raises:
        DatasetError: a row that breaks the grammar, names a code without units, or
            stands twice; a half-read table is worse than none.
    """
    found: dict[str, dict[str, MimicItem]] = {LABEVENTS: {}, CHARTEVENTS: {}, OMR: {}}
    lines = text.splitlines()
    if lines[:1] != [_HEADER]:
        raise DatasetError("item table: another header")
    for number, line in enumerate(lines[1:], 2):
        cells = line.split("|")
        if len(cells) != 7 or cells[0] not in found or not all(cells[1:4]):
            raise DatasetError(f"item table line {number}: broken row")
        table, itemid, loinc, _, source_unit, ucum, _ = cells
        if loinc not in MEASUREMENTS or itemid in found[table]:
            raise DatasetError(f"item table line {number}: unknown code, or twice")
        if bool(source_unit) > bool(ucum) or (ucum and not conversion_of(loinc, ucum)):
            raise DatasetError(f"item table line {number}: unit not in the unit table")
        found[table][itemid] = MimicItem(*cells[1:])
    return MappingProxyType({k: MappingProxyType(v) for k, v in found.items()})


ITEMS: Mapping[str, Items] = parse_items(
    (Path(__file__).parent / "mimic_items.csv").read_text("utf-8")
)
"""The items by table ("labevents", "chartevents", "omr") and item id."""


def canonical(
    item: MimicItem, value: Decimal, unit: str
) -> tuple[Decimal, str, tuple[str, ...]]:
    """A value in the canonical UCUM unit of its code.

    Returns:
        The number, its unit, and flags ("unit-converted", "unit-absent").

    Raises:
        fhir_adapters.errors.ValueRejectedError: a unit that the closed table does not
            know for this code, or a number no patient can have.
    """
    number, flags = to_canonical(item.loinc, value, item.unit(unit))
    return number, MEASUREMENTS[item.loinc].unit, flags
