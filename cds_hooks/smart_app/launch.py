"""The SMART EHR launch: from a card's link to a session for one assessment.

Rules this module enforces, numbered as in the SMART checklist (attack in brackets):

- S5 an issuer that no tenant names ends in 400 without an outbound request (a launch
  that would make us call the attacker's server).
- S9, S14 a launch belongs to the browser that began it, through a cookie that no script
  reads, lives ten minutes and is taken once (login CSRF, replayed callback).
- S15 an error of the authorisation server becomes our own words (reflected text).
- S28 the token is revoked, where the EHR offers it, when the launch needs it no more.
- S31 our key set is public, holds public halves only, and may be cached for minutes.
- S26 the access token is dropped as soon as the launch context is known: the evidence
  page reads our own sealed copy, so no token is kept at all (token theft).
- The session's cookie is scoped to the path of its one assessment (patient mix-up
  between tabs).
"""

from __future__ import annotations

import logging
import time
from dataclasses import asdict, dataclass
from typing import Any

from flask import Response, redirect, request, url_for

from audit.event import (
    Action,
    Agent,
    AuditEvent,
    EventType,
    Outcome,
    Phase,
    Purpose,
    Subject,
    new_correlation_id,
)
from cds_hooks.audit_trail import record
from cds_hooks.errors import LaunchRefusedError
from cds_hooks.responses import json_response
from cds_hooks.smart_app.evidence_page import (
    COOKIE,
    Viewer,
    blueprint,
    smart_parts,
)
from cds_hooks.smart_app.messages import message, refused
from cds_hooks.smart_app.sessions import LAUNCH_SECONDS, SESSION_SECONDS
from cds_hooks.tenants import Tenant
from cds_hooks.web_services import web_services
from fhir_adapters.access.smart_discovery import canonical_issuer
from fhir_adapters.access.smart_keys import KEY_SET_SECONDS
from fhir_adapters.access.smart_oauth import SmartClient
from fhir_adapters.access.smart_types import Pending, TokenSet
from fhir_adapters.errors import AdapterError

LAUNCH_COOKIE = "trivium_launch"
CALLBACK = "/smart/callback"
BUDGET_SECONDS = 5.0
REVOCATION_SECONDS = 1.0
MAX_APP_CONTEXT = 64
LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Launched:
    """A launch that succeeded: whose EHR, and what its token response told."""

    tenant: Tenant
    tokens: TokenSet


@blueprint.get("/launch")
def launch() -> Response:
    """Begin: ``iss`` and ``launch`` from the EHR, then off to its authorize page."""
    issuer = request.args.get("iss", "")
    tenant = _tenant_of(issuer)
    parts = smart_parts()
    client = parts.clients[tenant.id]
    scopes = tenant.smart.scopes if tenant.smart else ""
    try:
        target, pending = client.begin(
            issuer, request.args.get("launch", ""), scopes, _deadline()
        )
    except AdapterError as error:
        raise LaunchRefusedError(reason=error.reason) from error
    held = {"tenant": tenant.id, "pending": asdict(pending)}
    browser = parts.sessions.put(held, LAUNCH_SECONDS)
    response: Response = redirect(target)  # type: ignore[assignment]
    _set_cookie(response, LAUNCH_COOKIE, browser, CALLBACK, LAUNCH_SECONDS)
    return response


@blueprint.get("/callback")
def callback() -> Response:
    """Finish: exchange the code, open the session, go to the assessment's page."""
    done = _complete()
    assessment = done.tokens.app_context or ""
    if not assessment.isalnum() or len(assessment) > MAX_APP_CONTEXT:
        text = "Open it from a card: this launch names no assessment."
        return message("No assessment chosen", text)
    viewer = Viewer(
        tenant=done.tenant.id,
        issuer=_issuer(done.tenant),
        patient=done.tokens.patient or "",
        user=_user(done),
        assessment=assessment,
    )
    _audit_launch(viewer)
    handle = smart_parts().sessions.put(asdict(viewer), SESSION_SECONDS)
    page = url_for("smart.evidence", assessment=assessment)
    response: Response = redirect(page)  # type: ignore[assignment]
    _set_cookie(response, COOKIE, handle, page, SESSION_SECONDS)
    response.delete_cookie(LAUNCH_COOKIE, path=CALLBACK)
    return response


@blueprint.get("/jwks.json")
def key_set() -> Response:
    """S31: what EHRs verify our assertions with; empty where we sign nothing."""
    ring = web_services().settings.smart_keys
    response = json_response(ring.public_jwks() if ring else {"keys": []})
    response.headers["Cache-Control"] = f"public, max-age={KEY_SET_SECONDS}"
    return response


@blueprint.errorhandler(LaunchRefusedError)
def refuse_launch(error: LaunchRefusedError) -> Response:
    """400 in our own words, and a record with the reason's code."""
    text = "The launch could not be completed. Open it again from the chart."
    return refused(error, "Launch refused", text)


def _complete() -> Launched:
    """The launch that this browser began, completed.

    Raises:
        LaunchRefusedError: no such launch, not this browser's, or the EHR said no.
    """
    parts = smart_parts()
    # S9 and S14: what comes back must meet what this very browser set out with.
    held = parts.sessions.take(request.cookies.get(LAUNCH_COOKIE, ""))
    if held is None or "pending" not in held:
        raise LaunchRefusedError(reason="no_launch")
    tenant = next(t for t in web_services().settings.tenants if t.id == held["tenant"])
    pending = Pending(**held["pending"])
    try:
        tokens = parts.clients[tenant.id].complete(
            pending, request.args.to_dict(), _deadline()
        )
    except AdapterError as error:
        raise LaunchRefusedError(reason=error.reason) from error
    _end_token(parts.clients[tenant.id], tokens)
    if not tokens.patient or not tokens.fhir_user:
        raise LaunchRefusedError(reason="context_missing")
    return Launched(tenant, tokens)


def _end_token(client: SmartClient, tokens: TokenSet) -> None:
    """S28: nobody needs the token any more. A server that fails here loses us nothing:
    the token is not kept, and its own life ends it.
    """
    try:
        client.revoke(tokens, time.monotonic() + REVOCATION_SECONDS)
    except AdapterError as error:
        LOG.warning("smart token not revoked: %s", error.reason)


def _tenant_of(issuer: str) -> Tenant:
    """The tenant that names this issuer; none means no request leaves us (S5)."""
    try:
        wanted = canonical_issuer(issuer)
    except AdapterError as error:
        raise LaunchRefusedError(reason=error.reason) from error
    for tenant in web_services().settings.tenants:
        if tenant.smart and canonical_issuer(tenant.smart.issuer) == wanted:
            return tenant
    raise LaunchRefusedError(reason="issuer_not_allowed")


def _issuer(tenant: Tenant) -> str:
    if tenant.smart is None:
        raise LaunchRefusedError(reason="issuer_not_allowed")
    return tenant.smart.issuer


def _user(done: Launched) -> str:
    """The user as the hook names them: ``Practitioner/id``, relative to the issuer."""
    user = done.tokens.fhir_user or ""
    return user.removeprefix(_issuer(done.tenant) + "/")


def _audit_launch(viewer: Viewer) -> None:
    record(
        web_services().audit_log,
        AuditEvent(
            EventType.SMART_LAUNCH,
            Action.EXECUTE,
            Outcome.OK,
            Phase.SINGLE,
            agent=Agent("human", viewer.issuer, viewer.user),
            subject=Subject(viewer.issuer, viewer.patient),
            purpose=Purpose.TREAT,
            correlation_id=new_correlation_id(),
            evidence={"assessment": viewer.assessment, "tenant": viewer.tenant},
        ),
    )


def _deadline() -> float:
    return time.monotonic() + BUDGET_SECONDS


def _set_cookie(
    response: Response, name: str, value: str, path: str, seconds: int
) -> None:
    options: dict[str, Any] = {"httponly": True, "samesite": "Lax"}
    options["secure"] = web_services().settings.public_url.startswith("https:")
    response.set_cookie(name, value, max_age=seconds, path=path, **options)
