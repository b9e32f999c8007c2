"""Search semantics: tokens, dates, order, modifiers."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from deploy.sandbox.errors import RequestError
from deploy.sandbox.fhir_dates import interval_of, matches_date, parse_date
from deploy.sandbox.fhir_search import parameters_of, search
from deploy.sandbox.store import Store
from tests.sandbox.conftest import observation

DAY = "2026-03-02"


@pytest.fixture
def store(tmp_path) -> Store:
    """Observations with codes of two systems, several dates and none."""
    filled = Store(tmp_path)
    filled.put(observation("o1", "a", "1", 1.0, "2026-03-01T23:59:59Z"))
    filled.put(observation("o2", "a", "1", 1.0, "2026-03-02T00:00:00Z"))
    filled.put(observation("o3", "a", "2", 1.0, "2026-03"))
    local = {"coding": [{"code": "1"}, {"system": "urn:x", "code": "9"}]}
    filled.put({**observation("o4", "a", "2", 1.0, "2026-03-05"), "code": local})
    undated = observation("o5", "b", "3", 1.0, DAY, status="preliminary")
    del undated["effectiveDateTime"]
    undated["effectivePeriod"] = {"start": "2026-04-01"}
    filled.put(undated)
    never = observation("o6", "b", "3", 1.0, DAY)
    del never["effectiveDateTime"]
    filled.put(never)
    filled.put(
        {
            "resourceType": "Patient",
            "id": "a",
            "name": [{"family": "Moorwen", "given": ["Zofia", "Ann"]}],
            "identifier": [{"system": "urn:mrn", "value": "77"}],
            "birthDate": "1950-02",
        }
    )
    return filled


def found(store: Store, query: str, kind: str = "Observation") -> list[str]:
    """Ids that a query string finds, in order."""
    return [r["id"] for r in search(store, kind, parameters_of(query)).matches]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("code=1", ["o1", "o2", "o4"]),
        ("code=http://loinc.org|1", ["o1", "o2"]),
        ("code=http%3A%2F%2Floinc.org%7C1,urn:x|9", ["o1", "o2", "o4"]),
        ("code=|1", ["o4"]),
        ("code=urn:x|", ["o4"]),
        ("code=http://loinc.org|", ["o1", "o2", "o3", "o5", "o6"]),
        ("code=1&code=9", ["o4"]),
        ("status=preliminary", ["o5"]),
        ("category=laboratory&patient=b", ["o5", "o6"]),
        ("subject=Patient/b,a&code=2", ["o3"]),
        ("_id=o2,o5", ["o2", "o5"]),
        ("date=2026-03-02", ["o2"]),
        ("date=ge2026-03-02&date=lt2026-03-06", ["o2", "o3", "o4"]),
        ("date=lt2026-03-02", ["o1", "o3"]),
        ("date=sa2026-03-31", ["o5"]),
        ("date=eb2026-03-02", ["o1"]),
        ("date=2026-03-01,2026-03-05", ["o1", "o4"]),
        ("date=ne2026-03", ["o5"]),
        ("_lastUpdated=gt2000", ["o1", "o2", "o3", "o4", "o5", "o6"]),
        ("_sort=-date", ["o5", "o4", "o2", "o1", "o3", "o6"]),
        ("_sort=date", ["o3", "o1", "o2", "o4", "o5", "o6"]),
        ("_sort=-_id", ["o6", "o5", "o4", "o3", "o2", "o1"]),
    ],
)
def test_observation_queries(store: Store, query: str, expected: list[str]) -> None:
    assert sorted(found(store, query)) == sorted(expected)
    if "_sort" in query:
        assert found(store, query) == expected


@pytest.mark.parametrize(
    ("query", "hit"),
    [
        ("name=moor", True),
        ("name=ann,xyz", True),
        ("name=oor", False),
        ("identifier=urn:mrn|77", True),
        ("identifier=urn:other|77", False),
        ("birthdate=1950", True),
        ("birthdate=gt1950-02", False),
        ("gender=female", False),
    ],
)
def test_patient_queries(store: Store, query: str, hit: bool) -> None:
    assert found(store, query, "Patient") == (["a"] if hit else [])


@pytest.mark.parametrize(
    "name", ["code:text", "date:missing", "patient:Group", "_id:x"]
)
def test_a_modifier_is_refused_never_ignored(store: Store, name: str) -> None:
    with pytest.raises(RequestError) as refused:
        search(store, "Observation", [(name, "1")])
    assert refused.value.status == 400


def test_unknown_sort_is_reported_or_refused(store: Store) -> None:
    result = search(store, "Observation", [("_sort", "colour,-date")])
    assert result.ignored == ["_sort=colour"]
    with pytest.raises(RequestError):
        search(store, "Observation", [("_sort", "colour")], strict=True)


def test_count_is_capped(store: Store) -> None:
    assert search(store, "Observation", [("_count", "999999")]).count == 200


def test_no_search_on_types_that_are_not_served(store: Store) -> None:
    with pytest.raises(RequestError) as refused:
        search(store, "Medication", [])
    assert refused.value.status == 404


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("2024", (2024, 1, 1), (2025, 1, 1)),
        ("2024-02", (2024, 2, 1), (2024, 3, 1)),
        ("2024-12", (2024, 12, 1), (2025, 1, 1)),
        ("2024-02-29", (2024, 2, 29), (2024, 3, 1)),
        ("2024-02-29T23:30", (2024, 2, 29, 23, 30), (2024, 2, 29, 23, 31)),
        ("2024-01-01T01:00:00+02:00", (2023, 12, 31, 23), (2023, 12, 31, 23, 0, 1)),
        ("2024-01-01T00:00:00-00:30", (2024, 1, 1, 0, 30), (2024, 1, 1, 0, 30, 1)),
    ],
)
def test_a_date_is_as_long_as_it_is_vague(text, start, end) -> None:
    interval = parse_date(text)
    assert interval.start == datetime(*start, tzinfo=UTC)
    assert interval.end == datetime(*end, tzinfo=UTC)


def test_fractions_of_a_second_count() -> None:
    assert parse_date("2024-01-01T00:00:00.250Z").start.microsecond == 250_000


@pytest.mark.parametrize(
    "bad", ["", "24-01-01", "2024-13", "2024-02-30", "now", "2024-1"]
)
def test_what_is_no_date_is_refused(bad: str) -> None:
    with pytest.raises(ValueError):
        parse_date(bad)
    assert interval_of(bad) is None


def test_open_periods_reach_to_the_end_of_time() -> None:
    ended = interval_of({"end": "2024-05-05"})
    running = interval_of({"start": "2024-05-05"})
    assert ended is not None and matches_date(ended, "eb2024-05-06")
    assert running is not None and matches_date(running, "gt2999")
    assert interval_of({}) is None and interval_of(17) is None


def test_ge_and_le_hold_for_the_day_itself() -> None:
    day = parse_date(DAY)
    assert matches_date(day, f"ge{DAY}") and matches_date(day, f"le{DAY}")
    assert not matches_date(day, f"gt{DAY}") and not matches_date(day, f"lt{DAY}")
