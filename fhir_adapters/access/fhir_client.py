"""Read and search one FHIR R4 server through the guarded door.

Rules this module enforces on top of the door's own (:mod:`.outbound`):

1. One base. ``next`` links, attachment URLs and absolute references are followed only
   on the base's origin and below its path; the token goes nowhere else (S33, token
   theft by a link to another server).
2. An answer is JSON, of bounded size and depth, without NaN (:mod:`..fhir_json`).
3. Paging ends: at the page cap, at the entry cap, at a link seen before, at the
   deadline (a server whose ``next`` never ends). What is missing is said.
4. An OperationOutcome or an HTTP error becomes a typed error with a reason code; its
   text, which may hold PHI, is never read into one (:mod:`.fhir_outcome`).
5. What waiting may mend is sent again within the deadline (:mod:`.fhir_retry`); 401 is
   answered by one renewed token, where there is one, and 403 by nothing (S34).
6. A page is at most :data:`MAX_PAGE_BYTES`, whatever the door would let in: parsed JSON
   takes several times its bytes (memory exhaustion).

    client = FhirClient("https://ehr.example/fhir", door, token)
    patient = client.read("Patient", "p1", monotonic() + 0.3)
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urljoin

from fhir_adapters.access.bearer import Bearer, as_bearer
from fhir_adapters.access.door import Door
from fhir_adapters.access.fhir_outcome import http_error, outcome_error
from fhir_adapters.access.fhir_pages import (
    Found,
    Pages,
    SearchPages,
    found_in,
    matches_of,
    next_link,
)
from fhir_adapters.access.fhir_retry import RetryPolicy, send
from fhir_adapters.access.outbound import Response
from fhir_adapters.access.outbound_url import parse_url
from fhir_adapters.errors import (
    AdapterError,
    MalformedResourceError,
    OutboundRefusedError,
    UpstreamError,
)
from fhir_adapters.fhir_json import MAX_ANSWER_VALUES, parse_json
from fhir_adapters.resources.elements import resource_id, resource_type

__all__ = [
    "FhirClient",
    "Found",
    "Params",
    "SearchPages",
    "Versioned",
    "next_link",
]

Params = Mapping[str, str] | Iterable[tuple[str, str]]
MAX_PAGE_BYTES = 16 * 1024 * 1024
JSON_TYPES = frozenset(
    {"application/fhir+json", "application/json", "application/json+fhir", ""}
)
_TYPE = re.compile(r"[A-Z][A-Za-z]{1,63}")
_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_ETAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e]{0,256}"')
_FHIR_JSON = "application/fhir+json"


@dataclass(frozen=True, slots=True)
class Versioned:
    """A resource with the ETag that its server gave it, empty when it gave none."""

    resource: dict[str, Any] = field(repr=False)
    etag: str = ""


class FhirClient:
    """One FHIR server and one token; safe to share by threads.

    Args:
        base_url: The service base, for example ``https://ehr.example/fhir``.
        door: Where every request goes through; its policy must allow the base.
        token: Bearer token of this server, a source of tokens, None for an open one.
        retry: How often what failed by luck is sent again.
        post_search: Search by POST ``_search``: parameters stay out of URLs and so out
            of other people's access logs.

    Raises:
        OutboundRefusedError: The door's policy does not allow the base.
    """

    def __init__(
        self,
        base_url: str,
        door: Door,
        token: str | Bearer | None,
        *,
        retry: RetryPolicy = RetryPolicy(),
        post_search: bool = False,
    ) -> None:
        parsed = door.check(base_url)
        if parsed.query:
            raise OutboundRefusedError("url_malformed", "a base has no query")
        self._origin = parsed.origin
        self._path = parsed.path.rstrip("/")
        self._door = door
        self._bearer = as_bearer(token)
        self._retry = retry
        self._post_search = post_search

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
        return self._read(kind, logical_id, deadline, "")[0]

    def read_versioned(
        self,
        kind: str,
        logical_id: str,
        deadline: float,
        known: Versioned | None = None,
    ) -> Versioned:
        """Read one resource unless it is still the one we know (If-None-Match).

        Args:
            kind: Resource type.
            logical_id: Its id.
            deadline: ``time.monotonic()`` seconds.
            known: What an earlier read gave; returned itself when still current.

        Raises:
            AdapterError: As :meth:`read`.
        """
        etag = known.etag if known is not None else ""
        resource, answer = self._read(kind, logical_id, deadline, etag)
        if answer.status == 304 and known is not None:
            return known
        stated = answer.headers.get("etag", "")
        return Versioned(resource, stated if _ETAG.fullmatch(stated) else "")

    def _read(
        self, kind: str, logical_id: str, deadline: float, etag: str
    ) -> tuple[dict[str, Any], Response]:
        if not _TYPE.fullmatch(kind) or not _ID.fullmatch(logical_id):
            raise OutboundRefusedError("url_malformed", "type or id")
        if set(logical_id) <= {"."}:
            raise OutboundRefusedError("url_path", "id")
        url = f"{self.base_url}/{kind}/{logical_id}"
        headers = {"Accept": _FHIR_JSON}
        if etag:
            headers["If-None-Match"] = etag
        answer = self._send(url, headers, deadline, MAX_PAGE_BYTES)
        if answer.status == 304:
            return {}, answer
        resource = _resource(answer)
        if resource_type(resource) != kind or resource_id(resource) != logical_id:
            raise MalformedResourceError("unexpected_resource")
        return resource, answer

    def search_pages(
        self,
        kind: str,
        params: Params,
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
        asked = _listed(params)
        if self._post_search:
            url, form = f"{self.base_url}/{kind}/_search", asked
        else:
            url, form = f"{self.base_url}/{kind}?{urlencode(asked)}", None
        return self._pages(Pages(), url, deadline, max_pages, form)

    def more_pages(
        self, bundle: dict[str, Any], deadline: float, *, max_pages: int = 5
    ) -> SearchPages:
        """Continue a Bundle that somebody else began, such as an EHR's prefetch.

        Returns:
            The pages after ``bundle``, without it.

        Raises:
            AdapterError: As :meth:`search_pages`, for the first page asked for.
        """
        pages = Pages()
        following, pages.incomplete = self._following(bundle)
        return self._pages(pages, following, deadline, max_pages)

    def _pages(
        self,
        pages: Pages,
        url: str,
        deadline: float,
        max_pages: int,
        form: list[tuple[str, str]] | None = None,
    ) -> SearchPages:
        headers = {"Accept": _FHIR_JSON}
        while url and not pages.incomplete:
            try:
                answer = self._send(url, headers, deadline, MAX_PAGE_BYTES, form)
                bundle = _resource(answer)
                if resource_type(bundle) != "Bundle":
                    raise MalformedResourceError("unexpected_resource")
            except AdapterError as error:
                if not pages.bundles:
                    raise
                pages.incomplete = error.reason
                break
            following, refused = self._following(bundle)
            size = len(answer.body)
            pages.add(url, bundle, following, size=size, max_pages=max_pages)
            pages.incomplete = refused or pages.incomplete
            # A next link is a GET whatever the search was.
            url, form = following, None
        return SearchPages(tuple(pages.bundles), pages.incomplete)

    def search(
        self,
        kind: str,
        params: Params,
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
        return matches_of(found, kind)

    def search_with_includes(
        self,
        kind: str,
        params: Params,
        includes: Iterable[str],
        deadline: float,
        *,
        max_pages: int = 5,
    ) -> Found:
        """Search with ``_include``, for example "ImagingStudy:endpoint".

        Raises:
            AdapterError: As :meth:`search_pages`.
        """
        asked = _listed(params) + [("_include", name) for name in includes]
        pages = self.search_pages(kind, asked, deadline, max_pages=max_pages)
        return found_in(pages, kind, self.base_url)

    def attachment_data(self, url: str, deadline: float, *, max_bytes: int) -> str:
        """Fetch an attachment's bytes as base64, from a Binary or as they are.

        Raises:
            AdapterError: Outside the base, an error of the server, or no Binary.
        """
        accept = "application/fhir+json, text/plain;q=0.5, text/html;q=0.4, */*;q=0.1"
        answer = self._send(self.absolute(url), {"Accept": accept}, deadline, max_bytes)
        if answer.content_type not in JSON_TYPES:
            return base64.b64encode(answer.body).decode("ascii")
        binary = parse_json(answer.body, max_values=MAX_ANSWER_VALUES)
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

    def _send(
        self,
        url: str,
        headers: dict[str, str],
        deadline: float,
        max_bytes: int,
        form: list[tuple[str, str]] | None = None,
    ) -> Response:
        """One request, its luck tried again, and one renewed token for a 401 (S34)."""
        token = self._bearer.token(deadline)
        answer = self._attempts(url, headers, token, deadline, max_bytes, form)
        if answer.status == 401 and token is not None:
            token = self._bearer.renewed(token, deadline)
            if token is not None:
                answer = self._attempts(url, headers, token, deadline, max_bytes, form)
        unchanged = answer.status == 304 and "If-None-Match" in headers
        if answer.status != 200 and not unchanged:
            raise http_error(answer)
        return answer

    def _attempts(
        self,
        url: str,
        headers: dict[str, str],
        token: str | None,
        deadline: float,
        max_bytes: int,
        form: list[tuple[str, str]] | None,
    ) -> Response:
        sent = dict(headers)
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"

        def once() -> Response:
            if form is None:
                return self._door.get(url, sent, deadline, max_bytes=max_bytes)
            return self._door.post_form(url, form, sent, deadline, max_bytes=max_bytes)

        return send(once, self._retry, deadline, repeatable=form is None)


def _listed(params: Params) -> list[tuple[str, str]]:
    """Parameters as pairs, because FHIR repeats names (_include, date)."""
    return list(params.items() if isinstance(params, Mapping) else params)


def _resource(answer: Response) -> dict[str, Any]:
    """The resource that an answer holds; an OperationOutcome is an error."""
    if answer.content_type not in JSON_TYPES:
        raise MalformedResourceError("content_type")
    resource = parse_json(answer.body, max_values=MAX_ANSWER_VALUES)
    if not isinstance(resource, dict):
        raise MalformedResourceError("unexpected_resource")
    if resource_type(resource) == "OperationOutcome":
        raise outcome_error(resource, answer.status)
    return resource
