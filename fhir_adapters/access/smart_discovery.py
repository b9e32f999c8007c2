"""Find and check an issuer's SMART configuration (checklist S1 to S5).

Every endpoint is held against the outbound policy here, before it is ever used, because
the document that names it comes from outside.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urljoin

from fhir_adapters.access.outbound import OutboundDoor, Response
from fhir_adapters.access.outbound_url import parse_url
from fhir_adapters.access.smart_answer import optional_text
from fhir_adapters.access.smart_scopes import as_version_1
from fhir_adapters.access.smart_types import SmartConfiguration
from fhir_adapters.errors import MalformedResourceError, SmartError
from fhir_adapters.fhir_json import parse_json

DISCOVERY_SECONDS = 300.0
MAX_DOCUMENT_BYTES = 256 * 1024
_REQUIRED = ("authorization_endpoint", "token_endpoint")
_OPTIONAL = ("jwks_uri", "introspection_endpoint", "revocation_endpoint")


class Discovery:
    """Configurations of registered issuers, kept for five minutes.

    Args:
        door: The guarded door.
        clock: Seconds since 1970.
    """

    def __init__(self, door: OutboundDoor, clock: Callable[[], float]) -> None:
        self._door = door
        self._clock = clock
        self._found: dict[str, tuple[float, SmartConfiguration]] = {}
        self._lock = threading.Lock()

    def find(self, issuer: str, deadline: float | None = None) -> SmartConfiguration:
        """The endpoints of ``issuer`` (canonical), freshly read or a young copy.

        Raises:
            SmartError: "configuration_status", "configuration_malformed" or
                "pkce_not_supported".
            OutboundRefusedError: An endpoint lies outside the policy.
            UpstreamError: No answer.
        """
        now = self._clock()
        with self._lock:
            kept = self._found.get(issuer)
        if kept is not None and 0 <= now - kept[0] < DISCOVERY_SECONDS:
            return kept[1]
        # S1; the answer is JSON whatever Accept says.
        url = f"{issuer}/.well-known/smart-configuration"
        answer = self._door.get(
            url, {"Accept": "application/json"}, deadline, max_bytes=MAX_DOCUMENT_BYTES
        )
        if answer.status != 200:
            raise SmartError("configuration_status")
        found = self._configuration(
            issuer, read_document(answer, "configuration_malformed")
        )
        with self._lock:
            self._found[issuer] = (now, found)
        return found

    def _configuration(
        self, issuer: str, document: Mapping[str, Any]
    ) -> SmartConfiguration:
        """S2 and S3, and the policy on every endpoint before it is ever used."""
        methods = document.get("code_challenge_methods_supported")
        if not isinstance(methods, list) or "S256" not in methods or "plain" in methods:
            raise SmartError("pkce_not_supported")
        capabilities = document.get("capabilities")
        if not isinstance(capabilities, list):
            raise SmartError("configuration_malformed")
        endpoints = {}
        for name in _REQUIRED + _OPTIONAL:
            text = optional_text(document, name)
            if text is None and name in _REQUIRED:
                raise SmartError("configuration_malformed", name)
            url = urljoin(f"{issuer}/", text) if text else ""
            if url:
                self._door.check(url)
            endpoints[name] = url
        return SmartConfiguration(
            issuer=issuer,
            token_issuer=optional_text(document, "issuer") or issuer,
            capabilities=frozenset(str(item) for item in capabilities),
            **endpoints,
        )


def canonical_issuer(text: str) -> str:
    """S5: scheme and host in lower case, no trailing slash, nothing strange."""
    url = parse_url(text)
    if url.query:
        raise SmartError("issuer_not_allowed")
    return f"{url.origin}{url.path}".rstrip("/")


def supported_scopes(
    configuration: SmartConfiguration, launch: str | None, scopes: str
) -> str:
    """S4: the capability before its use; version 1 scopes where there are no others."""
    needed = "launch-standalone" if launch is None else "launch-ehr"
    if needed not in configuration.capabilities:
        raise SmartError("capability_missing", needed)
    if "permission-v2" in configuration.capabilities:
        return scopes
    if "permission-v1" in configuration.capabilities:
        return as_version_1(scopes)
    raise SmartError("capability_missing", "permission-v2")


def read_document(answer: Response, reason: str) -> Mapping[str, Any]:
    """A JSON object."""
    try:
        document = parse_json(answer.body)
    except MalformedResourceError as cause:
        raise SmartError(reason) from cause
    if not isinstance(document, dict):
        raise SmartError(reason)
    return document
