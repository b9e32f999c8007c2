"""Who is calling: the EHR's signed token, checked before anything else is looked at.

Rules, from CDS Hooks 2.0 "Trusting CDS Clients" and its best practices:

1.  J1  every call but a CORS preflight carries ``Authorization: Bearer <token>``.
2.  J5  the algorithm is on our list, ES384 or RS384. Attacks: ``none``; an HMAC keyed
        with the public key; a weaker algorithm than agreed.
3.  J2  ``typ`` is JWT and ``kid`` names the key. Attack: a token of another protocol
        that the same issuer signed; ``jwk``, ``x5u`` and ``x5c`` headers that bring
        their own key are never looked at, ``crit`` is refused.
4.  J6  ``iss`` is a tenant's issuer and ``jku``, when sent, is exactly the key set URL
        registered for it. Attack: a key set on the attacker's server. An address from
        a token is never fetched: only registered ones are.
5.  J3  ``iss``, ``aud``, ``exp``, ``iat`` and ``jti`` are there; there is no ``sub``.
6.  J4  ``aud`` holds the exact URL, built from the configured public URL. Attack: a
        token made for another service; a forged Host header.
7.  J7  not expired, not from the future, and not living longer than five minutes.
8.  J9  a ``tenant`` claim must be the tenant that the issuer belongs to.
9.  J8  a ``jti`` counts once, in all processes. Checked last, so that a bad token
        cannot burn the identifier of a good one.
10. J10 every refusal is the same empty 401; its reason is in the audit record only.
"""

from __future__ import annotations

import binascii
import json
import time
from base64 import urlsafe_b64decode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError

from cds_hooks.errors import UnauthenticatedError
from cds_hooks.key_sets import KeySets
from cds_hooks.replay import ReplayStore
from cds_hooks.tenants import Issuer, Tenant

ALGORITHMS = frozenset({"ES384", "RS384"})
MAX_TOKEN_CHARACTERS = 8192
MAX_IDENTIFIER_CHARACTERS = 512
MAX_LIFE_S = 300
CLOCK_SKEW_S = 30


@dataclass(frozen=True, slots=True)
class Caller:
    """The authenticated EHR; J10 allows these three to be logged."""

    tenant: Tenant
    iss: str
    jti: str


class ClientAuthenticator:
    """Verifies tokens of the configured tenants.

    Args:
        tenants: Who may call.
        key_sets: Source of the issuers' public keys.
        replay: Memory of used tokens, shared by all processes.
        clock: Seconds since the epoch.
    """

    def __init__(
        self,
        tenants: Sequence[Tenant],
        key_sets: KeySets,
        replay: ReplayStore,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._tenants = tuple(tenants)
        self._key_sets = key_sets
        self._replay = replay
        self._clock = clock

    def authenticate(
        self, authorization: str | None, audiences: Sequence[str], deadline: float
    ) -> Caller:
        """The caller that the Authorization header proves.

        Args:
            authorization: The header's value, None when it was not sent.
            audiences: The URLs that ``aud`` may name for this route.
            deadline: On the monotonic clock; ends a wait for the issuer's key set.

        Raises:
            UnauthenticatedError: with the reason for the audit record.
            KeySetError, ReplayStoreError: the token cannot be judged now.
        """
        token = _bearer(authorization)
        header, claims = _unverified(token)
        _check_header(header)
        tenant, issuer = self._issuer(claims)
        # Attack (J6): the token points to a key set of the attacker's.
        if issuer.jku and header.get("jku", issuer.jku) != issuer.jku:
            raise UnauthenticatedError(reason="foreign_jku")
        if not issuer.jku and "jku" in header:
            raise UnauthenticatedError(reason="foreign_jku")
        key = self._key_sets.key(tenant, issuer, header["kid"], deadline)
        try:
            # The list holds one algorithm, the one that was checked above.
            verified = jwt.decode(token, key, algorithms=[header["alg"]])
        except (JoseError, ValueError) as error:
            raise UnauthenticatedError(reason="bad_signature") from error
        claims = verified.claims
        now = self._clock()
        _check_times(claims, now)
        _check_audience(claims, audiences)
        jti = _identifier(claims, "jti")
        expires = _moment(claims, "exp") + CLOCK_SKEW_S
        if not self._replay.first_use(issuer.iss, jti, expires, now):
            raise UnauthenticatedError(reason="replayed")
        return Caller(tenant=tenant, iss=issuer.iss, jti=jti)

    def _issuer(self, claims: Mapping[str, Any]) -> tuple[Tenant, Issuer]:
        """The one registered issuer that the token names (J6, J9)."""
        iss = _identifier(claims, "iss")
        known = [(t, i) for t in self._tenants for i in t.issuers if i.iss == iss]
        if "tenant" in claims:
            known = [(t, i) for t, i in known if t.id == claims["tenant"]]
        if len(known) != 1:
            raise UnauthenticatedError(reason="unknown_issuer")
        return known[0]


def _bearer(authorization: str | None) -> str:
    if not authorization:
        raise UnauthenticatedError(reason="no_token")
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not token or len(token) > MAX_TOKEN_CHARACTERS:
        raise UnauthenticatedError(reason="no_token")
    return token


def _unverified(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims before the signature is checked: only to choose the key."""
    parts = token.split(".")
    if len(parts) != 3:
        raise UnauthenticatedError(reason="malformed_token")
    decoded = []
    for part in parts[:2]:
        try:
            padded = part + "=" * (-len(part) % 4)
            value = json.loads(urlsafe_b64decode(padded.encode("ascii")))
        except (ValueError, binascii.Error, RecursionError) as error:
            raise UnauthenticatedError(reason="malformed_token") from error
        if not isinstance(value, dict):
            raise UnauthenticatedError(reason="malformed_token")
        decoded.append(value)
    return decoded[0], decoded[1]


def _check_header(header: Mapping[str, Any]) -> None:
    """J2 and J5. Attacks: algorithm confusion, tokens of another type."""
    algorithm = header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        raise UnauthenticatedError(reason="bad_algorithm")
    if header.get("typ") != "JWT" or "crit" in header:
        raise UnauthenticatedError(reason="bad_type")
    _identifier(header, "kid")


def _check_times(claims: Mapping[str, Any], now: float) -> None:
    """J7. Attack: a stolen token that stays good for days."""
    issued, expires = _moment(claims, "iat"), _moment(claims, "exp")
    # Written so that NaN, which compares false to everything, is refused.
    if not (now - CLOCK_SKEW_S < expires):
        raise UnauthenticatedError(reason="expired")
    if not (issued <= now + CLOCK_SKEW_S):
        raise UnauthenticatedError(reason="issued_in_future")
    if not (0 < expires - issued <= MAX_LIFE_S):
        raise UnauthenticatedError(reason="lives_too_long")


def _moment(claims: Mapping[str, Any], name: str) -> float:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UnauthenticatedError(reason="missing_claim")
    return value


def _check_audience(claims: Mapping[str, Any], audiences: Sequence[str]) -> None:
    """J4. Attack: a token that was made for somebody else."""
    audience = claims.get("aud")
    named = audience if isinstance(audience, list) else [audience]
    if not any(isinstance(a, str) and a in audiences for a in named):
        raise UnauthenticatedError(reason="wrong_audience")


def _identifier(part: Mapping[str, Any], name: str) -> str:
    value = part.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= MAX_IDENTIFIER_CHARACTERS:
        raise UnauthenticatedError(reason="missing_claim")
    return value
