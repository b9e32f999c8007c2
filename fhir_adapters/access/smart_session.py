"""What follows a launch: refresh, introspection, revocation (S25, S27, S28).

Rules and attacks:

- S25 the new refresh token replaces the old one; ``invalid_grant`` ends the session; a
  refreshed token has no more rights than before and no other patient (an answer that
  widens is refused: a confused or hostile server).
- S27 an introspected token counts only when it is active and says its scope, client and
  end; the answer is kept for a minute at most, by the token's digest (a revoked token
  that goes on working; tokens in memory).
- S28 revocation, where advertised; 200 is the answer for unknown tokens too.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from fhir_adapters.access.outbound import OutboundDoor
from fhir_adapters.access.smart_answer import optional_text, token_fields
from fhir_adapters.access.smart_discovery import read_document
from fhir_adapters.access.smart_endpoint import post, token_answer
from fhir_adapters.access.smart_scopes import missing_scopes
from fhir_adapters.access.smart_types import (
    Registration,
    SmartConfiguration,
    TokenSet,
)
from fhir_adapters.errors import SmartError

INTROSPECTION_SECONDS = 60.0
_MAX_KEPT = 1000


@dataclass(frozen=True, slots=True)
class Introspection:
    """What the server says of a token (RFC 7662); without ``active`` nothing else."""

    active: bool
    scope: str = ""
    client_id: str = ""
    expires_at: float = 0.0
    patient: str | None = field(default=None, repr=False)
    issuer: str | None = None
    subject: str | None = field(default=None, repr=False)
    fhir_user: str | None = field(default=None, repr=False)


@dataclass(slots=True)
class Sessions:
    """Refresh, introspection and revocation at registered servers.

    Attributes:
        door: The guarded door.
        clock: Seconds since 1970.
    """

    door: OutboundDoor
    clock: Callable[[], float]
    _kept: dict[bytes, tuple[float, Introspection]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def refresh(
        self,
        configuration: SmartConfiguration,
        registration: Registration,
        tokens: TokenSet,
        deadline: float | None,
    ) -> TokenSet:
        """S25; see :meth:`.smart_oauth.SmartClient.refresh`."""
        if tokens.refresh_token is None:
            raise SmartError("no_refresh_token")
        form = {"grant_type": "refresh_token", "refresh_token": tokens.refresh_token}
        now = self.clock()
        answer = token_answer(
            post(
                self.door,
                configuration.token_endpoint,
                form,
                configuration=configuration,
                registration=registration,
                now=now,
                deadline=deadline,
            )
        )
        # A server may leave the patient out when it is the same as before.
        given = {"patient": tokens.patient, **answer}
        fresh = token_fields(given, tokens.scope, now)
        if missing_scopes(tokens.scope, fresh.scope):
            raise SmartError("scope_widened")
        if fresh.patient != tokens.patient:
            raise SmartError("patient_changed")
        return replace(
            tokens,
            access_token=fresh.access_token,
            scope=fresh.scope,
            expires_at=fresh.expires_at,
            refresh_token=fresh.refresh_token or tokens.refresh_token,
        )

    def introspect(
        self,
        configuration: SmartConfiguration,
        registration: Registration,
        token: str,
        deadline: float | None,
    ) -> Introspection:
        """S27; see :meth:`.smart_oauth.SmartClient.introspect`."""
        if not configuration.introspection_endpoint:
            raise SmartError("capability_missing", "introspection_endpoint")
        digest = hashlib.sha256(f"{configuration.issuer}\0{token}".encode()).digest()
        now = self.clock()
        with self._lock:
            until, kept = self._kept.get(digest, (0.0, None))
        if kept is not None and now < until:
            return kept
        answer = post(
            self.door,
            configuration.introspection_endpoint,
            {"token": token, "token_type_hint": "access_token"},
            configuration=configuration,
            registration=registration,
            now=now,
            deadline=deadline,
        )
        if answer.status != 200:
            raise SmartError("introspection_refused")
        found = _introspection(read_document(answer, "introspection_malformed"), now)
        until = now + INTROSPECTION_SECONDS
        if found.active:
            until = min(until, found.expires_at)
        with self._lock:
            self._kept = {d: k for d, k in self._kept.items() if k[0] > now}
            if len(self._kept) < _MAX_KEPT:
                self._kept[digest] = (until, found)
        return found

    def revoke(
        self,
        configuration: SmartConfiguration,
        registration: Registration,
        tokens: TokenSet,
        deadline: float | None,
    ) -> bool:
        """S28; see :meth:`.smart_oauth.SmartClient.revoke`."""
        if not configuration.revocation_endpoint:
            return False
        both = (
            ("refresh_token", tokens.refresh_token),
            ("access_token", tokens.access_token),
        )
        for hint, token in both:
            if token is None:
                continue
            self._forget(configuration, token)
            answer = post(
                self.door,
                configuration.revocation_endpoint,
                {"token": token, "token_type_hint": hint},
                configuration=configuration,
                registration=registration,
                now=self.clock(),
                deadline=deadline,
            )
            if answer.status != 200:
                raise SmartError("revocation_refused")
        return True

    def _forget(self, configuration: SmartConfiguration, token: str) -> None:
        digest = hashlib.sha256(f"{configuration.issuer}\0{token}".encode()).digest()
        with self._lock:
            self._kept.pop(digest, None)


def _introspection(answer: Mapping[str, Any], now: float) -> Introspection:
    """The answer, held to what SMART 2.2 requires of an active token."""
    active = answer.get("active")
    if not isinstance(active, bool):
        raise SmartError("introspection_malformed")
    if not active:
        return Introspection(False)
    scope, client = optional_text(answer, "scope"), optional_text(answer, "client_id")
    end = answer.get("exp")
    if isinstance(end, bool) or not isinstance(end, int | Decimal):
        raise SmartError("introspection_malformed", "exp")
    if scope is None or client is None:
        raise SmartError("introspection_malformed")
    if end <= now:
        return Introspection(False)
    return Introspection(
        active=True,
        scope=scope,
        client_id=client,
        expires_at=float(end),
        patient=optional_text(answer, "patient"),
        issuer=optional_text(answer, "iss"),
        subject=optional_text(answer, "sub"),
        fhir_user=optional_text(answer, "fhirUser"),
    )
