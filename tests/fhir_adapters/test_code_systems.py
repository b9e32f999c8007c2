"""The code table: checked on load, closed, and free of expressions."""

from __future__ import annotations

from decimal import Decimal

import pytest

from fhir_adapters.code_systems import (
    CODE_ONLY,
    MEASUREMENTS,
    SITE_CODES,
    CodeTableError,
    check_digit_ok,
    measurement_code,
    parse_code_table,
    parse_conversions,
    parse_site_codes,
)

HEADER = "loinc|name|unit|low|high|conversions|note\n"
SITE_HEADER = "system|code|loinc|display|note\n"


def test_every_code_passes_the_loinc_check_digit():
    codes = [*MEASUREMENTS, *CODE_ONLY]
    assert len(codes) == 73
    assert len(MEASUREMENTS) == 65
    assert all(check_digit_ok(code) for code in codes)


@pytest.mark.parametrize("code", ["3150-6", "8867-5", "1-", "x-1", "88674", ""])
def test_a_slip_in_a_code_is_caught(code):
    assert not check_digit_ok(code)


def test_no_remark_is_left_among_the_conversions():
    for row in MEASUREMENTS.values():
        assert row.low < row.high
        assert row.unit not in row.alternatives
    assert MEASUREMENTS["48065-7"].note
    assert MEASUREMENTS["1742-6"].alternatives["ukat/L"].factor == 60


def test_named_conversions_are_the_only_formulas():
    formulas = {
        conversion.formula
        for row in MEASUREMENTS.values()
        for conversion in row.alternatives.values()
    }
    assert formulas == {"", "fahrenheit", "kelvin", "hydrogen_ion"}


@pytest.mark.parametrize(
    "text",
    ["same", "a=(x-32)*5/9", "a=@eval", "a=", "=1", "a=0", "a=-1", "a=1; a=2", "a=1e3"],
)
def test_anything_else_in_the_conversion_column_fails(text):
    with pytest.raises(CodeTableError):
        parse_conversions(text)


def test_factors_are_exact_decimals():
    assert parse_conversions("g=0.001")["g"].factor == Decimal("0.001")


@pytest.mark.parametrize(
    "row",
    [
        "2951-3|Sodium|mmol/L|90|200||",
        "2951-2|Sodium|mmol/L|200|90||",
        "2951-2|Sodium|mmol/L|x|200||",
        "2951-2|Sodium|mmol/L|90|x||",
        "2951-2|Sodium|mmol/L|90|200|mmol/L=1|",
        "2951-2||mmol/L|90|200||",
        "2951-2|Sodium|mm ol|90|200||",
        "2951-2|Sodium|mmol/L|90|200|",
        "2951-2|Sodium|mmol/L|90|200||\n2951-2|Sodium|mmol/L|90|200||",
        "36643-5|XR|-|-|-||\n36643-5|XR|-|-|-||",
    ],
)
def test_a_broken_row_stops_the_load(row):
    with pytest.raises(CodeTableError):
        parse_code_table(HEADER + row)


def test_a_table_without_its_header_stops_the_load():
    with pytest.raises(CodeTableError):
        parse_code_table("2951-2|Sodium|mmol/L|90|200||")
    with pytest.raises(CodeTableError):
        parse_site_codes("", parse_code_table(HEADER))


@pytest.mark.parametrize(
    "row",
    [
        "urn:x|1|9999-9|a|b",
        "urn:x|1|9187-6|a",
        "urn:x|1|9187-6||b",
        "http://loinc.org|1|9187-6|a|b",
        "urn:x|1|9187-6|a|b\nurn:x|1|9187-6|a|b",
    ],
)
def test_a_broken_site_code_stops_the_load(row):
    table = parse_code_table(HEADER + "9187-6|Urine output|mL|0|10000|L=1000|")
    with pytest.raises(CodeTableError):
        parse_site_codes(SITE_HEADER + row, table)


def test_site_codes_map_to_measurements_only():
    assert set(SITE_CODES.values()) <= set(MEASUREMENTS)
    system, code = next(iter(SITE_CODES))
    assert measurement_code(system, code) == SITE_CODES[system, code]
    assert measurement_code(system, "none") is None
    assert measurement_code("http://loinc.org", "2951-2") == "2951-2"
    assert measurement_code("", "2951-2") is None
