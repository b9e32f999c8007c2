"""The CapabilityStatement at /fhir/metadata, written from the search table."""

from __future__ import annotations

from typing import Any

from deploy.sandbox.ehr import Ehr
from deploy.sandbox.fhir_search import SEARCH_PARAMETERS

_OAUTH_URIS = "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris"
_TYPES = {"patient": "reference", "id": "token"}


def capability_statement(ehr: Ehr) -> dict[str, Any]:
    """What this server can do, as R4 asks for it."""
    return {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": "2026-01-01",
        "kind": "instance",
        "software": {"name": "Trivium sandbox EHR"},
        "implementation": {
            "description": "Synthetic and demonstration patients, loopback only",
            "url": ehr.fhir_base,
        },
        "fhirVersion": "4.0.1",
        "format": ["application/fhir+json", "json"],
        "rest": [{"mode": "server", "security": _security(ehr), "resource": _types()}],
    }


def _security(ehr: Ehr) -> dict[str, Any]:
    return {
        "service": [
            {
                "coding": [
                    {
                        "system": "http://terminology.hl7.org/CodeSystem/"
                        "restful-security-service",
                        "code": "SMART-on-FHIR",
                    }
                ]
            }
        ],
        "extension": [
            {
                "url": _OAUTH_URIS,
                "extension": [
                    {"url": "authorize", "valueUri": f"{ehr.base_url}/authorize"},
                    {"url": "token", "valueUri": f"{ehr.base_url}/token"},
                ],
            }
        ],
    }


def _types() -> list[dict[str, Any]]:
    described = []
    for kind, parameters in sorted(SEARCH_PARAMETERS.items()):
        names = {"_id": "token", "_lastUpdated": "date"}
        names |= {n: _TYPES.get(sort, sort) for n, (sort, _) in parameters.items()}
        described.append(
            {
                "type": kind,
                "versioning": "versioned",
                "interaction": [{"code": "read"}, {"code": "search-type"}],
                "searchParam": [
                    {"name": n, "type": t} for n, t in sorted(names.items())
                ],
            }
        )
    binary = {"type": "Binary", "interaction": [{"code": "read"}]}
    return sorted([*described, binary], key=lambda item: str(item["type"]))
