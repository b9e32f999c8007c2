"""Units: closed per analyte, decimal, and never guessed."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_adapters.code_systems import MEASUREMENTS, Conversion
from fhir_adapters.errors import (
    ImplausibleValueError,
    UnknownUnitError,
    ValueRejectedError,
)
from fhir_adapters.units import (
    SPELLINGS,
    UNITLESS,
    conversion_of,
    convert,
    normalise,
    to_canonical,
)


def D(text: str) -> Decimal:
    return Decimal(text)


@pytest.mark.parametrize(
    ("loinc", "value", "unit", "expected"),
    [
        ("8310-5", "98.6", "[degF]", "37"),
        ("8310-5", "98.6", "°F", "37"),
        ("8310-5", "37.2", "degC", "37.2"),
        ("8310-5", "310.15", "K", "37"),
        ("6690-2", "7.2", "K/uL", "7.2"),
        ("6690-2", "7.2", "K/mcL", "7.2"),
        ("6690-2", "7.2", "x10^3/uL", "7.2"),
        ("6690-2", "7.2", "thou/mm3", "7.2"),
        ("6690-2", "7200", "/µL", "7.2"),
        ("777-3", "250", "10^9/L", "250"),
        ("8480-6", "120", "mmHg", "120"),
        ("8480-6", "16", "kPa", "120.00992"),
        ("2160-0", "100", "µmol/L", "1.1312"),
        ("2160-0", "100", "μmol/L", "1.1312"),
        ("2823-3", "4.1", "mEq/L", "4.1"),
        ("1742-6", "40", "IU/L", "40"),
        ("1742-6", "1", "ukat/L", "60"),
        ("89579-7", "0.014", "ng/mL", "14"),
        ("59408-5", "0.97", "1", "97"),
        ("6301-6", "2.5", "1", "2.5"),
        ("29463-7", "154", "lbs", "69.85322498"),
        ("8302-2", "70", "in", "177.8"),
        ("2744-1", "40", "nmol/L", "7.39794000867"),
        ("48065-7", "0.5", "ug/mL FEU", "500"),
        ("9187-6", "175", "ml", "175"),
    ],
)
def test_known_units_convert_exactly(loinc, value, unit, expected):
    assert to_canonical(loinc, D(value), unit)[0] == D(expected)


@pytest.mark.parametrize(
    ("loinc", "unit"),
    [
        ("2951-2", "K/uL"),  # thousand, for cells only
        ("6690-2", "K"),
        ("2345-7", "IU/L"),
        ("48065-7", "ng/mL"),  # FEU and DDU differ by a factor of about two
        ("48065-7", "ng/mL DDU"),
        ("3150-0", "L/min"),
        ("2951-2", "x" * 60),
    ],
)
def test_a_unit_of_another_analyte_is_unknown(loinc, unit):
    with pytest.raises(UnknownUnitError) as raised:
        to_canonical(loinc, D("5"), unit)
    assert raised.value.reason == "unknown_unit"


def test_a_code_outside_the_table_is_refused():
    with pytest.raises(UnknownUnitError) as raised:
        to_canonical("4548-4", D("6"), "%")
    assert raised.value.reason == "unmapped_code"


def test_the_unit_is_never_guessed_from_the_number():
    for value, unit in (("98.6", "Cel"), ("37", "[degF]")):
        with pytest.raises(ImplausibleValueError):
            to_canonical("8310-5", D(value), unit)


def test_a_missing_unit_is_accepted_only_where_nothing_is_lost():
    assert to_canonical("6301-6", D("2.5"), "") == (D("2.5"), ("unit-absent",))
    assert to_canonical("2744-1", D("7.4"), " ")[0] == D("7.4")
    with pytest.raises(UnknownUnitError) as raised:
        to_canonical("2951-2", D("140"), "")
    assert raised.value.reason == "missing_unit"


def test_ranges_are_inclusive():
    row = MEASUREMENTS["2951-2"]
    assert to_canonical("2951-2", row.low, "mmol/L")[0] == row.low
    assert to_canonical("2951-2", row.high, "mmol/L")[0] == row.high
    with pytest.raises(ImplausibleValueError):
        to_canonical("2951-2", row.high + D("0.1"), "mmol/L")


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1E+400", "1E-400", "1" * 50])
def test_numbers_no_measurement_has_are_refused_before_arithmetic(value):
    with pytest.raises(ImplausibleValueError):
        to_canonical("8310-5", D(value), "[degF]")


def test_a_concentration_without_logarithm_is_refused():
    with pytest.raises(ImplausibleValueError):
        convert(Conversion(formula="hydrogen_ion"), D("0"))


def test_an_unconverted_value_keeps_its_digits_and_a_converted_one_says_so():
    value, flags = to_canonical("2951-2", D("140.10"), "mmol/L")
    assert (str(value), flags) == ("140.10", ())
    assert to_canonical("29463-7", D("70000"), "g")[1] == ("unit-converted",)


def test_error_texts_hold_no_value():
    with pytest.raises(ImplausibleValueError) as raised:
        to_canonical("2951-2", D("987"), "mmol/L")
    assert "987" not in str(raised.value)


def test_every_alias_belongs_to_a_unit_of_the_table():
    units = {row.unit for row in MEASUREMENTS.values()}
    units |= {unit for row in MEASUREMENTS.values() for unit in row.alternatives}
    assert set(SPELLINGS) <= units
    assert UNITLESS <= units


def test_every_unit_of_the_table_is_found_in_any_case():
    for loinc, row in MEASUREMENTS.items():
        for unit in (row.unit, *row.alternatives):
            assert conversion_of(loinc, unit) is not None
            assert conversion_of(loinc, f" {unit.upper()} ") is not None


def test_normalise_evens_out_what_carries_no_meaning():
    assert normalise("10^3 / \u00b5L") == normalise("10^3/\u03bcl") == "10^3/ul"


@given(
    st.sampled_from(sorted(MEASUREMENTS)),
    st.decimals(allow_nan=True, allow_infinity=True),
    st.text(max_size=12) | st.sampled_from(["[degF]", "kPa", "nmol/L", "1", "K"]),
)
def test_a_result_is_in_range_or_a_typed_refusal(loinc, value, unit):
    try:
        result, _ = to_canonical(loinc, value, unit)
    except ValueRejectedError:
        return
    assert MEASUREMENTS[loinc].low <= result <= MEASUREMENTS[loinc].high
