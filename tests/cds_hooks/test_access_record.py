"""Every call to an EHR's server leaves a line; headers and answers leave none."""

from __future__ import annotations

import time

import pytest

from audit.vocabulary import EventType
from cds_hooks.access_record import RecordingDoor, describe
from cds_hooks.doors import TenantDoors
from cds_hooks.tenants import parse_tenants
from fhir_adapters.errors import OutboundRefusedError
from tests.cds_hooks.ehr import PATIENT_ID, Ehr

FHIR = "https://ehr.example/base/fhir"
DICOM = "https://pacs.example/dicomweb"


@pytest.mark.parametrize(
    ("url", "kind", "reference", "query"),
    [
        (f"{FHIR}/Patient/1", EventType.FHIR_READ, "Patient/1", ""),
        (
            f"{FHIR}/Observation?patient=1&_count=2",
            EventType.FHIR_SEARCH,
            "Observation",
            "patient=1&_count=2",
        ),
        (f"{FHIR}?_getpages=x", EventType.FHIR_SEARCH, "metadata", "_getpages=x"),
        (f"{DICOM}/studies/1.2", EventType.DICOM_FETCH, "studies/1.2", ""),
    ],
)
def test_calls_are_told_apart(
    url: str, kind: EventType, reference: str, query: str
) -> None:
    access = describe(url, FHIR, (DICOM,), 200)
    assert (access.kind, access.reference, access.query) == (kind, reference, query)
    assert access.server == (DICOM if kind is EventType.DICOM_FETCH else FHIR)


def test_without_a_fhir_server_the_origin_is_named() -> None:
    assert describe(f"{FHIR}/Binary/1", "", (), 200).server == "https://ehr.example"


def test_good_and_failed_calls_are_recorded(ehr: Ehr) -> None:
    (tenant,) = parse_tenants({"tenants": [ehr.tenant()]})
    doors = TenantDoors((tenant,), 2.0)
    door = RecordingDoor(doors.door_for(tenant), ehr.fhir, ())
    try:
        assert door.policy.loopback
        assert door.check(f"{ehr.fhir}/Patient/1").origin == ehr.base
        end = time.monotonic() + 2
        assert door.get(f"{ehr.fhir}/Patient/{PATIENT_ID}", {}, end).status == 200
        assert door.get(f"{ehr.fhir}/Patient/none", {}, end).status == 404
        with pytest.raises(OutboundRefusedError):
            door.get("https://evil.example/x", {}, end)
        seen = [(a.status, a.reason) for a in door.accesses()]
        assert seen == [(200, ""), (404, ""), (0, "origin_not_allowed")]
        assert doors.door_for(tenant) is doors.door_for(tenant)
    finally:
        doors.close()


def test_a_search_by_post_is_recorded_like_one_by_get(ehr: Ehr) -> None:
    (tenant,) = parse_tenants({"tenants": [ehr.tenant(post_search=True)]})
    assert tenant.post_search
    doors = TenantDoors((tenant,), 2.0)
    door = RecordingDoor(doors.door_for(tenant), ehr.fhir, ())
    end, form = time.monotonic() + 2, [("patient", "p1"), ("_count", "2")]
    try:
        # This server knows no POST: the answer is its own, the record is ours.
        status = door.post_form(f"{ehr.fhir}/Observation/_search", form, {}, end).status
        assert status == 501
        with pytest.raises(OutboundRefusedError):
            door.post_form("https://evil.example/x/_search", form, {}, end)
        first, second = door.accesses()
        assert (first.kind, first.reference) == (EventType.FHIR_SEARCH, "Observation")
        assert (first.query, first.status) == ("patient=p1&_count=2", 501)
        assert second.reason == "origin_not_allowed"
    finally:
        doors.close()
