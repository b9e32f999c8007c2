"""DICOMweb at /dicomweb: QIDO-RS and WADO-RS over the instances of the store.

What is served (DICOM PS3.18): search for studies, series and instances; metadata as
``application/dicom+json``; instances as ``multipart/related; type="application/dicom"``
in their stored transfer syntax; frames as ``multipart/related``. The bearer rule is
that of the FHIR side: no token 401, a study of another patient than the token's 403,
a token without an ImagingStudy scope 403.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable
from typing import Any

from flask import Blueprint, Response, request
from pydicom import Dataset
from pydicom.encaps import generate_frames

from deploy.sandbox.access_tokens import Grant, bearer_grant
from deploy.sandbox.ehr import Ehr
from deploy.sandbox.errors import RequestError
from deploy.sandbox.store import StoredInstance

_STUDY_TAGS = (
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "PatientID",
    "StudyInstanceUID",
    "StudyDescription",
)
_SERIES_TAGS = (
    "Modality",
    "SeriesInstanceUID",
    "SeriesDescription",
    "BodyPartExamined",
)
_INSTANCE_TAGS = ("SOPClassUID", "SOPInstanceUID", "Rows", "Columns", "ViewPosition")


def dicomweb_blueprint(ehr: Ehr) -> Blueprint:
    """The routes below /dicomweb."""
    routes = Blueprint("dicomweb", __name__, url_prefix="/dicomweb")
    study_rule = "/studies/<study>"
    series_rule = f"{study_rule}/series/<series>"
    instance_rule = f"{series_rule}/instances/<sop>"

    @routes.get("/studies")
    def find_studies() -> Response:
        return _find_studies(ehr, _grant(ehr))

    @routes.get(f"{study_rule}/series")
    def find_series(study: str) -> Response:
        found = {i.series_uid: i for i in _allowed(ehr, study)}
        return _dicom_json(_tags(i, _SERIES_TAGS) for i in found.values())

    @routes.get(f"{study_rule}/instances")
    @routes.get(f"{series_rule}/instances")
    def find_instances(study: str, series: str | None = None) -> Response:
        found = _allowed(ehr, study, series)
        return _dicom_json(_tags(i, _SERIES_TAGS + _INSTANCE_TAGS) for i in found)

    @routes.get(f"{study_rule}/metadata")
    @routes.get(f"{series_rule}/metadata")
    @routes.get(f"{instance_rule}/metadata")
    def metadata(
        study: str, series: str | None = None, sop: str | None = None
    ) -> Response:
        found = _allowed(ehr, study, series, sop)
        return _dicom_json(i.dataset(pixels=False) for i in found)

    @routes.get(study_rule)
    @routes.get(series_rule)
    @routes.get(instance_rule)
    def retrieve(
        study: str, series: str | None = None, sop: str | None = None
    ) -> Response:
        found = _allowed(ehr, study, series, sop)
        _check_accept("application/dicom")
        return _multipart("application/dicom", (i.read() for i in found))

    @routes.get(f"{instance_rule}/frames/<int:number>")
    def frames(study: str, series: str, sop: str, number: int) -> Response:
        found = _allowed(ehr, study, series, sop)
        _check_accept("application/octet-stream")
        return _frame(found[0].dataset(), number)

    return routes


def _grant(ehr: Ehr) -> Grant:
    grant = bearer_grant(ehr.tokens, request.headers.get("Authorization"))
    if not (grant.allows("ImagingStudy", "r") or grant.allows("ImagingStudy", "s")):
        raise RequestError(403, "forbidden", "scope does not cover images")
    return grant


def _allowed(
    ehr: Ehr, study: str, series: str | None = None, sop: str | None = None
) -> list[StoredInstance]:
    """The instances asked for, if the token's patient is theirs."""
    grant = _grant(ehr)
    found = ehr.store.instances(study, series, sop)
    if not found:
        raise RequestError(404, "not-found", "no such instance")
    # A study that no ImagingStudy names belongs to nobody and is given to nobody.
    if ehr.store.study_patient(study) != grant.patient:
        raise RequestError(403, "forbidden", "outside the patient of this token")
    return found


def _find_studies(ehr: Ehr, grant: Grant) -> Response:
    """QIDO-RS for studies by StudyInstanceUID and PatientID, newest first."""
    wanted = request.args.get("StudyInstanceUID", "")
    patient_id = request.args.get("PatientID", "")
    rows = []
    for study in ehr.store.studies():
        if ehr.store.study_patient(study) != grant.patient:
            continue
        header = ehr.store.instances(study)[0].dataset(pixels=False)
        if wanted and study not in wanted.replace("\\", ",").split(","):
            continue
        if patient_id and header.get("PatientID", "") != patient_id:
            continue
        row = _pick(header, _STUDY_TAGS)
        row.ModalitiesInStudy = header.get("Modality", "")
        rows.append(row)
    rows.sort(key=lambda row: str(row.get("StudyDate", "")), reverse=True)
    return _dicom_json(rows)


def _tags(instance: StoredInstance, keywords: tuple[str, ...]) -> Dataset:
    return _pick(
        instance.dataset(pixels=False), ("StudyInstanceUID", "PatientID") + keywords
    )


def _pick(header: Dataset, keywords: tuple[str, ...]) -> Dataset:
    picked = Dataset()
    for keyword in keywords:
        if keyword in header:
            picked[keyword] = header[keyword]
    return picked


def _dicom_json(datasets: Iterable[Dataset]) -> Response:
    body = json.dumps([ds.to_json_dict() for ds in datasets])
    return Response(body, content_type="application/dicom+json")


def _check_accept(part: str) -> None:
    """Refuse an Accept that this server cannot serve (PS3.18, section 8.7.5)."""
    accept = request.headers.get("Accept", "*/*")
    kinds = {item.split(";")[0].strip() for item in accept.split(",")}
    named = f'type="{part}"' in accept or f"type={part}" in accept
    bare = "multipart/related" in kinds and "type=" not in accept
    if not ("*/*" in kinds or named or bare):
        raise RequestError(406, "not-supported", f"served as multipart of {part}")


def _frame(dataset: Any, number: int) -> Response:
    """One frame, 1-based: raw, or still compressed with its transfer syntax named."""
    total = int(dataset.get("NumberOfFrames", 1) or 1)
    if not 1 <= number <= total:
        raise RequestError(404, "not-found", "no such frame")
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax.is_encapsulated:
        frames = generate_frames(dataset.PixelData, number_of_frames=total)
        data = list(frames)[number - 1]
    else:
        size = int(dataset.Rows) * int(dataset.Columns)
        size *= int(dataset.SamplesPerPixel) * int(dataset.BitsAllocated) // 8
        data = dataset.PixelData[(number - 1) * size : number * size]
    kind = f"application/octet-stream; transfer-syntax={syntax}"
    return _multipart(kind, [data])


def _multipart(part_type: str, parts: Iterable[bytes]) -> Response:
    """A ``multipart/related`` body (RFC 2387) with a boundary no part contains."""
    boundary = f"sandbox-{secrets.token_hex(16)}"
    body = b""
    for part in parts:
        body += f"--{boundary}\r\nContent-Type: {part_type}\r\n".encode()
        body += f"Content-Length: {len(part)}\r\n\r\n".encode() + part + b"\r\n"
    body += f"--{boundary}--\r\n".encode()
    root = part_type.split(";")[0]
    kind = f'multipart/related; type="{root}"; boundary={boundary}'
    return Response(body, content_type=kind, headers={"Cache-Control": "no-store"})
