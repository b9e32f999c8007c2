"""SMART App Launch 2.2 as a client: the seam behind which the OAuth library lives.

Seven operations and plain types (:mod:`.smart_types`); Authlib and joserfc never leave
this module and :mod:`.smart_id_token`. Every request goes through the guarded door. The
rules, numbered as in the SMART checklist, stand at their checks; the attacks they end:

- S3, S10 code interception: PKCE with S256 or no launch at all;
- S5 an issuer that is not ours: refused before any socket opens;
- S9, S14 login CSRF and replay: state bound to the session, constant-time comparison,
  used once, ten minutes;
- S11, S20 id_token replay: nonce;
- S12 open redirect: the one registered redirect_uri;
- S15 reflected text: an error parameter becomes a fixed code;
- S16 the code is exchanged once, and never again when that failed.

    client = SmartClient(door, [Registration(issuer, client_id, redirect_uri)])
    url, pending = client.begin(issuer, launch, "launch openid fhirUser patient/*.rs")
    tokens = client.complete(pending, request.args)
    tokens = client.refresh(tokens)
    client.revoke(tokens)
"""

from __future__ import annotations

import hmac
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl

from authlib.common.security import generate_token
from authlib.oauth2.rfc6749.parameters import prepare_grant_uri
from authlib.oauth2.rfc7636 import create_s256_code_challenge

from fhir_adapters.access.outbound import OutboundDoor
from fhir_adapters.access.outbound_url import parse_url
from fhir_adapters.access.smart_answer import (
    fhir_user_of,
    optional_text,
    token_fields,
    with_identity,
)
from fhir_adapters.access.smart_discovery import (
    MAX_DOCUMENT_BYTES,
    Discovery,
    canonical_issuer,
    read_document,
    supported_scopes,
)
from fhir_adapters.access.smart_endpoint import post
from fhir_adapters.access.smart_id_token import IssuerKeys, verify_id_token
from fhir_adapters.access.smart_session import Introspection, Sessions
from fhir_adapters.access.smart_types import (
    PENDING_SECONDS,
    Pending,
    Registration,
    SmartConfiguration,
    TokenSet,
)
from fhir_adapters.errors import SmartError

__all__ = ["Pending", "Registration", "SmartClient", "SmartConfiguration", "TokenSet"]

_LAUNCH = re.compile(r"[\x21-\x7e]{1,2048}")


class SmartClient:
    """SMART launches at the EHRs that we are registered with; shared by threads.

    Args:
        door: The guarded door; its policy must allow every origin involved.
        registrations: Where we are registered.
        clock: Seconds since 1970.
        max_launches: Launches that may be finished within ten minutes.
    """

    def __init__(
        self,
        door: OutboundDoor,
        registrations: Iterable[Registration],
        *,
        clock: Callable[[], float] = time.time,
        max_launches: int = 10_000,
    ) -> None:
        self._door = door
        self._clock = clock
        self._max_launches = max_launches
        self._registered = {canonical_issuer(r.issuer): r for r in registrations}
        for registration in self._registered.values():
            _check_redirect_uri(registration.redirect_uri)
        self._discovery = Discovery(door, clock)
        self._sessions = Sessions(door, clock)
        self._keys: dict[str, IssuerKeys] = {}
        self._used: dict[str, float] = {}
        self._lock = threading.Lock()

    def discover(
        self, issuer: str, deadline: float | None = None
    ) -> SmartConfiguration:
        """The issuer's endpoints.

        Raises:
            SmartError: "issuer_not_allowed" before any request, or the reasons of
                :meth:`.smart_discovery.Discovery.find`.
            OutboundRefusedError: An endpoint lies outside the policy.
            UpstreamError: No answer.
        """
        return self._discovery.find(self._registration(issuer)[0], deadline)

    def begin(
        self,
        issuer: str,
        launch: str | None,
        scopes: str,
        deadline: float | None = None,
    ) -> tuple[str, Pending]:
        """Start a launch.

        Args:
            issuer: The ``iss`` parameter of the launch request.
            launch: Its ``launch`` parameter; None for a standalone launch.
            scopes: What we ask for, in version 2 syntax.
            deadline: ``time.monotonic()`` value.

        Returns:
            Where to send the browser, and what its session must keep.

        Raises:
            SmartError: As :meth:`discover`; "launch_malformed", "scope_launch_missing"
                or "capability_missing".
        """
        key, registration = self._registration(issuer)
        _check_launch(launch, scopes)
        configuration = self.discover(issuer, deadline)
        scopes = supported_scopes(configuration, launch, scopes)
        pending = Pending(
            issuer=key,
            scopes=scopes,
            # S9, S10, S11: 43 letters and digits are 256 bits.
            state=generate_token(43),
            nonce=generate_token(43),
            code_verifier=generate_token(64),
            created_at=self._clock(),
        )
        parameters = {
            # S7: the FHIR base exactly as the EHR knows it.
            "aud": registration.issuer,
            "nonce": pending.nonce,
            "code_challenge": create_s256_code_challenge(pending.code_verifier),
            "code_challenge_method": "S256",
        }
        if launch is not None:
            parameters["launch"] = launch  # S6: unchanged
        url = prepare_grant_uri(
            configuration.authorization_endpoint,
            registration.client_id,
            "code",
            redirect_uri=registration.redirect_uri,
            scope=scopes,
            state=pending.state,
            **parameters,
        )
        return str(url), pending

    def complete(
        self,
        pending: Pending,
        callback_params: Mapping[str, str],
        deadline: float | None = None,
    ) -> TokenSet:
        """Finish a launch from the callback's parameters.

        Raises:
            SmartError: "state_mismatch", "state_expired", "state_reused",
                "too_many_launches",
                "authorization_refused", "code_missing", "token_refused",
                "token_malformed", "token_type", "patient_missing",
                "id_token_missing", "fhir_user_malformed" or one of
                :func:`.smart_id_token.verify_id_token`.
            UpstreamError: No answer.
        """
        key, registration = self._registration(pending.issuer)
        self._use_state(pending, callback_params.get("state", ""))
        if "error" in callback_params:
            # S15: the EHR's text could be anybody's; it goes nowhere.
            raise SmartError("authorization_refused")
        code = callback_params.get("code", "")
        if not code or len(code) > 4096:
            raise SmartError("code_missing")
        configuration = self.discover(key, deadline)
        answer = self._exchange(configuration, registration, pending, code, deadline)
        return self._token_set(configuration, registration, pending, answer, deadline)

    def begin_by_post(
        self,
        issuer: str,
        launch: str | None,
        scopes: str,
        deadline: float | None = None,
    ) -> tuple[str, dict[str, str], Pending]:
        """S13: as :meth:`begin`, for a browser that is to POST a form.

        Returns:
            The form's action, its fields, and what the session must keep.

        Raises:
            SmartError: As :meth:`begin`; "capability_missing" without authorize-post.
        """
        url, pending = self.begin(issuer, launch, scopes, deadline)
        configuration = self.discover(issuer, deadline)
        if "authorize-post" not in configuration.capabilities:
            raise SmartError("capability_missing", "authorize-post")
        action = configuration.authorization_endpoint
        sent = parse_url(url).query.removeprefix(parse_url(action).query).lstrip("&")
        return action, dict(parse_qsl(sent)), pending

    def refresh(self, tokens: TokenSet, deadline: float | None = None) -> TokenSet:
        """S25: new tokens for the old refresh token, which is spent.

        Several workers must not do this at once: :class:`.smart_vault.TokenVault`.

        Raises:
            SmartError: "no_refresh_token"; "session_ended" for ``invalid_grant``;
                "scope_widened", "patient_changed", "token_refused" or the reasons of
                :func:`.smart_answer.token_fields`.
            UpstreamError: No answer; whether the token is spent cannot be known.
        """
        key, registration = self._registration(tokens.issuer)
        configuration = self.discover(key, deadline)
        return self._sessions.refresh(configuration, registration, tokens, deadline)

    def introspect(
        self, issuer: str, token: str, deadline: float | None = None
    ) -> Introspection:
        """S27: what ``issuer`` says of a token that somebody showed us.

        Raises:
            SmartError: "capability_missing", "introspection_refused" or
                "introspection_malformed".
            UpstreamError: No answer.
        """
        key, registration = self._registration(issuer)
        configuration = self.discover(key, deadline)
        return self._sessions.introspect(configuration, registration, token, deadline)

    def revoke(self, tokens: TokenSet, deadline: float | None = None) -> bool:
        """S28: end both tokens at the server; False when it offers no revocation.

        Raises:
            SmartError: "revocation_refused".
            UpstreamError: No answer.
        """
        key, registration = self._registration(tokens.issuer)
        configuration = self.discover(key, deadline)
        return self._sessions.revoke(configuration, registration, tokens, deadline)

    def _registration(self, issuer: str) -> tuple[str, Registration]:
        """S5: canonical comparison, and no outbound request for a stranger."""
        key = canonical_issuer(issuer)
        registration = self._registered.get(key)
        if registration is None:
            raise SmartError("issuer_not_allowed")
        return key, registration

    def _use_state(self, pending: Pending, state: str) -> None:
        """S9 and S14. Nothing has been sent when this refuses."""
        matches = hmac.compare_digest(pending.state.encode(), state.encode())
        if not matches or not pending.state:
            raise SmartError("state_mismatch")
        now = self._clock()
        if not 0 <= now - pending.created_at < PENDING_SECONDS:
            raise SmartError("state_expired")
        with self._lock:
            if pending.state in self._used:
                raise SmartError("state_reused")
            self._used = {s: end for s, end in self._used.items() if end > now}
            if len(self._used) >= self._max_launches:
                # Forgetting one would open it to replay, so nobody gets in.
                raise SmartError("too_many_launches")
            self._used[pending.state] = now + PENDING_SECONDS

    def _exchange(
        self,
        configuration: SmartConfiguration,
        registration: Registration,
        pending: Pending,
        code: str,
        deadline: float | None,
    ) -> Mapping[str, Any]:
        """S16: one POST with verifier and the identical redirect_uri."""
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": registration.redirect_uri,
            "code_verifier": pending.code_verifier,
        }
        answer = post(
            self._door,
            configuration.token_endpoint,
            form,
            configuration=configuration,
            registration=registration,
            now=self._clock(),
            deadline=deadline,
        )
        if answer.status != 200:
            raise SmartError("token_refused")
        return read_document(answer, "token_malformed")

    def _token_set(
        self,
        configuration: SmartConfiguration,
        registration: Registration,
        pending: Pending,
        answer: Mapping[str, Any],
        deadline: float | None,
    ) -> TokenSet:
        """S17 to S21."""
        now = self._clock()
        fields = token_fields(answer, pending.scopes, now)
        claims: dict[str, Any] = {}
        if "openid" in fields.scope.split():
            token = optional_text(answer, "id_token")
            if token is None:
                raise SmartError("id_token_missing")
            claims = verify_id_token(
                token,
                self._issuer_keys(configuration),
                issuer=configuration.token_issuer,
                client_id=registration.client_id,
                nonce=pending.nonce,
                now=now,
                deadline=deadline,
            )
        user = fhir_user_of(claims, configuration.issuer)
        fields = replace(fields, issuer=configuration.issuer)
        return with_identity(fields, user, claims)

    def _issuer_keys(self, configuration: SmartConfiguration) -> IssuerKeys:
        """The key cache of one issuer."""
        url = configuration.jwks_uri
        if not url:
            raise SmartError("configuration_malformed", "jwks_uri")

        def fetch(deadline: float | None) -> bytes:
            answer = self._door.get(url, None, deadline, max_bytes=MAX_DOCUMENT_BYTES)
            if answer.status != 200:
                raise SmartError("jwks_status")
            return answer.body

        with self._lock:
            return self._keys.setdefault(url, IssuerKeys(fetch, self._clock))


def _check_redirect_uri(uri: str) -> None:
    """S12: https, or loopback in development."""
    url = parse_url(uri)
    if url.scheme != "https" and not url.is_loopback_host:
        raise SmartError("redirect_uri_not_allowed")


def _check_launch(launch: str | None, scopes: str) -> None:
    """S6 and S8: the launch parameter and the scopes tell the same story."""
    asked = set(scopes.split())
    if launch is None:
        if "launch/patient" not in asked:
            raise SmartError("scope_launch_missing")
        return
    if not _LAUNCH.fullmatch(launch):
        raise SmartError("launch_malformed")
    if "launch" not in asked:
        raise SmartError("scope_launch_missing")
