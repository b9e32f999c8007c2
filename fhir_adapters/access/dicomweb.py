"""DICOMweb (PS3.18): which instances a study has, and the instance itself.

Rules:

1. UIDs are UIDs before a URL is built from them, else one could spell a path (CWE-22).
2. Everything goes through the guarded door; the token only to this client's own base.
3. Metadata is JSON with caps on bytes and instances; numbers stay exact.
4. An instance comes as exactly one part of a strict multipart. Its transfer syntax is
   whatever the archive stored (Orthanc ignores what Accept asks for), so the loader
   decodes; the single-part form of Accept is refused by Orthanc and not used.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from fhir_adapters.access.door import Door
from fhir_adapters.access.multipart import parts_of
from fhir_adapters.access.outbound import Response
from fhir_adapters.dicom.instance import is_uid
from fhir_adapters.errors import (
    MalformedResourceError,
    ResourceTooLargeError,
    UpstreamError,
)
from fhir_adapters.fhir_json import MAX_ANSWER_VALUES, parse_json

_DICOM = "application/dicom"
_METADATA_TYPES = frozenset({"application/dicom+json", "application/json"})
_MAX_INSTANCES = 2000
_MAX_KEY = 64
_MAX_STUDIES = 20


class DicomWebClient:
    """One DICOMweb service.

    Args:
        base_url: Its root, for example "https://pacs.example/dicom-web".
        door: The guarded door; its policy must allow the origin.
        token: Bearer token, only when the Endpoint asks for one.
        authorization: A whole Authorization value for archives that use another
            scheme than Bearer; not together with ``token``.
    """

    def __init__(
        self,
        base_url: str,
        door: Door,
        token: str | None = None,
        *,
        authorization: str | None = None,
    ) -> None:
        self._base = base_url.rstrip("/")
        self._door = door
        door.check(self._base)
        if token is not None:
            authorization = f"Bearer {token}"
        self._headers = {"Authorization": authorization} if authorization else {}

    def instances(
        self,
        study_uid: str,
        series_uid: str | None = None,
        deadline: float | None = None,
    ) -> list[dict[str, Any]]:
        """Metadata of every instance of a study or series, as DICOM JSON (PS3.18 F).

        Args:
            study_uid: StudyInstanceUID.
            series_uid: SeriesInstanceUID, None for the whole study.
            deadline: ``time.monotonic()`` value.

        Raises:
            MalformedResourceError: Not DICOM JSON, or too much of it.
            UpstreamError: Any status but 200, or no answer.
        """
        path = _path(study_uid, series_uid)
        answer = self._get(f"{path}/metadata", "application/dicom+json", deadline)
        if answer.content_type not in _METADATA_TYPES:
            raise MalformedResourceError("dicomweb_type")
        return _datasets(answer.body)

    def retrieve_instance(
        self,
        study_uid: str,
        series_uid: str,
        sop_uid: str,
        deadline: float | None = None,
    ) -> bytes:
        """One DICOM file, as stored.

        Raises:
            MalformedResourceError: The answer is not one DICOM part.
            UpstreamError: Any status but 200, or no answer.
        """
        path = _path(study_uid, series_uid, sop_uid)
        accept = f'multipart/related; type="{_DICOM}"; transfer-syntax=*'
        answer = self._get(path, accept, deadline)
        content_type = answer.headers.get("content-type", "")
        parts = parts_of(content_type, answer.body, part_type=_DICOM, max_parts=1)
        return parts[0]

    def find_series(
        self, study_uid: str, deadline: float | None = None
    ) -> list[dict[str, Any]]:
        """The series of a study (QIDO-RS), as DICOM JSON.

        Raises:
            MalformedResourceError: Not DICOM JSON, or too much of it.
            UpstreamError: Any status but 200 and 204, or no answer.
        """
        return self._find(f"{_path(study_uid, None)}/series", deadline)

    def find_studies(
        self, accession: str, patient_id: str, deadline: float | None = None
    ) -> list[dict[str, Any]]:
        """Studies of one accession number and patient (QIDO-RS), as DICOM JSON.

        Args:
            accession: AccessionNumber, 1 to 16 characters, matched as it is.
            patient_id: PatientID, matched as it is.
            deadline: ``time.monotonic()`` value.

        Raises:
            MalformedResourceError: Not DICOM JSON or too much of it, or a value that
                an archive would take for a pattern or a list.
            UpstreamError: Any status but 200 and 204, or no answer.
        """
        for value in (accession, patient_id):
            # "*" and "?" would match other patients' studies (PS3.4 C.2.2.2.4).
            if not value or len(value) > _MAX_KEY or set(value) & set("*?\\,"):
                raise MalformedResourceError("dicomweb_key")
        keys = {"AccessionNumber": accession, "PatientID": patient_id}
        return self._find(f"/studies?{urlencode(keys)}&limit={_MAX_STUDIES}", deadline)

    def _find(self, path: str, deadline: float | None) -> list[dict[str, Any]]:
        answer = self._get(path, "application/dicom+json", deadline, (200, 204))
        if answer.status == 204:
            return []
        if answer.content_type not in _METADATA_TYPES:
            raise MalformedResourceError("dicomweb_type")
        return _datasets(answer.body)

    def _get(
        self,
        path: str,
        accept: str,
        deadline: float | None,
        good: tuple[int, ...] = (200,),
    ) -> Response:
        headers = {**self._headers, "Accept": accept}
        answer = self._door.get(f"{self._base}{path}", headers, deadline)
        if answer.status not in good:
            raise UpstreamError("dicomweb_status", status=answer.status)
        return answer


def _path(study_uid: str, series_uid: str | None, sop_uid: str | None = None) -> str:
    """The path of a study, series or instance (rule 1)."""
    steps = (("studies", study_uid), ("series", series_uid), ("instances", sop_uid))
    path = ""
    for name, uid in steps:
        if uid is None:
            break
        if not is_uid(uid):
            raise MalformedResourceError("uid_malformed", name)
        path += f"/{name}/{uid}"
    return path


def _datasets(body: bytes) -> list[dict[str, Any]]:
    """A JSON list of objects (rule 3)."""
    found = parse_json(body, max_values=MAX_ANSWER_VALUES)
    if not isinstance(found, list) or not all(isinstance(d, dict) for d in found):
        raise MalformedResourceError("dicomweb_json")
    if len(found) > _MAX_INSTANCES:
        raise ResourceTooLargeError("dicomweb_instances")
    return found
