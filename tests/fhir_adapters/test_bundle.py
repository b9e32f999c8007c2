"""Bundles are opened entry by entry, and nothing in them vanishes."""

from __future__ import annotations

import pytest

from fhir_adapters.bundle import entry_refusal, index, walk
from fhir_adapters.prefetched import PrefetchedKey, PrefetchState
from fhir_adapters.received import Received
from tests.fhir_adapters.fhir_samples import bundle, observation, patient


def test_a_bundle_is_walked_in_order_with_its_search_modes():
    made = bundle(observation(), patient())
    made["entry"][1]["search"] = {"mode": "include"}
    found = list(walk(made, "prefetch"))
    assert [item.search_mode for item in found] == ["", "include"]
    assert {item.origin for item in found} == {"prefetch"}


def test_a_single_resource_is_itself():
    assert [item.resource for item in walk(observation(), "fhir")] == [observation()]


@pytest.mark.parametrize("entry", [None, "x", {}, []])
def test_bundles_without_entries_are_empty(entry):
    assert list(walk({"resourceType": "Bundle", "entry": entry}, "fhir")) == []


@pytest.mark.parametrize("entry", [1, {}, {"resource": []}, None])
def test_a_broken_entry_is_counted_as_malformed(entry):
    (found,) = walk({"resourceType": "Bundle", "entry": [entry]}, "fhir")
    assert entry_refusal(found) == "malformed_resource"


def test_a_transaction_resource_takes_the_id_of_its_full_url():
    made = bundle({"resourceType": "Observation"}, {"resourceType": "Observation"})
    made["entry"][0]["fullUrl"] = "urn:uuid:abc"
    made["entry"][1]["fullUrl"] = "https://x.example/Observation/1"
    first, second = walk(made, "folder")
    assert first.resource["id"] == "abc"
    assert entry_refusal(second) == "no_id"


@pytest.mark.parametrize(
    ("resource", "mode", "expected"),
    [
        ({"resourceType": "OperationOutcome"}, "", "operation_outcome"),
        ({"resourceType": "Observation", "id": "1"}, "outcome", "operation_outcome"),
        ({"resourceType": "observation"}, "", "malformed_resource"),
        ({"resourceType": ["Observation"]}, "", "malformed_resource"),
        ({"resourceType": "Observation", "id": "1"}, "include", "not_requested"),
        ({"resourceType": "Endpoint", "id": "1"}, "include", ""),
        ({"resourceType": "Observation", "id": "1"}, "match", ""),
        ({"resourceType": "Observation", "id": "../1"}, "", "malformed_id"),
        ({"resourceType": "Observation", "id": 1}, "", "malformed_id"),
        ({"resourceType": "Observation", "id": "x" * 129}, "", "malformed_id"),
    ],
)
def test_why_an_entry_is_not_looked_at(resource, mode, expected):
    assert entry_refusal(Received(resource, "fhir", mode)) == expected


def test_the_index_keeps_the_first_of_a_reference():
    first, second = observation(), observation(status="amended")
    found = index([Received(first, "a"), Received(second, "b"), Received({}, "c")])
    assert found == {"Observation/o1": first}


@pytest.mark.parametrize(
    ("prefetch", "state", "reason"),
    [
        ({}, PrefetchState.ABSENT, ""),
        ({"k": None}, PrefetchState.NULL, ""),
        ({"k": {"resourceType": "Bundle"}}, PrefetchState.PRESENT, ""),
        (
            {"k": {"resourceType": "OperationOutcome"}},
            PrefetchState.FAILED,
            "prefetch_failed",
        ),
        ({"k": []}, PrefetchState.FAILED, "prefetch_malformed"),
        ({"k": "x"}, PrefetchState.FAILED, "prefetch_malformed"),
    ],
)
def test_the_four_states_of_a_prefetch_key(prefetch, state, reason):
    key = PrefetchedKey.read(prefetch, "k")
    assert (key.state, key.reason) == (state, reason)
    assert (key.resource is not None) is (state is PrefetchState.PRESENT)
