"""SMART App Launch 2.2 for the sandbox: EHR launch with PKCE, one clinician.

Rules, each cited where it is checked:

- an unknown client or a redirect URI that differs by one character is answered here
  and never redirected to (open redirect, RFC 6749 section 4.1.2.1);
- PKCE with S256 is required of everybody (SMART 2.2, "Considerations for PKCE");
- ``aud`` must be our FHIR base (a token for a look-alike server is never made);
- launch values and codes are single use; a code used twice takes its token along;
- the signed-in clinician of this sandbox approves at once: there is no login page,
  which is why it listens on loopback only.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from base64 import urlsafe_b64encode
from typing import Any
from urllib.parse import urlencode

from flask import Blueprint, Response, jsonify, redirect, request
from joserfc import jwt

from deploy.sandbox.ehr import CLINICIAN_ID, Ehr
from deploy.sandbox.errors import RequestError
from deploy.sandbox.launches import PendingCode

TOKEN_LIFE_S = 900
_GRANTABLE = re.compile(
    r"launch|openid|fhirUser|profile|patient/(?:[A-Z][A-Za-z]+|\*)\.(?:read|r?s?)"
)
_VERIFIER = re.compile(r"[A-Za-z0-9\-._~]{43,128}")


class OauthError(Exception):
    """An OAuth error answer: ``code`` is one of RFC 6749's error codes."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


def smart_configuration(ehr: Ehr) -> dict[str, Any]:
    """The body of ``.well-known/smart-configuration``."""
    return {
        "issuer": ehr.fhir_base,
        "jwks_uri": f"{ehr.base_url}/jwks.json",
        "authorization_endpoint": f"{ehr.base_url}/authorize",
        "token_endpoint": f"{ehr.base_url}/token",
        "grant_types_supported": ["authorization_code"],
        "response_types_supported": ["code"],
        "token_endpoint_auth_methods_supported": ["none"],
        "code_challenge_methods_supported": ["S256"],
        "id_token_signing_alg_values_supported": ["ES384"],
        "scopes_supported": ["launch", "openid", "fhirUser", "patient/*.rs"],
        "capabilities": [
            "launch-ehr",
            "client-public",
            "sso-openid-connect",
            "context-ehr-patient",
            "context-ehr-encounter",
            "context-banner",
            "permission-patient",
            "permission-v1",
            "permission-v2",
            "authorize-post",
            "smart-imaging-access",
        ],
    }


def smart_blueprint(ehr: Ehr) -> Blueprint:
    """Discovery, /authorize, /token and /jwks.json."""
    routes = Blueprint("smart", __name__)

    @routes.get("/fhir/.well-known/smart-configuration")
    def configuration() -> Response:
        return jsonify(smart_configuration(ehr))

    @routes.get("/jwks.json")
    def key_set() -> Response:
        response = jsonify(ehr.keys.jwks())
        response.headers["Cache-Control"] = "public, max-age=300"
        return response

    @routes.route("/authorize", methods=["GET", "POST"])
    def authorize() -> Response:
        asked = request.values.to_dict()
        client, target = asked.get("client_id", ""), asked.get("redirect_uri", "")
        # Exact match, before anything is sent anywhere (S12; open redirect).
        if target not in ehr.redirect_uris.get(client, ()):
            raise RequestError(400, "security", "unknown client or redirect_uri")
        try:
            answer = {"code": _authorize(ehr, asked)}
        except OauthError as error:
            answer = {"error": error.code, "error_description": str(error)}
        if "state" in asked:
            answer["state"] = asked["state"]
        return redirect(f"{target}?{urlencode(answer)}")  # type: ignore[return-value]

    @routes.post("/token")
    def token() -> Response:
        try:
            response = jsonify(_token(ehr, request.form.to_dict()))
        except OauthError as error:
            body = {"error": error.code, "error_description": str(error)}
            response = jsonify(body)
            response.status_code = 400
        response.headers["Cache-Control"] = "no-store"
        response.headers["Pragma"] = "no-cache"
        return response

    return routes


def _authorize(ehr: Ehr, asked: dict[str, str]) -> str:
    """A code for a valid authorisation request.

    Raises:
        OauthError: what the request lacks.
    """
    if asked.get("response_type") != "code":
        raise OauthError("unsupported_response_type", "response_type must be code")
    # S256 or nothing: "plain" shows the verifier to whoever sees the request (S3).
    method, challenge = asked.get("code_challenge_method"), asked.get("code_challenge")
    if method != "S256" or not re.fullmatch(r"[A-Za-z0-9\-_]{43}", challenge or ""):
        raise OauthError("invalid_request", "PKCE with S256 is required")
    # A client sent to us by a look-alike server names the look-alike here (S7).
    if asked.get("aud", "").rstrip("/") != ehr.fhir_base:
        raise OauthError("invalid_request", "aud is not this FHIR server")
    if not asked.get("state"):
        raise OauthError("invalid_request", "state is required")
    scopes = asked.get("scope", "").split()
    granted = " ".join(s for s in scopes if _GRANTABLE.fullmatch(s))
    if "launch" not in scopes:
        raise OauthError("invalid_scope", "only the EHR launch is offered")
    context = ehr.launches.take_launch(asked.get("launch", ""))
    if context is None:
        raise OauthError("invalid_request", "launch is unknown, used or too old")
    pending = PendingCode(
        client_id=asked["client_id"],
        redirect_uri=asked["redirect_uri"],
        challenge=challenge or "",
        scope=granted,
        nonce=asked.get("nonce"),
        context=context,
    )
    return ehr.launches.open_code(pending)


def _token(ehr: Ehr, form: dict[str, str]) -> dict[str, Any]:
    """The token response for a valid code.

    Raises:
        OauthError: invalid_grant for a wrong, old or used code, verifier or URI.
    """
    if form.get("grant_type") != "authorization_code":
        raise OauthError("unsupported_grant_type", "only authorization_code")
    code = form.get("code", "")
    pending = ehr.launches.take_code(code)
    if pending is None:
        # Somebody has this code twice: the token it gave may be in the wrong hands.
        stolen = ehr.launches.token_of_spent(code)
        if stolen:
            _revoke(ehr, stolen)
        raise OauthError("invalid_grant", "code is unknown, used or too old")
    verifier = form.get("code_verifier", "")
    digest = hashlib.sha256(verifier.encode("ascii", "replace")).digest()
    challenge = urlsafe_b64encode(digest).rstrip(b"=").decode()
    if not _VERIFIER.fullmatch(verifier) or not secrets.compare_digest(
        challenge, pending.challenge
    ):
        raise OauthError("invalid_grant", "code_verifier does not match")
    asked = (form.get("redirect_uri"), form.get("client_id"))
    if asked != (pending.redirect_uri, pending.client_id):
        raise OauthError("invalid_grant", "another client or redirect_uri")
    answer = _token_response(ehr, pending)
    ehr.launches.spent(code, answer["access_token"])
    return answer


def _revoke(ehr: Ehr, token: str) -> None:
    try:
        ehr.tokens.revoke(token)
    except RequestError:
        return  # already expired or revoked: nothing left to take away


def _token_response(ehr: Ehr, pending: PendingCode) -> dict[str, Any]:
    context = pending.context
    answer: dict[str, Any] = {
        "access_token": ehr.tokens.issue(
            pending.client_id, context.patient, pending.scope, TOKEN_LIFE_S
        ),
        "token_type": "Bearer",
        "expires_in": TOKEN_LIFE_S,
        "scope": pending.scope,
        "patient": context.patient,
        # The app opens in a tab of its own, without our banner above it.
        "need_patient_banner": True,
    }
    if context.encounter:
        answer["encounter"] = context.encounter
    if context.app_context:
        answer["appContext"] = context.app_context
    if "openid" in pending.scope.split():
        answer["id_token"] = _id_token(ehr, pending)
    return answer


def _id_token(ehr: Ehr, pending: PendingCode) -> str:
    now = int(time.time())
    claims: dict[str, Any] = {
        "iss": ehr.fhir_base,
        "sub": CLINICIAN_ID,
        "aud": pending.client_id,
        "iat": now,
        "exp": now + 300,
    }
    if "fhirUser" in pending.scope.split():
        claims["fhirUser"] = f"{ehr.fhir_base}/Practitioner/{CLINICIAN_ID}"
    if pending.nonce:
        claims["nonce"] = pending.nonce
    header = {"alg": "ES384", "kid": ehr.keys.kid, "typ": "JWT"}
    return str(jwt.encode(header, claims, ehr.keys.signing, algorithms=["ES384"]))
