"""Observation: what is used, what is refused, and with which reason."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest

from fhir_adapters.patient_record import Provenance
from fhir_adapters.policy import AdapterPolicy
from fhir_adapters.resources.observation import read_observation
from tests.fhir_adapters.fhir_samples import (
    BEFORE,
    CUTOFF,
    LOINC,
    blood_pressure,
    concept,
    loinc,
    observation,
    quantity,
)

SOURCE = Provenance("Observation/o1", "fhir", "0" * 64)


def read(resource, **policy):
    return read_observation(
        resource, SOURCE, cutoff=CUTOFF, policy=AdapterPolicy(**policy)
    )


def reason(resource, **policy):
    reading = read(resource, **policy)
    assert reading.values == ()
    assert reading.skipped is not None
    return reading.skipped.reason


def only(resource, **policy):
    reading = read(resource, **policy)
    assert reading.skipped is None
    (value,) = reading.values
    return value


def test_a_final_value_is_read_with_its_source():
    value = only(observation())
    assert (value.loinc, value.value, value.unit) == ("2951-2", Decimal(140), "mmol/L")
    assert value.provenance is SOURCE
    assert (value.source_value, value.source_unit) == ("140", "mmol/L")
    assert value.flags == ()


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("entered-in-error", "entered_in_error"),
        ("cancelled", "cancelled"),
        ("registered", "registered"),
        ("unknown", "unknown_status"),
        ("bogus", "unknown_status"),
        (None, "missing_status"),
        (7, "missing_status"),
    ],
)
def test_a_status_that_is_not_final_enough_is_refused(status, expected):
    assert reason(observation(status=status)) == expected


@pytest.mark.parametrize("status", ["preliminary", "amended", "corrected"])
def test_a_status_worth_knowing_is_flagged(status):
    assert status in only(observation(status=status)).flags


def test_modifier_extensions_and_foreign_focus_are_not_interpreted():
    extension = [{"url": "urn:x", "valueBoolean": True}]
    assert reason(observation(modifierExtension=extension)) == "modifier_extension"
    assert reason(observation(focus=[{"reference": "Patient/baby"}])) == "other_focus"
    made = blood_pressure()
    made["component"][0]["modifierExtension"] = extension
    reading = read(made)
    assert [v.loinc for v in reading.values] == ["8462-4"]
    assert reading.components[0].reason == "modifier_extension"


def test_blood_pressure_is_read_through_its_components():
    reading = read(blood_pressure())
    assert {v.loinc: v.value for v in reading.values} == {"8480-6": 120, "8462-4": 80}
    assert reading.components == ()


def test_a_bad_component_is_refused_alone():
    made = blood_pressure()
    made["component"][1]["valueQuantity"]["value"] = Decimal(900)
    reading = read(made)
    assert [v.loinc for v in reading.values] == ["8480-6"]
    (skip,) = reading.components
    assert (skip.reference, skip.reason) == (
        "Observation/o1#component.1",
        "implausible_value",
    )


def test_a_panel_without_values_says_the_most_telling_reason():
    made = blood_pressure()
    made["component"][0]["valueQuantity"] = {"value": 5, "unit": "furlong"}
    made["component"][1] = {"code": loinc("8462-4")}
    assert reason(made) == "unknown_unit"


def test_absent_data_is_skipped_as_absent():
    absent = concept(("urn:x", "unknown"))
    made = observation(value={}, dataAbsentReason=absent)
    del made["valueQuantity"]
    assert reason(made) == "data_absent"
    panel = blood_pressure(dataAbsentReason=absent)
    for component in panel["component"]:
        del component["valueQuantity"]
        component["dataAbsentReason"] = absent
    assert reason(panel) == "data_absent"
    bare = blood_pressure(component=None, dataAbsentReason=absent)
    assert reason(bare) == "data_absent"
    # A value beside the reason for its absence breaks obs-6: absence is believed.
    assert reason(observation(dataAbsentReason=absent)) == "data_absent"


def test_a_code_is_unmapped_only_when_no_component_is_mapped_either():
    assert reason(observation("4548-4")) == "unmapped_code"
    assert reason(observation(code={"text": "Sodium"})) == "unmapped_code"
    old_panel = blood_pressure()
    old_panel["code"] = loinc("55284-4")
    assert len(read(old_panel).values) == 2
    empty = blood_pressure(component=[])
    assert reason(empty) == "no_value"


def test_a_panel_head_with_members_has_no_value_of_its_own():
    made = observation(hasMember=[{"reference": "Observation/2"}])
    del made["valueQuantity"]
    assert reason(made) == "no_value"


def test_both_codes_of_pulse_oximetry_give_one_value():
    made = observation(value=quantity(Decimal(97), "%"))
    made["code"] = concept((LOINC, "2708-6"), (LOINC, "59408-5"))
    assert only(made).loinc == "59408-5"


def test_two_different_measurements_on_one_value_are_a_conflict():
    made = observation()
    made["code"] = concept((LOINC, "2951-2"), (LOINC, "2823-3"))
    assert reason(made) == "conflicting_codes"


def test_a_comparator_stays_a_bound():
    made = observation("89579-7", quantity(Decimal("0.01"), "ng/mL", comparator="<"))
    value = only(made)
    assert (value.value, value.comparator) == (Decimal(10), "<")
    assert "censored" in value.flags


def test_a_falling_conversion_turns_the_bound_around():
    made = observation("2744-1", quantity(Decimal(40), "nmol/L", comparator="<="))
    assert only(made).comparator == ">="


@pytest.mark.parametrize(
    ("text", "unit", "expected", "comparator"),
    [
        ("<0.01 ng/mL", "", "10", "<"),
        ("> 90", "ng/L", "90", ">"),
        ("≤5", "ng/L", "5", "<="),
        ("12.5ng/L", "", "12.5", None),
    ],
)
def test_a_number_in_text_is_read_with_its_comparator(text, unit, expected, comparator):
    made = observation("89579-7", valueString=text)
    del made["valueQuantity"]
    if unit:
        made["referenceRange"] = [{"low": {}, "high": {"value": 14, "unit": unit}}]
    value = only(made)
    assert (value.value, value.comparator) == (Decimal(expected), comparator)
    assert "value-from-text" in value.flags
    assert ("unit-from-range" in value.flags) == bool(unit)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("POS", "text_value"),
        ("1,200 ng/L", "text_value"),
        ("5-10 ng/L", "text_value"),
        ("<0.01", "missing_unit"),
        ("", "malformed_value"),
    ],
)
def test_other_text_is_not_interpreted(text, expected):
    made = observation("89579-7", valueString=text)
    del made["valueQuantity"]
    assert reason(made) == expected


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"valueCodeableConcept": {"text": "high"}}, "value_type"),
        ({"valueInteger": "5"}, "malformed_value"),
        ({"valueInteger": 140}, "missing_unit"),
        ({"valueQuantity": {}}, "no_value"),
        ({"valueQuantity": quantity("140", "mmol/L")}, "malformed_value"),
        ({"valueQuantity": quantity(True, "mmol/L")}, "malformed_value"),
        ({"valueQuantity": quantity(10**60, "mmol/L")}, "malformed_value"),
        ({"valueQuantity": quantity(float("inf"), "mmol/L")}, "malformed_value"),
        ({"valueQuantity": quantity(140, "mmol/L", comparator="~")}, "malformed_value"),
        ({"valueQuantity": quantity(140, "")}, "missing_unit"),
        ({"valueQuantity": quantity(140, "mol")}, "unknown_unit"),
        ({"valueQuantity": quantity(1400, "mmol/L")}, "implausible_value"),
        ({}, "no_value"),
    ],
)
def test_unusable_values_have_their_reason(more, expected):
    made = observation()
    del made["valueQuantity"]
    assert reason({**made, **more}) == expected


def test_two_values_on_one_observation_are_refused():
    assert reason(observation(valueString="140 mmol/L")) == "several_values"


def test_an_integer_value_is_read_where_no_unit_is_needed():
    made = observation("9269-2", valueInteger=14)
    del made["valueQuantity"]
    assert only(made).value == 14


def test_code_and_text_of_a_unit_must_agree():
    made = observation("89579-7", quantity(5, "ng/L"))
    made["valueQuantity"]["unit"] = "ng/mL"
    assert reason(made) == "unit_conflict"
    made["valueQuantity"]["unit"] = "nanograms"
    assert only(made).source_unit == "ng/L"
    made["valueQuantity"] = {"value": 5, "unit": "ng/L", "code": "X", "system": "urn:x"}
    assert only(made).source_unit == "ng/L"
    made["valueQuantity"]["system"] = "http://unitsofmeasure.org"
    assert reason(made) == "unit_conflict"


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"effectiveDateTime": None}, "no_timestamp"),
        ({"effectiveDateTime": "2026-03-01T08:00:00"}, "no_time_zone"),
        ({"effectiveDateTime": "2026-03-01"}, "no_time_zone"),
        ({"effectiveDateTime": "2026-03"}, "imprecise_timestamp"),
        ({"effectiveDateTime": "yesterday"}, "malformed_timestamp"),
        ({"effectiveDateTime": "2026-02-30T08:00:00Z"}, "malformed_timestamp"),
        ({"effectiveDateTime": "2026-02-30"}, "no_time_zone"),
        ({"effectiveDateTime": "0001-01-01T00:00:00Z"}, "malformed_timestamp"),
        ({"effectiveDateTime": "2026-03-01T13:00:00Z"}, "after_cutoff"),
        ({"effectiveDateTime": "2026-03-02T12:00:01Z"}, "future_timestamp"),
    ],
)
def test_unusable_times_have_their_reason(more, expected):
    made = {**observation(), **more}
    made = {key: item for key, item in made.items() if item is not None}
    expected = "malformed_timestamp" if "02-30" in str(more) else expected
    assert reason(made) == expected


def test_a_site_zone_completes_a_time_and_is_flagged():
    zone = timezone(timedelta(hours=1))
    value = only(observation(effectiveDateTime="2026-03-01T08:00:00"), site_zone=zone)
    assert value.measured_at == datetime(2026, 3, 1, 7, 0, tzinfo=UTC)
    assert "site-zone" in value.flags


def test_a_bare_date_counts_as_the_end_of_its_day():
    value = only(observation(effectiveDateTime="2026-02-28"), site_zone=UTC)
    assert value.measured_at == datetime(2026, 2, 28, 23, 59, 59, tzinfo=UTC)
    assert "date-only" in value.flags
    today = observation(effectiveDateTime="2026-03-01")
    assert reason(today, site_zone=UTC) == "after_cutoff"


@pytest.mark.parametrize(
    "more",
    [
        {"effectivePeriod": {"start": "2026-02-01T00:00:00Z", "end": BEFORE}},
        {"effectivePeriod": {"start": BEFORE}},
        {"effectiveInstant": BEFORE},
        {"effectiveTiming": {"event": ["2026-01-01T00:00:00Z", BEFORE, 3]}},
        {"issued": BEFORE},
    ],
)
def test_every_form_of_effective_time_is_read(more):
    value = only(observation(effectiveDateTime=None, **more))
    assert value.measured_at == datetime(2026, 3, 1, 8, 0, tzinfo=UTC)
    assert ("issued" in value.flags) == ("issued" in more)


def test_a_timing_without_events_is_no_time():
    made = observation(effectiveDateTime=None, effectiveTiming={"repeat": {}})
    assert reason(made) == "no_timestamp"
    made = observation(effectiveDateTime=None, effectiveTiming=["x"])
    assert reason(made) == "no_timestamp"


def test_interpretation_is_kept_as_said():
    made = observation(interpretation=[concept(("urn:x", "A"), ("urn:x", "HH"))])
    assert only(made).interpretation == "HH"
    made = observation(interpretation=[concept(("x", "H")), concept(("x", "L"))])
    value = only(made)
    assert (value.interpretation, value.flags) == (None, ("interpretation-conflict",))


def test_the_reference_range_is_in_the_canonical_unit():
    made = observation("8310-5", quantity(Decimal("98.6"), "[degF]"))
    made["referenceRange"] = [
        {"type": concept(("x", "therapeutic")), "low": {"value": 1}},
        {"appliesTo": [{}], "low": {"value": 2}},
        {"low": {"value": 95}, "high": {"value": Decimal("37.5"), "unit": "Cel"}},
    ]
    value = only(made)
    assert (value.reference_low, value.reference_high) == (35, Decimal("37.5"))


@pytest.mark.parametrize(
    "bad",
    [
        [{"low": {"value": 200}, "high": {"value": 100}}],
        [{"low": {"value": "x"}, "high": {"value": 5, "unit": "furlong"}}],
        [{"low": {"value": Decimal("1E+400")}}],
        [{"age": {}, "low": {"value": 1}}],
        "135-145",
    ],
)
def test_a_range_that_makes_no_sense_is_left_out(bad):
    value = only(observation(referenceRange=bad))
    assert (value.reference_low, value.reference_high) == (None, None)


def test_a_unitless_value_keeps_its_unitless_range():
    made = observation("6301-6", {"value": Decimal("2.5")})
    made["referenceRange"] = [{"high": {"value": Decimal("1.2")}}]
    assert only(made).reference_high == Decimal("1.2")
