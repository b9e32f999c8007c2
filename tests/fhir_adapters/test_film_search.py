"""Which film of which study: rejected films, presentation states, accession numbers."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from pydicom import dcmread

from fhir_adapters.access.dicomweb import DicomWebClient
from fhir_adapters.access.fhir_client import FhirClient
from fhir_adapters.access.film_choice import (
    PRESENTATION_STATE,
    UNCHECKED,
    choose_frontal,
    companions_in,
    companions_of,
)
from fhir_adapters.access.gather import Gather, GatherContext, Gathered, GatherPolicy
from fhir_adapters.access.outbound import OutboundDoor, OutboundPolicy
from fhir_adapters.assemble import assemble
from fhir_adapters.dicom.image import load_image
from fhir_adapters.errors import MalformedResourceError
from fhir_adapters.patient_record import Modality, ModalityStatus
from fhir_adapters.policy import AdapterPolicy
from fhir_adapters.prefetched import PrefetchedKey, PrefetchState
from tests.fhir_adapters.dicom_files import (
    LOSSLESS,
    PATIENT,
    SERIES,
    SOP,
    STUDY,
    dataset,
    file_bytes,
    film,
    htj2k_lossy,
    in_syntax,
    jpeg_baseline,
)
from tests.fhir_adapters.fhir_samples import (
    CUTOFF,
    SERIES_UID,
    SOP_UID,
    STUDY_UID,
    bundle,
    chest_image,
    concept,
    imaging_study,
    patient,
    report,
    series,
)
from tests.fhir_adapters.fhir_server import answer
from tests.fhir_adapters.orthanc import Orthanc, orthanc_server

ACCESSION = "ACC-77"
ACSN = {
    "type": concept(("http://terminology.hl7.org/CodeSystem/v2-0203", "ACSN")),
    "value": ACCESSION,
}
NULL = PrefetchedKey(PrefetchState.NULL)


def present(resource):
    return PrefetchedKey(PrefetchState.PRESENT, resource)


def dicom(**tags):
    return {tag.lstrip("T"): {"Value": value} for tag, value in tags.items()}


def listed(sop=SOP_UID, modality="DX", view="PA", rows=1000):
    return dicom(
        T00080018=[sop],
        T0020000E=[SERIES_UID],
        T00080060=[modality],
        T00185101=[view],
        T00280010=[rows],
        T00280011=[1000],
    )


def key_object(*sops, title="113001", scheme="DCM", modality="KO"):
    """A key object document that speaks of instances (PS3.3 C.17.6)."""
    named = [dicom(T00081155=[sop]) for sop in sops]
    in_series = [dicom(T00081199=named)]
    return {
        **listed("1.2.99", modality),
        **dicom(
            T0040A043=[dicom(T00080100=[title], T00080102=[scheme])],
            T0040A375=[dicom(T00081115=in_series)],
        ),
    }


class Chosen:
    """Stands where the decoding child stands."""

    def __init__(self):
        self.expected = []

    def __call__(self, data, *, expected, reference, origin, deadline=None):
        self.expected.append((expected, reference))
        return chest_image()


def gathered(door, keys, *, base, fhir=None, decode=None, adapters=AdapterPolicy()):
    nothing = ("observations", "reports", "documents", "imaging", "endpoints")
    context = GatherContext(
        patient_id="p1",
        prefetched={
            **dict.fromkeys(nothing, NULL),
            "patient": present(patient()),
            **keys,
        },
        fhir=fhir,
        door=door,
        dicomweb_bases=(base,) if base else (),
        patient_identifier_systems=("urn:mrn",),
        not_after=CUTOFF,
        policy=GatherPolicy(max_seconds=10.0),
        adapters=adapters,
    )
    with ThreadPoolExecutor(4) as pool:
        made = Gather(context, pool, decode=decode or Chosen())
        outcome = made.run(time.monotonic() + 10)
    assert isinstance(outcome, Gathered)
    return outcome


def serve_json(server, path, body, status=200):
    server.routes[path] = answer(
        json.dumps(body).encode(), status, Content_Type="application/dicom+json"
    )


def serve_film(server, sop=SOP_UID):
    body = b"--b\r\nContent-Type: application/dicom\r\n\r\nDICM\r\n--b--\r\n"
    path = f"/dw/studies/{STUDY_UID}/series/{SERIES_UID}/instances/{sop}"
    kind = 'multipart/related; type="application/dicom"; boundary=b'
    server.routes[path] = answer(body, 200, Content_Type=kind)


# --- loader rules 8 and 14: what else lies in the study -------------------------------


@pytest.mark.parametrize(
    ("document", "rejected"),
    [
        (key_object(SOP_UID), {SOP_UID}),
        (key_object(SOP_UID, "1.2.5", title="113037"), {SOP_UID, "1.2.5"}),
        (key_object(SOP_UID, title="113000"), set()),
        (key_object(SOP_UID, scheme="99SITE"), set()),
        (key_object(SOP_UID, modality="SR"), set()),
        ({"00080060": {"Value": ["KO"]}, "0040A043": {"Value": "x"}}, set()),
    ],
)
@pytest.mark.loader("R14")
def test_a_key_object_rejects_by_title_alone(document, rejected):
    assert companions_in([listed(), document]).rejected == rejected


@pytest.mark.loader("R14")
def test_the_rejected_film_is_passed_over_for_the_next_best():
    films = [listed(rows=3000), listed("1.2.5")]
    assert choose_frontal(films).sop_uid == SOP_UID
    assert choose_frontal(films, frozenset({SOP_UID})).sop_uid == "1.2.5"
    assert choose_frontal(films[:1], frozenset({SOP_UID})) is None


@pytest.mark.loader("R14")
def test_an_instance_listed_twice_is_one():
    assert choose_frontal([listed(), listed()]).sop_uid == SOP_UID


def image_of(server, door, study):
    keys = {"imaging": present(bundle(study))}
    found = gathered(door, keys, base=f"{server.origin}/dw")
    return found.images[0]


@pytest.mark.parametrize(
    ("listed_series", "status", "flags"),
    [
        (["DX"], 200, ()),
        (["DX", "PR"], 200, (PRESENTATION_STATE,)),
        ([], 204, ()),
        (["DX"], 501, (UNCHECKED,)),
    ],
)
@pytest.mark.loader("R8")
def test_presentation_states_are_looked_for_and_said(
    server, door, listed_series, status, flags
):
    serve_film(server)
    rows = [
        dicom(T0020000E=[f"1.2.{n}"], T00080060=[kind])
        for n, kind in enumerate(listed_series)
    ]
    serve_json(server, f"/dw/studies/{STUDY_UID}/series", rows, status)
    found = image_of(server, door, imaging_study(endpoint=None))
    assert found.image.flags == flags


@pytest.mark.loader("R14")
def test_a_single_film_that_a_key_object_rejects_is_not_used(server, door):
    serve_film(server)
    rows = [dicom(T0020000E=["1.2.9"], T00080060=["KO"])]
    serve_json(server, f"/dw/studies/{STUDY_UID}/series", rows)
    path = f"/dw/studies/{STUDY_UID}/series/1.2.9/metadata"
    serve_json(server, path, [key_object(SOP_UID)])
    found = image_of(server, door, imaging_study(endpoint=None))
    assert (found.image, found.reason) == (None, "film_rejected")
    serve_json(server, path, [key_object("1.2.3.4")])
    assert image_of(server, door, imaging_study(endpoint=None)).image is not None


@pytest.mark.loader("R8")
@pytest.mark.loader("R14")
def test_metadata_of_a_whole_study_spares_the_question(server, door):
    serve_film(server, "1.2.5")
    two = imaging_study(endpoint=None, series=[series(), series(uid="1.2.3")])
    rows = [listed(), listed("1.2.5"), listed("1.2.6", "PR"), key_object(SOP_UID)]
    serve_json(server, f"/dw/studies/{STUDY_UID}/metadata", rows)
    found = image_of(server, door, two)
    assert found.image.flags == (PRESENTATION_STATE,)
    assert not any(path.endswith("/series") for path in server.paths())


# --- the archive by accession number --------------------------------------------------


def row(uid=STUDY_UID, number=ACCESSION, patient_id="MRN-1", modality="DX", **more):
    tags = {
        "T0020000D": [uid],
        "T00080050": [number],
        "T00100020": [patient_id],
        "T00080061": [modality],
        "T00080020": ["20260301"],
        "T00080030": ["070000.5"],
        "T00080201": ["+0000"],
    }
    return dicom(**{**tags, **more})


def serve_archive(server, *rows):
    serve_json(server, "/dw/studies", list(rows))
    serve_json(server, f"/dw/studies/{STUDY_UID}/metadata", [listed()])
    serve_film(server)


def by_accession(server, door, *, keys=None, **more):
    keys = keys or {"reports": present(bundle(report(identifier=[ACSN])))}
    return gathered(door, keys, base=f"{server.origin}/dw", **more)


def test_a_study_unknown_to_fhir_is_found_by_its_reports_accession(server, door):
    serve_archive(server, row())
    decode = Chosen()
    found = by_accession(server, door, decode=decode)
    ((expected, reference),) = decode.expected
    assert reference == f"ImagingStudy/{STUDY_UID}"
    assert (expected.study_uid, expected.patient_ids) == (STUDY_UID, {"MRN-1"})
    assert found.failures == ()
    assert {token for _, token in server.requests} == {None}
    query = f"AccessionNumber={ACCESSION}&PatientID=MRN-1&limit=20"
    assert server.paths()[0] == f"/dw/studies?{query}"
    record = assemble(found.patient, found.received, found.images, cutoff=CUTOFF)
    assert record.presence()[Modality.IMAGE]
    # The report of this very film states the answer: it is left out.
    assert not record.presence()[Modality.TEXT]


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [row(number="ACC-78")],
        [row(patient_id="MRN-2")],
        [row(modality="CT")],
        [row(uid="../x")],
        [{}],
        # After the cutoff, and long before the look-back.
        [row(T00080020=["20260302"])],
        [row(T00080020=["19990302"])],
    ],
)
def test_a_row_that_is_not_what_was_asked_for_is_no_study(server, door, rows):
    serve_archive(server, *rows)
    found = by_accession(server, door)
    assert (found.images, found.failures) == ((), ())
    record = assemble(found.patient, found.received, found.images, cutoff=CUTOFF)
    assert record.states[Modality.IMAGE].status is ModalityStatus.ABSENT


def test_the_order_may_hold_the_number(server, door):
    serve_archive(server, row())
    server.json(
        "/ServiceRequest/sr1",
        {
            "resourceType": "ServiceRequest",
            "id": "sr1",
            "subject": {"reference": "Patient/p1"},
            "identifier": [ACSN],
        },
    )
    based = report(basedOn=[{"reference": "ServiceRequest/sr1"}])
    fhir = FhirClient(server.base, door, "t")
    keys = {"reports": present(bundle(based))}
    assert by_accession(server, door, keys=keys, fhir=fhir).images[0].image
    # Without a server to ask there is no number, hence no image and no failure.
    found = by_accession(server, door, keys=keys)
    assert (found.images, found.failures) == ((), ())
    strangers = report(basedOn=[{"reference": "ServiceRequest/sr2"}])
    keys = {"reports": present(bundle(strangers))}
    found = by_accession(server, door, keys=keys, fhir=fhir)
    assert (found.images, [f.partial for f in found.failures]) == ((), [True])


def test_a_logical_order_may_hold_the_number(server, door):
    serve_archive(server, row())
    keys = {"reports": present(bundle(report(basedOn=[{"identifier": ACSN}])))}
    assert by_accession(server, door, keys=keys).images[0].image


def test_a_study_without_uid_is_found_by_its_own_accession(server, door):
    serve_archive(server, row())
    keys = {"imaging": present(bundle(imaging_study(identifier=[ACSN])))}
    assert by_accession(server, door, keys=keys).images[0].image


def test_a_strangers_report_names_no_number(server, door):
    serve_archive(server, row())
    other = report(identifier=[ACSN], subject={"reference": "Patient/p2"})
    keys = {"reports": present(bundle(other))}
    found = by_accession(server, door, keys=keys)
    assert (found.images, server.requests) == ((), [])


def test_without_an_archive_nobody_is_asked(server, door):
    keys = {"reports": present(bundle(report(identifier=[ACSN])))}
    found = gathered(door, keys, base="")
    assert (found.images, server.requests) == ((), [])


def test_a_failing_archive_is_said(server, door):
    found = by_accession(server, door)
    assert found.images == ()
    assert [(f.step, f.reason, f.partial) for f in found.failures] == [
        ("image", "dicomweb_status", True)
    ]


def test_a_date_without_a_zone_needs_the_sites(server, door):
    serve_archive(server, row(T00080201=[]))
    for zone, started in ((None, None), (ZoneInfo("Europe/Rome"), "2026-03-01")):
        adapters = AdapterPolicy(site_zone=zone)
        found = by_accession(server, door, adapters=adapters)
        assert found.images[0].image
        (study,) = [
            r.resource
            for r in found.received
            if r.resource["resourceType"] == "ImagingStudy"
        ]
        assert study["started"] == "2026-03-01T07:00:00"
        assert (started is None) or study["started"].startswith(started)
    serve_archive(server, row(T00080030=[]))
    assert by_accession(server, door).images[0].image


@pytest.mark.parametrize("key", ["", "*", "A?", "A\\B", "A,B", "9" * 65])
def test_a_key_that_matches_more_than_itself_is_not_asked(server, door, key):
    client = DicomWebClient(f"{server.origin}/dw", door)
    with pytest.raises(MalformedResourceError):
        client.find_studies(key, "MRN-1")
    with pytest.raises(MalformedResourceError):
        client.find_studies("A", key)
    assert server.requests == []


def test_an_answer_that_is_no_dicom_json_is_refused(server, door):
    client = DicomWebClient(f"{server.origin}/dw", door)
    path = f"/dw/studies/{STUDY_UID}/series"
    server.routes[path] = answer(b"<html>", Content_Type="text/html")
    with pytest.raises(MalformedResourceError):
        client.find_series(STUDY_UID)


# --- a real archive, from FHIR to the decoded film ------------------------------------


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with orthanc_server(tmp_path_factory.mktemp("orthanc")) as running:
        yield running


class AuthorisedDoor:
    """The guarded door with the archive's password, which no client here knows."""

    def __init__(self, archive: Orthanc, door: OutboundDoor) -> None:
        self._door, self._authorization = door, archive.authorization

    def check(self, url):
        return self._door.check(url)

    def get(self, url, headers=None, deadline=None, *, max_bytes=None):
        headers = {**(headers or {}), "Authorization": self._authorization}
        return self._door.get(url, headers, deadline, max_bytes=max_bytes)


def stored(number: int, data: bytes, patient_id: str) -> tuple[str, bytes]:
    """The film under UIDs and an accession number of its own."""
    ds = pydicom_of(data)
    study = f"{STUDY}.{number}"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = study, f"{SERIES}.{number}"
    ds.SOPInstanceUID, ds.PatientID = f"{SOP}.{number}", patient_id
    ds.AccessionNumber = f"ACC-{number}"
    return study, file_bytes(ds)


def pydicom_of(data: bytes):
    return dcmread(BytesIO(data))


@pytest.mark.service("orthanc")
def test_every_syntax_comes_back_from_orthanc_by_accession(archive: Orthanc) -> None:
    sources = {name: in_syntax(name) for name in LOSSLESS}
    sources["jpeg"] = jpeg_baseline(film(bits=8).astype(np.uint8))
    sources["htj2k-lossy"] = htj2k_lossy()
    files = [stored(n, data, "MRN-1") for n, data in enumerate(sources.values())]
    archive.store(data for _, data in files)
    policy = OutboundPolicy(frozenset({archive.origin}), loopback=True)
    with OutboundDoor(policy) as opened:
        door = AuthorisedDoor(archive, opened)
        for number, (study, _) in enumerate(files):
            number_of = {**ACSN, "value": f"ACC-{number}"}
            keys = {"reports": present(bundle(report(identifier=[number_of])))}
            found = gathered(door, keys, base=archive.base, decode=_real_decode)
            assert found.failures == ()
            image = found.images[0].image
            assert image is not None, found.images[0].reason
            assert (image.study_uid, image.pixels.shape) == (study, (48, 40))
            assert image.transforms[0].startswith("decode ")
            assert "study-companions-unchecked" not in image.flags


def _real_decode(data, **arguments):
    arguments.pop("deadline", None)
    return load_image(data, **arguments)


@pytest.mark.service("orthanc")
def test_orthanc_tells_of_a_presentation_state(archive: Orthanc) -> None:
    study = f"{STUDY}.500"
    ds = dataset()
    ds.StudyInstanceUID = study
    state = dataset()
    del state.PixelData
    state.SOPClassUID = "1.2.840.10008.5.1.4.1.1.11.1"
    state.StudyInstanceUID, state.Modality = study, "PR"
    state.SeriesInstanceUID, state.SOPInstanceUID = f"{SERIES}.501", f"{SOP}.501"
    archive.store([file_bytes(ds), file_bytes(state)])
    policy = OutboundPolicy(frozenset({archive.origin}), loopback=True)
    with OutboundDoor(policy) as door:
        client = DicomWebClient(archive.base, door, authorization=archive.authorization)
        found = companions_of(client, study, time.monotonic() + 20)
        assert found.flags == (PRESENTATION_STATE,)
        assert client.find_studies("ACC-none", PATIENT) == []
