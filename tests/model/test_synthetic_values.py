"""Values of synthetic cases: bands, absences, times, units."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import product

import numpy as np
import pytest

from fhir_adapters.code_systems import MEASUREMENTS
from model.synthetic.case import Carries, MeasuredValue
from model.synthetic.latents import CellPattern, Severity
from model.synthetic.values import ABSENCE, ITEMS, measure

FILM_AT = datetime(2022, 6, 1, 12, tzinfo=UTC)
BY_CODE = {item.loinc: item for item in ITEMS}

Drawn = list[tuple[Severity, CellPattern, tuple[MeasuredValue, ...], tuple[str, ...]]]


@pytest.fixture(scope="module")
def drawn() -> Drawn:
    rng = np.random.default_rng(1)
    states = [*product(Severity, CellPattern)] * 500
    return [(s, c, *measure(s, c, FILM_AT, rng)) for s, c in states]


def nearest_band(value: MeasuredValue) -> int:
    """What a reader with the bands in hand would say of one value."""
    bands = BY_CODE[value.loinc].bands
    amount = float(value.value)
    gaps = [max(low - amount, amount - high, 0.0) for low, high in bands]
    return int(np.argmin(gaps))


def majority(values: tuple[MeasuredValue, ...], carries: Carries) -> int | None:
    votes = [nearest_band(v) for v in values if v.carries is carries]
    return int(np.bincount(votes).argmax()) if votes else None


def float_bands(loinc: str) -> tuple[tuple[float, float], ...]:
    return BY_CODE[loinc].bands


def test_every_item_uses_the_canonical_unit_within_plausible_limits() -> None:
    for item in ITEMS:
        measurement = MEASUREMENTS[item.loinc]
        assert item.unit == measurement.unit
        assert measurement.low is not None and measurement.high is not None
        for low, high in item.bands:
            assert measurement.low <= Decimal(str(low)) < Decimal(str(high))
            assert Decimal(str(high)) <= measurement.high


def test_bands_of_an_informative_item_never_touch() -> None:
    for item in ITEMS:
        ordered = sorted(item.bands)
        for (_, below), (above, _) in zip(ordered, ordered[1:]):
            assert below < above
        assert len(item.bands) == (1 if item.carries is Carries.NOTHING else 3)


def test_severity_and_cells_are_recovered_from_what_is_measured(drawn: Drawn) -> None:
    severity = np.mean([majority(v, Carries.SEVERITY) == s for s, _, v, _ in drawn])
    cells = np.mean([majority(v, Carries.CELLS) == c for _, c, v, _ in drawn])
    assert severity >= 0.995
    assert cells >= 0.995


def test_a_raised_count_and_a_lowered_saturation_lie_on_the_raised_side() -> None:
    (_, normal_count), (_, _), (high_count, _) = float_bands("6690-2")
    assert normal_count < 10 and 13 < high_count < 14
    (normal_saturation, _), (_, _), (_, high_saturation) = float_bands("59408-5")
    assert normal_saturation > 96 and 92 <= high_saturation < 93


def test_each_item_is_absent_at_the_stated_rate(drawn: Drawn) -> None:
    n = len(drawn)
    for item in ITEMS:
        rate = np.mean([item.loinc in absent for *_, absent in drawn])
        assert rate == pytest.approx(ABSENCE, abs=4 * (0.08 * 0.92 / n) ** 0.5)


def test_absence_does_not_depend_on_severity(drawn: Drawn) -> None:
    counts = [
        np.mean([len(absent) for s, *_, absent in drawn if s is state])
        for state in Severity
    ]
    assert max(counts) - min(counts) < 0.15


def test_measured_and_absent_items_together_are_all_items(drawn: Drawn) -> None:
    for _, _, values, absent in drawn[:50]:
        assert sorted([*(v.loinc for v in values), *absent]) == sorted(BY_CODE)


def test_absence_can_be_switched_off_and_can_be_total() -> None:
    rng = np.random.default_rng(2)
    all_there, none_absent = measure(
        Severity.LOW, CellPattern.NEUTROPHILIC, FILM_AT, rng, absence=0.0
    )
    nothing, absent = measure(
        Severity.LOW, CellPattern.NEUTROPHILIC, FILM_AT, rng, absence=1.0
    )
    assert len(all_there) == len(ITEMS) and none_absent == ()
    assert nothing == () and len(absent) == len(ITEMS)


def test_times_lie_in_the_day_before_the_film(drawn: Drawn) -> None:
    times = [v.measured_at for _, _, values, _ in drawn[:200] for v in values]
    assert min(times) >= FILM_AT - timedelta(hours=24)
    assert max(times) < FILM_AT
    assert max(times) - min(times) > timedelta(hours=20)


def test_flags_agree_with_the_range_and_only_some_results_have_one(
    drawn: Drawn,
) -> None:
    labs = [
        v for _, _, values, _ in drawn for v in values if v.category == "laboratory"
    ]
    for v in labs:
        low, high = v.reference_low, v.reference_high
        if v.interpretation == "L":
            assert low is not None and v.value < low
        elif v.interpretation == "H":
            assert high is not None and v.value > high
        elif v.interpretation == "N":
            assert low is None or v.value >= low
            assert high is None or v.value <= high
    share = np.mean([v.interpretation is not None for v in labs])
    assert share == pytest.approx(0.5, abs=0.02)
    assert {v.interpretation for v in labs} == {None, "L", "N", "H"}
