"""DICOMweb of the sandbox, read back with pydicom."""

from __future__ import annotations

from email.parser import BytesParser
from io import BytesIO

import numpy as np
import pydicom
import pytest
from pydicom.uid import RLELossless

from deploy.sandbox.access_tokens import HOOK_SCOPE
from tests.sandbox.conftest import SERIES, SOP, STUDY, gradient_film

INSTANCE = f"/dicomweb/studies/{STUDY}/series/{SERIES}/instances/{SOP}"


def parts(answer) -> list[tuple[str, bytes]]:
    """Content type and body of each part of a multipart answer."""
    head = f"Content-Type: {answer.content_type}\r\n\r\n".encode()
    message = BytesParser().parsebytes(head + answer.data)
    return [(p["Content-Type"], p.get_payload(decode=True)) for p in message.walk()][1:]


@pytest.mark.parametrize(
    "accept",
    [
        'multipart/related; type="application/dicom"',
        'multipart/related; type="application/dicom"; transfer-syntax=*',
        "multipart/related",
        "*/*",
    ],
)
def test_an_instance_comes_back_as_it_was_stored(client, ehr, bearer, accept) -> None:
    answer = client.get(INSTANCE, headers={**bearer, "Accept": accept})
    assert answer.status_code == 200
    assert answer.content_type.startswith(
        'multipart/related; type="application/dicom"; boundary='
    )
    ((kind, body),) = parts(answer)
    assert kind == "application/dicom"
    stored = ehr.store.instances(STUDY)[0].read()
    assert body == stored
    film = pydicom.dcmread(BytesIO(body))
    assert (film.SOPInstanceUID, film.PatientID) == (SOP, "a")
    assert film.pixel_array.shape == (32, 40)
    assert np.ptp(film.pixel_array) == 4095


def test_other_accepts_are_406(client, bearer) -> None:
    for accept in ("application/dicom", 'multipart/related; type="image/jpeg"'):
        headers = {**bearer, "Accept": accept}
        assert client.get(INSTANCE, headers=headers).status_code == 406


def test_study_and_series_hold_all_their_instances(client, ehr, bearer) -> None:
    ehr.store.put_instance(gradient_film("a", STUDY, SERIES, "2.25.14"))
    ehr.store.put_instance(gradient_film("a", STUDY, "2.25.15", "2.25.16"))
    study = client.get(f"/dicomweb/studies/{STUDY}", headers=bearer)
    series = client.get(f"/dicomweb/studies/{STUDY}/series/{SERIES}", headers=bearer)
    assert (len(parts(study)), len(parts(series))) == (3, 2)


def test_metadata_is_dicom_json_without_pixels(client, bearer) -> None:
    for path in (f"/dicomweb/studies/{STUDY}", INSTANCE.rsplit("/", 2)[0], INSTANCE):
        answer = client.get(f"{path}/metadata", headers=bearer)
        assert answer.content_type == "application/dicom+json"
        (row,) = answer.json
        assert row["00080018"]["Value"] == [SOP]
        assert "7FE00010" not in row
        assert pydicom.Dataset.from_json(row).ViewPosition == "PA"


def test_qido_lists_the_patients_own_studies(client, bearer) -> None:
    answer = client.get("/dicomweb/studies", headers=bearer)
    assert [r["0020000D"]["Value"][0] for r in answer.json] == [STUDY]
    assert answer.json[0]["00080061"]["Value"] == ["DX"]

    def listed(query: str) -> int:
        return len(client.get(f"/dicomweb/studies?{query}", headers=bearer).json)

    assert listed(f"StudyInstanceUID={STUDY}") == 1
    assert listed("StudyInstanceUID=2.25.21") == 0
    assert (listed("PatientID=a"), listed("PatientID=zz")) == (1, 0)


def test_qido_lists_series_and_instances(client, bearer) -> None:
    (series,) = client.get(f"/dicomweb/studies/{STUDY}/series", headers=bearer).json
    assert series["0020000E"]["Value"] == [SERIES]
    for path in (f"studies/{STUDY}", f"studies/{STUDY}/series/{SERIES}"):
        (row,) = client.get(f"/dicomweb/{path}/instances", headers=bearer).json
        assert row["00280010"]["Value"] == [32]


@pytest.mark.parametrize("tail", ["", "/metadata", "/series", "/instances"])
def test_another_patients_study_is_403(client, bearer, tail) -> None:
    answer = client.get(f"/dicomweb/studies/2.25.21{tail}", headers=bearer)
    assert answer.status_code == 403


def test_a_study_that_nobody_owns_is_403_for_everybody(client, ehr, bearer) -> None:
    ehr.store.put_instance(gradient_film("a", "2.25.91", "2.25.92", "2.25.93"))
    answer = client.get("/dicomweb/studies/2.25.91", headers=bearer)
    assert answer.status_code == 403


def test_images_need_an_imaging_scope(client, ehr) -> None:
    token = ehr.tokens.issue("trivium", "a", "patient/Patient.rs patient/Endpoint.rs")
    headers = {"Authorization": f"Bearer {token}"}
    assert client.get(INSTANCE, headers=headers).status_code == 403
    assert "patient/ImagingStudy.rs" in HOOK_SCOPE


def test_unknown_instances_are_404(client, bearer) -> None:
    assert client.get(INSTANCE + "9", headers=bearer).status_code == 404
    assert client.get(f"{INSTANCE}/frames/2", headers=bearer).status_code == 404


def test_a_raw_frame_is_its_pixels(client, bearer) -> None:
    ((kind, body),) = parts(client.get(f"{INSTANCE}/frames/1", headers=bearer))
    assert kind.startswith(
        "application/octet-stream; transfer-syntax=1.2.840.10008.1.2.1"
    )
    pixels = np.frombuffer(body, "<u2").reshape(32, 40)
    assert pixels[0, 0] == 0 and pixels[-1, -1] == 4095


def test_a_compressed_frame_stays_compressed(client, ehr, bearer) -> None:
    film = pydicom.dcmread(BytesIO(gradient_film("a", STUDY, SERIES, SOP)))
    before = film.pixel_array.copy()
    film.compress(RLELossless, generate_instance_uid=False)
    buffer = BytesIO()
    film.save_as(buffer)
    ehr.store.put_instance(buffer.getvalue())
    ((kind, body),) = parts(client.get(f"{INSTANCE}/frames/1", headers=bearer))
    assert kind.endswith(str(RLELossless))
    assert len(body) < before.nbytes
    ((_, whole),) = parts(client.get(INSTANCE, headers=bearer))
    assert (pydicom.dcmread(BytesIO(whole)).pixel_array == before).all()
