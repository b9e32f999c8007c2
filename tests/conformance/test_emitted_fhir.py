"""Everything we emit as FHIR, before three validators; and that they would notice."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cds_hooks.errors import MalformedRequestError, operation_outcome
from deploy.sandbox.capability import capability_statement
from deploy.sandbox.case_resources import case_resources
from deploy.sandbox.ehr import CLINICIAN_ID, ENDPOINT_ID, open_ehr
from deploy.sandbox.fhir_api import operation_outcome as sandbox_outcome
from deploy.sandbox.fhir_api import search_bundle
from model.synthetic.emit import to_fhir
from model.synthetic.generate import generate
from tests.conformance.fhir_gate import by_node, check

SAMPLES = json.loads(Path(__file__).with_name("fhir_samples.json").read_text())
pytestmark = pytest.mark.service("node")


@pytest.fixture(scope="module")
def emitted(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """One of each resource that the service, its generator and its sandbox write."""
    ehr = open_ehr(
        tmp_path_factory.mktemp("ehr"), "http://127.0.0.1:8081", "http://127.0.0.1:8080"
    )
    made: list[dict[str, Any]] = []
    for case in generate(3, 21, image_size=32):
        made += to_fhir(case).resources
    for resource in made:
        ehr.store.put(resource)
    row = {
        "case_id": "case-1",
        "age": 61,
        "sex": "F",
        "note_masked": "Cough for three days.",
        "values": {"crp": {"value": 12.5, "unit": "mg/L"}},
    }
    made += case_resources(row, datetime(2026, 3, 1, 8, tzinfo=UTC))
    patient = next(item["id"] for item in made if item["resourceType"] == "Patient")
    made += [
        search_bundle(ehr, "Observation", {}, patient),
        capability_statement(ehr),
        operation_outcome(MalformedRequestError("Not a hook request")),
        sandbox_outcome("not-found", "No such resource"),
    ]
    stored = (("Practitioner", CLINICIAN_ID), ("Endpoint", ENDPOINT_ID))
    made += [ehr.store.get(*name) or {} for name in stored]
    return json.loads(json.dumps(made, default=float))


def test_every_emitted_resource_passes_every_check(
    emitted: list[dict[str, Any]],
) -> None:
    kinds = Counter(item["resourceType"] for item in emitted)
    assert set(kinds) == {
        *("Patient", "Encounter", "Observation", "DocumentReference", "Endpoint"),
        *("ImagingStudy", "Bundle", "CapabilityStatement", "OperationOutcome"),
        "Practitioner",
    }
    broken = [
        (item["resourceType"], item.get("id"), found)
        for item, found in zip(emitted, check(emitted), strict=True)
        if not found.valid
    ]
    assert broken == []


def test_valid_samples_of_what_decision_support_writes_pass() -> None:
    kinds = {sample["resourceType"] for sample in SAMPLES["valid"]}
    assert kinds == {"AuditEvent", "GuidanceResponse", "RiskAssessment", "Observation"}
    assert all(found.valid for found in check(SAMPLES["valid"]))


def test_every_bad_sample_is_caught_by_those_that_should() -> None:
    caught = check([sample["resource"] for sample in SAMPLES["bad"]])
    for sample, found in zip(SAMPLES["bad"], caught, strict=True):
        by = [
            name
            for name in ("modelled", "structure", "bindings", "own")
            if getattr(found, name)
        ]
        assert by == sample["caught_by"], (sample["name"], found)


def test_bindings_that_cannot_be_expanded_are_counted() -> None:
    answer = by_node([])
    assert answer["bindings"] > 300
    assert len(answer["unexpanded"]) == 4
    assert "http://hl7.org/fhir/ValueSet/mimetypes" in answer["unexpanded"]
