"""SMART backend services: a token for ourselves, without a user (S29, S30, S32).

Rules and attacks:

- S30 ``client_credentials`` with a signed assertion and ``system/`` scopes only.
- S32 a refresh token is not kept, whatever the server sends; a token is used for five
  minutes at most, however long the server says, and renewed when four fifths of its
  life are over (a stolen token's worth); TLS 1.2 or later is the door's rule.
- One thread asks, the others wait for its answer (a herd at the token endpoint).

    backend = BackendClient(door, Registration(issuer, client_id, "", keys=ring))
    client = FhirClient(issuer, door, backend.bearer("system/Patient.r"))
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace

from fhir_adapters.access.outbound import OutboundDoor
from fhir_adapters.access.smart_answer import token_fields
from fhir_adapters.access.smart_discovery import Discovery, canonical_issuer
from fhir_adapters.access.smart_endpoint import ASYMMETRIC, post, token_answer
from fhir_adapters.access.smart_scopes import parse_scope
from fhir_adapters.access.smart_types import Registration, TokenSet
from fhir_adapters.errors import SmartError

MAX_TOKEN_SECONDS = 300.0
RENEW_AT = 0.8
_MIN_TOKEN_AGE = 1.0  # seconds; a younger token that is refused is not worth another


class BackendClient:
    """Our own access to one server; shared by threads.

    Args:
        door: The guarded door.
        registration: With ``keys``; no redirect_uri is needed.
        clock: Seconds since 1970.

    Raises:
        SmartError: "signing_keys": the registration has none.
    """

    def __init__(
        self,
        door: OutboundDoor,
        registration: Registration,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if registration.keys is None:
            raise SmartError("signing_keys")
        self._door = door
        # A secret must not become a way in where an assertion is asked for (S30).
        self._registration = replace(registration, client_secret=None)
        self._clock = clock
        self._discovery = Discovery(door, clock)

    def client_credentials(
        self, scopes: str, deadline: float | None = None
    ) -> TokenSet:
        """A new token.

        Args:
            scopes: ``system/`` scopes, separated by blanks.
            deadline: ``time.monotonic()`` value.

        Raises:
            SmartError: "scope_not_system", "capability_missing", "token_refused" and
                the reasons of :meth:`.smart_discovery.Discovery.find`.
            UpstreamError: No answer.
        """
        parsed = [parse_scope(text) for text in scopes.split()]
        if not parsed or any(s is None or s.level != "system" for s in parsed):
            raise SmartError("scope_not_system")
        issuer = canonical_issuer(self._registration.issuer)
        configuration = self._discovery.find(issuer, deadline)
        if ASYMMETRIC not in configuration.capabilities:
            raise SmartError("capability_missing", ASYMMETRIC)
        now = self._clock()
        answer = post(
            self._door,
            configuration.token_endpoint,
            {"grant_type": "client_credentials", "scope": scopes},
            configuration=configuration,
            registration=self._registration,
            now=now,
            deadline=deadline,
        )
        fields = token_fields(token_answer(answer), scopes, now)
        return replace(
            fields,
            issuer=issuer,
            refresh_token=None,
            expires_at=min(fields.expires_at, now + MAX_TOKEN_SECONDS),
        )

    def bearer(self, scopes: str) -> BackendBearer:
        """A source of tokens for a FHIR client."""
        return BackendBearer(self, scopes, self._clock)


class BackendBearer:
    """Tokens for ourselves, renewed in time; see :class:`.bearer.Bearer`.

    Args:
        client: Where they come from.
        scopes: What for.
        clock: Seconds since 1970.
    """

    def __init__(
        self, client: BackendClient, scopes: str, clock: Callable[[], float]
    ) -> None:
        self._client = client
        self._scopes = scopes
        self._clock = clock
        self._held: TokenSet | None = None
        self._renew_at = 0.0
        self._made_at = 0.0
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        """Without the token."""
        return f"BackendBearer({self._scopes})"

    def token(self, deadline: float | None = None) -> str:
        """A token with at least a fifth of its life before it.

        Raises:
            SmartError: As :meth:`BackendClient.client_credentials`.
        """
        with self._lock:
            if self._held is None or self._clock() >= self._renew_at:
                return self._ask(deadline)
            return self._held.access_token

    def renewed(self, refused: str, deadline: float | None = None) -> str | None:
        """A new token in place of ``refused``, unless that one is brand new."""
        with self._lock:
            if self._held is not None and self._held.access_token != refused:
                return self._held.access_token
            if self._clock() - self._made_at < _MIN_TOKEN_AGE:
                return None
            return self._ask(deadline)

    def _ask(self, deadline: float | None) -> str:
        now = self._clock()
        self._held = None
        made = self._client.client_credentials(self._scopes, deadline)
        self._held, self._made_at = made, now
        self._renew_at = now + RENEW_AT * (made.expires_at - now)
        return made.access_token
