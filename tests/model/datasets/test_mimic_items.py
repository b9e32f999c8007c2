"""The item table: closed, checked at import, units by item."""

from __future__ import annotations

from decimal import Decimal

import pytest

from fhir_adapters.errors import UnknownUnitError
from model.datasets.mimic_items import ITEMS, canonical, parse_items
from model.errors import DatasetError

HEADER = "table|itemid|loinc|label|source_unit|ucum|note\n"


@pytest.mark.parametrize(
    ("table", "item", "value", "unit", "result"),
    [
        ("labevents", "51301", "14.0", "K/uL", ("14.0", "10*3/uL")),
        ("labevents", "50983", "140", "mEq/L", ("140", "mmol/L")),
        ("labevents", "50861", "40", "IU/L", ("40", "U/L")),
        ("chartevents", "220210", "24", "insp/min", ("24", "/min")),
        ("chartevents", "223761", "98.6", "", ("37.0", "Cel")),
        ("chartevents", "223761", "98.6", "°F", ("37.0", "Cel")),
        ("chartevents", "226531", "100", "", ("45.35923700", "kg")),
    ],
)
def test_units_as_the_source_writes_them(table, item, value, unit, result) -> None:
    number, ucum, _ = canonical(ITEMS[table][item], Decimal(value), unit)
    assert (str(number), ucum) == result


def test_a_unit_is_never_guessed() -> None:
    for table, item, unit in (
        ("chartevents", "223835", ""),  # fraction or per cent
        ("labevents", "50915", "ng/mL"),  # which D-dimer unit
        ("chartevents", "226707", ""),  # inches, but the row must say so
        ("labevents", "50912", "furlong"),
    ):
        with pytest.raises(UnknownUnitError):
            canonical(ITEMS[table][item], Decimal(1), unit)


def test_troponin_and_gases_of_unstated_blood_are_not_mapped() -> None:
    assert not {"51003", "50820", "50821", "50818", "50825"} & ITEMS["labevents"].keys()


@pytest.mark.parametrize(
    "text",
    [
        "itemid|loinc\n",
        HEADER + "labevents|1|6690-2\n",
        HEADER + "elsewhere|1|6690-2|x|||\n",
        HEADER + "labevents||6690-2|x|||\n",
        HEADER + "labevents|1|0000-0|x|||\n",
        HEADER + "labevents|1|6690-2|x|||\nlabevents|1|6690-2|x|||\n",
        HEADER + "labevents|1|6690-2|x|K|furlong|\n",
        HEADER + "labevents|1|6690-2|x|K||\n",
    ],
)
def test_a_broken_table_stops_the_import(text: str) -> None:
    with pytest.raises(DatasetError, match="item table"):
        parse_items(text)
