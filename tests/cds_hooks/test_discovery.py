"""Discovery and the catalogue behind it."""

from __future__ import annotations

import re

import pytest

from cds_hooks import services
from tests.cds_hooks.ehr import Ehr
from tests.cds_hooks.invariants import empties
from tests.cds_hooks.service import PUBLIC, Service

# P1 and P2: tokens of root context fields; reads and plain searches only.
READ = re.compile(r"[A-Z][A-Za-z]+/\{\{context\.[A-Za-z]+\}\}")
SEARCH = re.compile(
    r"[A-Z][A-Za-z]+\?patient=\{\{context\.patientId\}\}(&(_sort|_count)=-?\w+)*"
)


def test_discovery_lists_every_service_as_the_specification_says(
    service: Service,
) -> None:
    response = service.client.get("/cds-services")
    assert response.status_code == 200
    assert response.mimetype == "application/json"
    body = response.get_json()
    assert list(empties(body)) == []
    assert {(s["id"], s["hook"]) for s in body["services"]} == set(services.SERVICES)
    for offered in body["services"]:
        assert offered["description"] and offered["title"]
        assert "not cleared" in offered["usageRequirements"].lower()
        assert all(isinstance(t, str) for t in offered["prefetch"].values())
        model = offered["extension"]["dev.trivium.service"]["model"]
        assert model["sha256"] == service.parts.model.sha256


def test_an_unchanged_document_is_not_sent_again(service: Service) -> None:
    tag = service.client.get("/cds-services").headers["ETag"]
    again = service.client.get("/cds-services", headers={"If-None-Match": tag})
    assert again.status_code == 304 and again.get_data() == b""
    other = service.client.get("/cds-services", headers={"If-None-Match": '"x"'})
    assert other.status_code == 200


def test_a_token_that_is_sent_must_be_good(service: Service, ehr: Ehr) -> None:
    url = f"{PUBLIC}/cds-services"
    good = {"Authorization": f"Bearer {ehr.token(url)}"}
    assert service.client.get("/cds-services", headers=good).status_code == 200
    bad = {"Authorization": f"Bearer {ehr.token(url + '/trivium-chest')}"}
    refused = service.client.get("/cds-services", headers=bad)
    assert refused.status_code == 401 and refused.get_data() == b""


@pytest.mark.parametrize("offered", list(services.SERVICES.values()))
def test_templates_stay_inside_the_recommended_subset(
    offered: services.Service,
) -> None:
    for template in offered.prefetch:
        assert READ.fullmatch(template.query) or SEARCH.fullmatch(template.query)
        assert template.required is (template.key == "patient")


def test_hooks_are_looked_up_by_id() -> None:
    assert services.hooks_of("trivium-chest") == {"patient-view"}
    assert services.hooks_of("nobody") == frozenset()
