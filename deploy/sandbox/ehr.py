"""The sandbox EHR as its parts share it: store, keys, tokens, addresses, clinician."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from deploy.sandbox.access_tokens import TokenSeal
from deploy.sandbox.keys import SandboxKeys, load_keys
from deploy.sandbox.launches import LaunchBook
from deploy.sandbox.store import Resource, Store

CLINICIAN_ID = "sandbox-clinician"
ENDPOINT_ID = "sandbox-dicomweb"
CLIENT_ID = "trivium"

# The same token opens the images (SMART Imaging Access draft, 0.1.0).
REQUIRES_TOKEN = (
    "http://fhir.org/argonaut/smart-imaging/StructureDefinition/requires-access-token"
)


@dataclass(frozen=True)
class Ehr:
    """One running sandbox: where it lives and what it holds."""

    store: Store
    keys: SandboxKeys
    tokens: TokenSeal
    base_url: str
    service_url: str
    launches: LaunchBook = field(default_factory=LaunchBook)

    @property
    def fhir_base(self) -> str:
        """FHIR base URL, which is also the SMART issuer."""
        return f"{self.base_url}/fhir"

    @property
    def dicomweb_base(self) -> str:
        """DICOMweb base URL."""
        return f"{self.base_url}/dicomweb"

    @property
    def redirect_uris(self) -> dict[str, tuple[str, ...]]:
        """Registered SMART clients and their exact redirect URIs."""
        return {CLIENT_ID: (f"{self.service_url}/smart/callback",)}

    def patient(self, patient_id: str) -> Resource | None:
        """The Patient resource, None when there is no such patient."""
        return self.store.get("Patient", patient_id)

    def encounter_id(self, patient_id: str) -> str | None:
        """The patient's encounter in progress, None when there is none."""
        for encounter in self.store.all("Encounter", patient_id):
            if encounter.get("status") == "in-progress":
                return str(encounter["id"])
        return None


def open_ehr(folder: Path | str, base_url: str, service_url: str) -> Ehr:
    """Open a store folder as an EHR; makes its keys, clinician and Endpoint."""
    store = Store(folder)
    keys = load_keys(Path(folder))
    ehr = Ehr(
        store=store,
        keys=keys,
        tokens=TokenSeal(keys.token_secret),
        base_url=base_url.rstrip("/"),
        service_url=service_url.rstrip("/"),
    )
    for resource in (_clinician(), _endpoint(ehr.dicomweb_base)):
        before = store.get(resource["resourceType"], resource["id"]) or {}
        if {k: v for k, v in before.items() if k != "meta"} != resource:
            store.put(resource)
    return ehr


def _clinician() -> Resource:
    return {
        "resourceType": "Practitioner",
        "id": CLINICIAN_ID,
        "active": True,
        "name": [{"family": "Sandbox", "given": ["Clinician"]}],
    }


def _endpoint(address: str) -> Resource:
    """The one DICOMweb endpoint; written at start, when the address is known."""
    return {
        "resourceType": "Endpoint",
        "id": ENDPOINT_ID,
        "extension": [{"url": REQUIRES_TOKEN, "valueBoolean": True}],
        "status": "active",
        "connectionType": {
            "system": "http://terminology.hl7.org/CodeSystem/endpoint-connection-type",
            "code": "dicom-wado-rs",
        },
        "payloadType": [{"text": "DICOM"}],
        "address": address,
    }
