"""Read and search one FHIR R4 server through the guarded door.

Rules this module enforces on top of the door's own (:mod:`.outbound`):

1. One base. ``next`` links, attachment URLs and absolute references are followed only
   on the base's origin and below its path; the token goes nowhere else (S33, token
   theft by a link to another server).
2. An answer is JSON, of bounded size and depth, without NaN (:mod:`..fhir_json`).
3. Paging ends: at the page cap, at the entry cap, at a link seen before, at the
   deadline (a server whose ``next`` never ends). What is missing is said.
4. An OperationOutcome or an HTTP error becomes a typed error with a reason code; its
   text, which may hold PHI, is never read into one.
5. 429 and 503 are tried once more, when the server says when and there is time (S34).

    client = FhirClient("https://ehr.example/fhir", door, token)
    patient = client.read("Patient", "p1", monotonic() + 0.3)
"""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urljoin

from fhir_adapters.access.door import Door
from fhir_adapters.access.outbound import Response
from fhir_adapters.access.outbound_url import parse_url
from fhir_adapters.bundle import entry_refusal, walk
from fhir_adapters.errors import (
    AdapterError,
    MalformedResourceError,
    OutboundRefusedError,
    UpstreamError,
)
from fhir_adapters.fhir_json import parse_json
from fhir_adapters.resources.elements import (
    children,
    resource_id,
    resource_type,
    text,
)

JSON_TYPES = frozenset(
    {"application/fhir+json", "application/json", "application/json+fhir", ""}
)
_REASONS = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    410: "gone",
    429: "rate_limited",
}
_TYPE = re.compile(r"[A-Z][A-Za-z]{1,63}")
_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_RETRY_STATUSES = frozenset({429, 503})
_MAX_RETRY_WAIT = 2.0  # seconds; a hook has no longer
_MAX_ENTRIES = 10_000


@dataclass(frozen=True, slots=True)
class SearchPages:
    """Bundles of one search; ``incomplete`` is a reason code when some are missing."""

    bundles: tuple[dict[str, Any], ...]
    incomplete: str = ""


class FhirClient:
    """One FHIR server and one token; safe to share by threads.

    Args:
        base_url: The service base, for example ``https://ehr.example/fhir``.
        door: Where every request goes through; its policy must allow the base.
        token: Bearer token of this server, None for an open one.

    Raises:
        OutboundRefusedError: The door's policy does not allow the base.
    """

    def __init__(self, base_url: str, door: Door, token: str | None) -> None:
        parsed = door.check(base_url)
        if parsed.query:
            raise OutboundRefusedError("url_malformed", "a base has no query")
        self._origin = parsed.origin
        self._path = parsed.path.rstrip("/")
        self._door = door
        self._token = token

    def __repr__(self) -> str:
        """The base only: a token in a traceback is a token in a log."""
        return f"FhirClient({self.base_url})"

    @property
    def base_url(self) -> str:
        """The base in canonical form, without a slash at its end."""
        return self._origin + self._path

    def absolute(self, url: str) -> str:
        """Resolve ``url`` against the base and refuse what lies outside of it.

        Raises:
            OutboundRefusedError: Malformed, or ``outside_base`` (rule 1).
        """
        parsed = parse_url(urljoin(self.base_url + "/", url))
        below = parsed.path == self._path or parsed.path.startswith(self._path + "/")
        if parsed.origin != self._origin or not below:
            raise OutboundRefusedError("outside_base")
        return str(parsed)

    def read(self, kind: str, logical_id: str, deadline: float) -> dict[str, Any]:
        """Read one resource.

        Args:
            kind: Resource type.
            logical_id: Its id.
            deadline: ``time.monotonic()`` seconds.

        Raises:
            UpstreamError: The server's error, by status.
            MalformedResourceError: Not this resource.
            OutboundRefusedError: The id is not safe in a URL.
        """
        if not _TYPE.fullmatch(kind) or not _ID.fullmatch(logical_id):
            raise OutboundRefusedError("url_malformed", "type or id")
        if set(logical_id) <= {"."}:
            raise OutboundRefusedError("url_path", "id")
        resource = self._json(f"{self.base_url}/{kind}/{logical_id}", deadline)
        if resource_type(resource) != kind or resource_id(resource) != logical_id:
            raise MalformedResourceError("unexpected_resource")
        return resource

    def search_pages(
        self,
        kind: str,
        params: Mapping[str, str],
        deadline: float,
        *,
        max_pages: int = 5,
    ) -> SearchPages:
        """Search and follow ``next``; the first page must succeed, later ones may not.

        Returns:
            The Bundles and, in ``incomplete``, ``page_cap``, ``entry_cap``,
            ``next_loop``, ``outside_base`` or why a later page failed.

        Raises:
            AdapterError: As :meth:`read`, for the first page.
        """
        if not _TYPE.fullmatch(kind):
            raise OutboundRefusedError("url_malformed", "type")
        url = f"{self.base_url}/{kind}?{urlencode(params)}"
        return self._pages(_Pages(), url, deadline, max_pages)

    def more_pages(
        self, bundle: dict[str, Any], deadline: float, *, max_pages: int = 5
    ) -> SearchPages:
        """Continue a Bundle that somebody else began, such as an EHR's prefetch.

        Returns:
            The pages after ``bundle``, without it.

        Raises:
            AdapterError: As :meth:`search_pages`, for the first page asked for.
        """
        pages = _Pages()
        following, pages.incomplete = self._following(bundle)
        return self._pages(pages, following, deadline, max_pages)

    def _pages(
        self, pages: _Pages, url: str, deadline: float, max_pages: int
    ) -> SearchPages:
        while url and not pages.incomplete:
            try:
                bundle = self._bundle(url, deadline)
            except AdapterError as error:
                if not pages.bundles:
                    raise
                pages.incomplete = error.reason
                break
            following, refused = self._following(bundle)
            pages.add(url, bundle, following, max_pages)
            pages.incomplete = refused or pages.incomplete
            url = following
        return SearchPages(tuple(pages.bundles), pages.incomplete)

    def search(
        self,
        kind: str,
        params: Mapping[str, str],
        deadline: float,
        *,
        max_pages: int = 5,
    ) -> list[dict[str, Any]]:
        """The matching resources of type ``kind``; includes and outcomes left out.

        Raises:
            AdapterError: As :meth:`search_pages`; and UpstreamError with the reason
                when a page is missing for any reason but the page cap.
        """
        found = self.search_pages(kind, params, deadline, max_pages=max_pages)
        if found.incomplete not in ("", "page_cap"):
            raise UpstreamError(found.incomplete, "search is incomplete")
        return [
            entry.resource
            for bundle in found.bundles
            for entry in walk(bundle, "fhir")
            if resource_type(entry.resource) == kind and not entry_refusal(entry)
        ]

    def attachment_data(self, url: str, deadline: float, *, max_bytes: int) -> str:
        """Fetch an attachment's bytes as base64, from a Binary or as they are.

        Raises:
            AdapterError: Outside the base, an error of the server, or no Binary.
        """
        accept = "application/fhir+json, text/plain;q=0.5, text/html;q=0.4"
        answer = self._get(self.absolute(url), deadline, accept, max_bytes)
        if answer.content_type not in JSON_TYPES:
            return base64.b64encode(answer.body).decode("ascii")
        binary = parse_json(answer.body)
        data = binary.get("data") if isinstance(binary, dict) else None
        if resource_type(binary) != "Binary" or not isinstance(data, str):
            raise MalformedResourceError("unexpected_resource")
        return data

    def _following(self, bundle: dict[str, Any]) -> tuple[str, str]:
        """The next page's URL, or the reason why it is not followed."""
        link = next_link(bundle)
        try:
            return (self.absolute(link) if link else ""), ""
        except OutboundRefusedError as error:
            return "", error.reason

    def _bundle(self, url: str, deadline: float) -> dict[str, Any]:
        bundle = self._json(url, deadline)
        if resource_type(bundle) != "Bundle":
            raise MalformedResourceError("unexpected_resource")
        return bundle

    def _json(self, url: str, deadline: float) -> dict[str, Any]:
        answer = self._get(url, deadline, "application/fhir+json", None)
        if answer.content_type not in JSON_TYPES:
            raise MalformedResourceError("content_type")
        resource = parse_json(answer.body)
        if not isinstance(resource, dict):
            raise MalformedResourceError("unexpected_resource")
        if resource_type(resource) == "OperationOutcome":
            raise UpstreamError("operation_outcome", status=answer.status)
        return resource

    def _get(
        self, url: str, deadline: float, accept: str, max_bytes: int | None
    ) -> Response:
        headers = {"Accept": accept}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        answer = self._door.get(url, headers, deadline, max_bytes=max_bytes)
        wait = retry_after(answer)
        if wait is not None and time.monotonic() + wait < deadline:
            time.sleep(wait)
            answer = self._door.get(url, headers, deadline, max_bytes=max_bytes)
        if answer.status != 200:
            reason = _REASONS.get(answer.status, "unexpected_status")
            if answer.status >= 500:
                reason = "upstream_failed"
            raise UpstreamError(reason, status=answer.status)
        return answer


@dataclass(slots=True)
class _Pages:
    """Pages so far and why no more are wanted (rule 3)."""

    bundles: list[dict[str, Any]] = field(default_factory=list)
    incomplete: str = ""
    _seen: set[str] = field(default_factory=set)
    _entries: int = 0

    def add(
        self, url: str, bundle: dict[str, Any], following: str, max_pages: int
    ) -> None:
        self.bundles.append(bundle)
        self._seen.add(url)
        self._entries += len(children(bundle, "entry"))
        if following in self._seen:
            self.incomplete = "next_loop"
        elif following and len(self.bundles) >= max_pages:
            self.incomplete = "page_cap"
        elif following and self._entries >= _MAX_ENTRIES:
            self.incomplete = "entry_cap"


def next_link(bundle: Mapping[str, Any]) -> str:
    """The URL of the ``next`` link, empty on the last page."""
    for link in children(bundle, "link"):
        if text(link, "relation") == "next":
            return text(link, "url")
    return ""


def retry_after(answer: Response) -> float | None:
    """Seconds to wait before a second try, None when there should be none."""
    if answer.status not in _RETRY_STATUSES:
        return None
    stated = answer.headers.get("retry-after", "")
    if not re.fullmatch(r"[0-9]{1,3}", stated):
        return None
    seconds = float(stated)
    return seconds if seconds <= _MAX_RETRY_WAIT else None
