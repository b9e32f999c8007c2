"""The way out to an EHR's servers, with a record of every call made through it.

Each interaction becomes an audit record (fhir.read, fhir.search, dicom.fetch), so what
was read on a patient's behalf can be listed later. One door is made for each gathering
and shares the tenant's pool of checked connections. Neither headers nor answers are
recorded: a token or a result must not reach the log (F3).
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

from audit.vocabulary import EventType
from fhir_adapters.access.outbound import OutboundDoor, Response
from fhir_adapters.access.outbound_policy import OutboundPolicy
from fhir_adapters.access.outbound_url import OutboundUrl
from fhir_adapters.errors import AdapterError


@dataclass(frozen=True, slots=True)
class Access:
    """One interaction: kind, what was asked for, and how it ended.

    ``status`` is 0 when there was no answer; ``reason`` is then the error's code.
    """

    kind: EventType
    server: str
    reference: str
    query: str
    status: int
    reason: str = ""


class RecordingDoor:
    """Passes every call to the tenant's door and keeps a line about it.

    Args:
        door: The tenant's guarded door.
        fhir_server: Base URL of the FHIR server, to tell reads from searches.
        dicomweb: Base URLs of the tenant's image archives.
    """

    def __init__(
        self, door: OutboundDoor, fhir_server: str, dicomweb: Sequence[str]
    ) -> None:
        self._door = door
        self._fhir_server = fhir_server
        self._dicomweb = tuple(dicomweb)
        self._accesses: list[Access] = []
        self._lock = threading.Lock()

    @property
    def policy(self) -> OutboundPolicy:
        """The policy of the tenant's door."""
        return self._door.policy

    def accesses(self) -> tuple[Access, ...]:
        """Everything recorded so far, in order of completion."""
        with self._lock:
            return tuple(self._accesses)

    def check(self, url: str) -> OutboundUrl:
        """As the tenant's door; opens no socket, so it is no access."""
        return self._door.check(url)

    def get(
        self,
        url: str,
        headers: Mapping[str, str] | None = None,
        deadline: float | None = None,
        *,
        max_bytes: int | None = None,
    ) -> Response:
        """As the tenant's door, recorded whether it succeeds or fails."""
        try:
            answer = self._door.get(url, headers, deadline, max_bytes=max_bytes)
        except AdapterError as error:
            self._note(url, 0, error.reason)
            raise
        self._note(url, answer.status)
        return answer

    def post_form(
        self,
        url: str,
        form: Mapping[str, str] | Sequence[tuple[str, str]],
        headers: Mapping[str, str] | None = None,
        deadline: float | None = None,
        *,
        max_bytes: int | None = None,
    ) -> Response:
        """A search by POST, recorded like the same search by GET."""
        asked = f"{url.removesuffix('/_search')}?{urlencode(form)}"
        try:
            answer = self._door.post_form(
                url, form, headers, deadline, max_bytes=max_bytes
            )
        except AdapterError as error:
            self._note(asked, 0, error.reason)
            raise
        self._note(asked, answer.status)
        return answer

    def _note(self, url: str, status: int, reason: str = "") -> None:
        with self._lock:
            self._accesses.append(
                describe(url, self._fhir_server, self._dicomweb, status, reason)
            )


def describe(
    url: str,
    fhir_server: str,
    dicomweb: Sequence[str],
    status: int,
    reason: str = "",
) -> Access:
    """The record of one call: a DICOMweb fetch, a FHIR read or a FHIR search."""
    for base in dicomweb:
        if url.startswith(f"{base}/"):
            path = url[len(base) + 1 :]
            return Access(EventType.DICOM_FETCH, base, path, "", status, reason)
    parts = urlsplit(url)
    base_path = urlsplit(fhir_server).path
    path = parts.path.removeprefix(base_path).strip("/") or "metadata"
    search = bool(parts.query) or "/" not in path
    return Access(
        EventType.FHIR_SEARCH if search else EventType.FHIR_READ,
        fhir_server or f"{parts.scheme}://{parts.netloc}",
        path,
        parts.query,
        status,
        reason,
    )
