"""The plugin's own FHIR, DICOMweb and SMART clients against the sandbox."""

from __future__ import annotations

import base64
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from urllib.parse import parse_qsl, urlsplit

import httpx
import numpy as np
import pytest

from deploy.sandbox.access_tokens import HOOK_SCOPE
from deploy.sandbox.ehr import Ehr
from deploy.sandbox.import_cases import CaseFilter, import_folder
from deploy.sandbox.launches import LaunchContext
from deploy.sandbox.synthetic_cases import add_synthetic
from fhir_adapters.access.fhir_client import FhirClient
from fhir_adapters.access.gather import Gather
from fhir_adapters.access.gather_types import GatherContext, Gathered
from fhir_adapters.access.outbound import OutboundDoor
from fhir_adapters.access.outbound_policy import OutboundPolicy
from fhir_adapters.access.smart_oauth import SmartClient
from fhir_adapters.access.smart_types import Registration
from fhir_adapters.assemble import assemble
from fhir_adapters.patient_record import Modality, ModalityStatus, PatientRecord
from fhir_adapters.policy import AdapterPolicy
from tests.sandbox.test_import_cases import case, write_folder


@pytest.fixture
def live(running) -> Ehr:
    """The listening sandbox with synthetic patients and a published case."""
    now = datetime.now(UTC)
    store = running.ehr.store
    add_synthetic(store, 4, 9, now, image_size=64, quiet=True)
    source = write_folder(running.ehr.store.folder.parent / "source", case("cx-1"))
    import_folder(source, store, CaseFilter(), now.date(), quiet=True)
    return running.ehr


def record_of(ehr: Ehr, patient: str) -> PatientRecord:
    """What the plugin makes of a patient, fetched over HTTP."""
    token = ehr.tokens.issue("trivium", patient, HOOK_SCOPE)
    origins = frozenset({ehr.base_url})
    cutoff = datetime.now(UTC)
    policy = AdapterPolicy(fhir_base=ehr.fhir_base)
    with (
        OutboundDoor(OutboundPolicy(origins, loopback=True)) as door,
        ThreadPoolExecutor(6) as pool,
    ):
        context = GatherContext(
            patient_id=patient,
            prefetched={},
            fhir=FhirClient(ehr.fhir_base, door, token),
            door=door,
            dicomweb_bases=(ehr.dicomweb_base,),
            access_token=token,
            not_after=cutoff,
            adapters=policy,
        )
        gathered = Gather(context, pool).run(time.monotonic() + 30)
    assert isinstance(gathered, Gathered)
    assert gathered.failures == ()
    assert gathered.patient is not None
    return assemble(
        gathered.patient,
        gathered.received,
        gathered.images,
        cutoff=cutoff,
        policy=policy,
        unavailable=gathered.unavailable,
    )


def test_a_whole_patient_arrives_whole(live: Ehr) -> None:
    record = record_of(live, "synthetic-9-1")
    assert all(record.presence().values())
    (document,) = live.store.all("DocumentReference", "synthetic-9-1")
    data = base64.b64decode(document["content"][0]["attachment"]["data"])
    assert record.notes[0].text == data.decode()
    assert len(record.values) == len(live.store.all("Observation", "synthetic-9-1"))
    (image,) = record.images
    stored = live.store.instances(image.study_uid)[0].dataset().pixel_array
    assert np.abs(image.pixels - stored / 4095).max() < 0.01
    assert image.view == "PA"


@pytest.mark.parametrize(
    ("patient", "hole"),
    [
        ("synthetic-9-2", Modality.IMAGE),
        ("synthetic-9-3", Modality.TEXT),
        ("synthetic-9-4", Modality.VALUES),
    ],
)
def test_a_hole_arrives_as_absent(live: Ehr, patient: str, hole: Modality) -> None:
    states = record_of(live, patient).states
    assert {m for m in Modality if states[m].status is ModalityStatus.ABSENT} == {hole}


def test_a_published_case_arrives_without_a_made_up_number(live: Ehr) -> None:
    record = record_of(live, "cx-1")
    assert record.presence()[Modality.IMAGE] and record.presence()[Modality.TEXT]
    assert {value.loinc for value in record.values} >= {"1988-5", "59408-5"}
    # the value off the scale has no number and must not have got one on the way
    assert all(value.name != "D-dimer" for value in record.values)
    assert record.notes[0].text == "Cough. The diagnosis is [MASK]."


def test_the_plugin_launches_from_the_sandbox(live: Ehr) -> None:
    origins = frozenset({live.base_url})
    registration = Registration(
        issuer=live.fhir_base,
        client_id="trivium",
        redirect_uri=f"{live.service_url}/smart/callback",
    )
    launch = live.launches.open_launch(LaunchContext("a", "visit-a", "job-1"))
    with OutboundDoor(OutboundPolicy(origins, loopback=True)) as door:
        client = SmartClient(door, [registration])
        scopes = "launch openid fhirUser patient/Patient.r patient/Observation.rs"
        url, pending = client.begin(live.fhir_base, launch, scopes)
        back = httpx.get(url, trust_env=False).headers["Location"]
        tokens = client.complete(pending, dict(parse_qsl(urlsplit(back).query)))
    assert (tokens.patient, tokens.encounter) == ("a", "visit-a")
    assert tokens.app_context == "job-1"
    assert tokens.fhir_user.endswith("Practitioner/sandbox-clinician")
