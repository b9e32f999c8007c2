"""The EHR's CDS Hooks client: discovery, hook call, feedback.

CDS Hooks 2.0, ``#trusting-cds-clients``: each call carries a fresh ES384 JWT (new
``jti``, five minutes, ``aud`` = the exact URL called, ``jku`` = our key set) and lends
an access token limited to the one patient. The call blocks for as long as the service
takes and is timed; nothing is polled.
"""

from __future__ import annotations

import secrets
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

import httpx
import orjson
from joserfc import jwt

from deploy.sandbox.access_tokens import HOOK_SCOPE
from deploy.sandbox.ehr import CLIENT_ID, CLINICIAN_ID, Ehr
from deploy.sandbox.errors import CdsCallError
from deploy.sandbox.prefetch import PrefetchMode, fill_prefetch

JWT_LIFE_S = 300
TOKEN_LIFE_S = 300


@dataclass(frozen=True)
class HookCall:
    """One call of a CDS service as the EHR saw it.

    ``body`` is the parsed JSON answer (None when empty, as for 401), ``elapsed_ms``
    the wall time of the HTTP request, ``prefetched`` the keys that were sent.
    """

    service_id: str
    hook: str
    hook_instance: str
    url: str
    status: int
    body: Any
    elapsed_ms: float
    prefetched: tuple[str, ...] = field(default=())

    @property
    def cards(self) -> list[dict[str, Any]]:
        """The cards, empty unless the service answered 200 with some."""
        if self.status != 200 or not isinstance(self.body, dict):
            return []
        cards = self.body.get("cards")
        return [c for c in cards if isinstance(c, dict)] if cards else []


def client_jwt(ehr: Ehr, audience: str) -> str:
    """A signed JWT for one call of one URL."""
    now = int(time.time())
    claims = {
        "iss": ehr.base_url,
        "aud": audience,
        "iat": now,
        "exp": now + JWT_LIFE_S,
        "jti": secrets.token_urlsafe(16),
    }
    header = {
        "alg": "ES384",
        "typ": "JWT",
        "kid": ehr.keys.kid,
        "jku": f"{ehr.base_url}/jwks.json",
    }
    return str(jwt.encode(header, claims, ehr.keys.signing, algorithms=["ES384"]))


def discover(ehr: Ehr, *, timeout_s: float = 5.0) -> list[dict[str, Any]]:
    """The services the CDS server offers.

    Raises:
        CdsCallError: no answer, not 200 or not a service list.
    """
    url = f"{ehr.service_url}/cds-services"
    status, body, _ = _exchange("GET", url, ehr, None, timeout_s)
    services = body.get("services") if isinstance(body, dict) else None
    if status != 200 or not isinstance(services, list):
        raise CdsCallError(f"discovery answered {status}")
    return [s for s in services if isinstance(s, dict) and "id" in s and "hook" in s]


def call_hook(
    ehr: Ehr,
    patient_id: str,
    *,
    hook: str = "patient-view",
    service: dict[str, Any] | str | None = None,
    prefetch: PrefetchMode | str = PrefetchMode.FILL,
    context: dict[str, Any] | None = None,
    lend_token: bool = True,
    timeout_s: float = 30.0,
) -> HookCall:
    """Call one service for one patient.

    Args:
        service: an entry of discovery, a service id, or None for the first service
            that discovery lists for ``hook``.
        context: further context fields (``draftOrders`` for order-sign, ...).
        lend_token: False leaves ``fhirServer`` and ``fhirAuthorization`` out.

    Raises:
        CdsCallError: no such service, or no answer in time.
    """
    entry = service if isinstance(service, dict) else _choose(ehr, hook, service)
    url = f"{ehr.service_url}/cds-services/{entry['id']}"
    body = hook_body(ehr, patient_id, hook, context or {})
    if lend_token:
        body["fhirServer"] = ehr.fhir_base
        body["fhirAuthorization"] = _lend(ehr, patient_id)
    templates = entry.get("prefetch") or {}
    filled = fill_prefetch(ehr, templates, body["context"], PrefetchMode(prefetch))
    if filled is not None:
        body["prefetch"] = filled
    status, answer, elapsed = _exchange("POST", url, ehr, body, timeout_s)
    return HookCall(
        service_id=str(entry["id"]),
        hook=hook,
        hook_instance=body["hookInstance"],
        url=url,
        status=status,
        body=answer,
        elapsed_ms=elapsed,
        prefetched=tuple(filled or ()),
    )


def hook_body(
    ehr: Ehr, patient_id: str, hook: str, context: dict[str, Any]
) -> dict[str, Any]:
    """Hook name, a fresh hookInstance and the context of one patient."""
    known: dict[str, Any] = {
        "userId": f"Practitioner/{CLINICIAN_ID}",
        "patientId": patient_id,
    }
    encounter = ehr.encounter_id(patient_id)
    if encounter:
        known["encounterId"] = encounter
    return {
        "hook": hook,
        "hookInstance": str(uuid.uuid4()),
        "context": {**known, **context},
    }


def send_feedback(
    ehr: Ehr, service_id: str, entry: dict[str, Any], *, timeout_s: float = 10.0
) -> int:
    """Post one feedback entry; the HTTP status of the answer.

    Raises:
        CdsCallError: no answer.
    """
    url = f"{ehr.service_url}/cds-services/{service_id}/feedback"
    status, _, _ = _exchange("POST", url, ehr, {"feedback": [entry]}, timeout_s)
    return status


def _choose(ehr: Ehr, hook: str, service_id: str | None) -> dict[str, Any]:
    for entry in discover(ehr):
        if entry["hook"] == hook and service_id in (None, entry["id"]):
            return entry
    raise CdsCallError("discovery lists no such service for this hook")


def _lend(ehr: Ehr, patient_id: str) -> dict[str, Any]:
    token = ehr.tokens.issue(CLIENT_ID, patient_id, HOOK_SCOPE, TOKEN_LIFE_S)
    return {
        "access_token": token,
        "token_type": "Bearer",
        "expires_in": TOKEN_LIFE_S,
        "scope": HOOK_SCOPE,
        "subject": CLIENT_ID,
        "patient": patient_id,
    }


def _exchange(
    method: str, url: str, ehr: Ehr, body: dict[str, Any] | None, timeout_s: float
) -> tuple[int, Any, float]:
    """One request: status, parsed JSON (None if there is none), milliseconds."""
    headers = {"Accept": "application/json"}
    headers["Authorization"] = f"Bearer {client_jwt(ehr, url)}"
    content = None
    if body is not None:
        headers["Content-Type"] = "application/json"
        content = orjson.dumps(body)
    # trust_env: a proxy of the environment must not see a patient's data.
    with httpx.Client(trust_env=False, timeout=timeout_s) as client:
        started = time.perf_counter()
        try:
            answer = client.request(method, url, headers=headers, content=content)
        except httpx.HTTPError as error:
            reason = type(error).__name__
            raise CdsCallError(f"the CDS service gave no answer: {reason}") from error
        elapsed = (time.perf_counter() - started) * 1000
    try:
        parsed = answer.json() if answer.content else None
    except ValueError as error:
        raise CdsCallError("the CDS service did not answer in JSON") from error
    return answer.status_code, parsed, elapsed
