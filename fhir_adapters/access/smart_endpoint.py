"""Authenticated POSTs to an authorisation server, in the strongest way we can (S16).

A signed assertion if we hold keys and the server takes them, else the client secret,
else, for a public client, the id alone. One POST for each call, never sent twice: a
code, a refresh token or an assertion is good for one use.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote_plus

from fhir_adapters.access.outbound import OutboundDoor, Response
from fhir_adapters.access.smart_answer import optional_text
from fhir_adapters.access.smart_discovery import MAX_DOCUMENT_BYTES, read_document
from fhir_adapters.access.smart_keys import ASSERTION_TYPE
from fhir_adapters.access.smart_types import Registration, SmartConfiguration
from fhir_adapters.errors import SmartError

ASYMMETRIC = "client-confidential-asymmetric"


def post(
    door: OutboundDoor,
    url: str,
    form: Mapping[str, str],
    *,
    configuration: SmartConfiguration,
    registration: Registration,
    now: float,
    deadline: float | None = None,
) -> Response:
    """POST ``form`` to one of the server's endpoints as the registered client.

    Args:
        door: The guarded door.
        url: The endpoint, from the server's configuration.
        form: The request without anything that says who we are.
        configuration: The server's.
        registration: Ours there.
        now: Seconds since 1970, for the assertion.
        deadline: ``time.monotonic()`` value.

    Raises:
        SmartError: "capability_missing": keys are all we have and it takes none.
        OutboundRefusedError: The endpoint lies outside the policy.
        UpstreamError: No answer.
    """
    sent, headers = dict(form), {"Accept": "application/json"}
    keys, secret = registration.keys, registration.client_secret
    if keys is not None and ASYMMETRIC in configuration.capabilities:
        # RFC 7523: the audience is the token endpoint, whichever one is called.
        audience = configuration.token_endpoint
        sent["client_assertion_type"] = ASSERTION_TYPE
        sent["client_assertion"] = keys.assertion(registration.client_id, audience, now)
    elif secret is not None:
        headers["Authorization"] = _basic(registration.client_id, secret)
    elif keys is not None:
        raise SmartError("capability_missing", ASYMMETRIC)
    else:
        sent["client_id"] = registration.client_id
    return door.post_form(url, sent, headers, deadline, max_bytes=MAX_DOCUMENT_BYTES)


def token_answer(answer: Response) -> Mapping[str, Any]:
    """The JSON of a token endpoint.

    Raises:
        SmartError: "session_ended" for ``invalid_grant``, else "token_refused" or
            "token_malformed".
    """
    if answer.status == 200:
        return read_document(answer, "token_malformed")
    if answer.status in (400, 401):
        document = read_document(answer, "token_refused")
        if optional_text(document, "error") == "invalid_grant":
            raise SmartError("session_ended")
    raise SmartError("token_refused")


def _basic(client_id: str, secret: str) -> str:
    """client_secret_basic: both halves url-encoded first (RFC 6749 section 2.3.1)."""
    pair = f"{quote_plus(client_id)}:{quote_plus(secret)}"
    return f"Basic {b64encode(pair.encode('ascii')).decode('ascii')}"
