"""Verify an OpenID Connect id_token (SMART App Launch 2.2; checklist S19 to S22).

Rules, each with its attack:

1. RS256, RS384, ES256, ES384 and nothing else: ``none``, and a public key used as an
   HMAC secret (algorithm confusion).
2. Keys come from the issuer's own jwks_uri, never from the token's header (jku, x5u,
   jwk), and RSA keys below 2048 bits are not used.
3. An unknown ``kid`` causes one new fetch, not oftener than once a minute (a flood of
   made-up kids). Without ``kid`` every key of the fitting type is tried.
4. iss, aud, azp, exp, iat and nonce all hold, with 60 seconds of clock skew: tokens of
   another issuer, for another client, from another launch, or old.

The library checks the signature only; an expired token decodes. Rule 4 is ours.
"""

from __future__ import annotations

import threading
from base64 import urlsafe_b64decode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

from fhir_adapters.errors import MalformedResourceError, SmartError
from fhir_adapters.fhir_json import parse_json

ALGORITHMS = {"RS256": "RSA", "RS384": "RSA", "ES256": "EC", "ES384": "EC"}
SKEW_SECONDS = 60.0
REFETCH_SECONDS = 60.0
KEYS_SECONDS = 3600.0
_MAX_TOKEN = 16 * 1024
_MAX_KEYS = 64
_MIN_RSA_BITS = 2048

Key = RSAKey | ECKey


@dataclass(slots=True)
class IssuerKeys:
    """The signing keys of one issuer, fetched when needed and kept for an hour.

    Attributes:
        fetch: Gets the JWKS document through the guarded door.
        clock: Seconds, any origin.
    """

    fetch: Callable[[float | None], bytes]
    clock: Callable[[], float]
    _keys: tuple[Key, ...] = ()
    _fetched_at: float | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def candidates(
        self, header: Mapping[str, Any], deadline: float | None
    ) -> list[Key]:
        """The keys that may have signed a token with this header (rules 2 and 3)."""
        with self._lock:
            now = self.clock()
            age = None if self._fetched_at is None else now - self._fetched_at
            if age is None or age > KEYS_SECONDS:
                self._refresh(now, deadline)
            elif age > REFETCH_SECONDS and not self._fitting(header):
                self._refresh(now, deadline)
            return self._fitting(header)

    def _refresh(self, now: float, deadline: float | None) -> None:
        self._fetched_at = now
        self._keys = _read_keys(self.fetch(deadline))

    def _fitting(self, header: Mapping[str, Any]) -> list[Key]:
        key_type = ALGORITHMS[header["alg"]]
        kid = header.get("kid")
        return [
            key
            for key in self._keys
            if key.key_type == key_type and (None in (kid, key.kid) or key.kid == kid)
        ]


def verify_id_token(
    token: str,
    keys: IssuerKeys,
    *,
    issuer: str,
    client_id: str,
    nonce: str,
    now: float,
    deadline: float | None = None,
) -> dict[str, Any]:
    """The claims of ``token``, after every rule above.

    Args:
        token: Compact JWS.
        keys: The issuer's keys.
        issuer: What ``iss`` must be.
        client_id: What ``aud`` must contain.
        nonce: What ``nonce`` must be.
        now: Seconds since 1970.
        deadline: ``time.monotonic()`` value for a fetch of keys.

    Raises:
        SmartError: "id_token_malformed", "id_token_algorithm", "id_token_signature",
            "id_token_issuer", "id_token_audience", "id_token_expired",
            "id_token_issued_at" or "id_token_nonce".
    """
    header = _header(token)
    # Rule 1, before any key is looked at.
    if header.get("alg") not in ALGORITHMS:
        raise SmartError("id_token_algorithm")
    claims = _verified_claims(token, header["alg"], keys.candidates(header, deadline))
    _check_claims(claims, issuer=issuer, client_id=client_id, nonce=nonce, now=now)
    return claims


def _header(token: str) -> dict[str, Any]:
    """The token's header, unverified: used to choose among the issuer's keys only."""
    first = token.partition(".")[0] if len(token) <= _MAX_TOKEN else ""
    try:
        header = parse_json(_base64url(first))
    except (ValueError, MalformedResourceError) as cause:
        raise SmartError("id_token_malformed") from cause
    if not isinstance(header, dict):
        raise SmartError("id_token_malformed")
    if not isinstance(header.get("kid"), str | None):
        raise SmartError("id_token_malformed")
    if not isinstance(header.get("alg"), str):
        raise SmartError("id_token_algorithm")
    return header


def _verified_claims(token: str, algorithm: str, keys: list[Key]) -> dict[str, Any]:
    """Try each key; the error of the last says nothing that a caller could use."""
    for key in keys:
        try:
            decoded = jwt.decode(token, key, algorithms=[algorithm])
        except (JoseError, ValueError, TypeError, RecursionError):
            continue
        return dict(decoded.claims)
    raise SmartError("id_token_signature")


def _check_claims(
    claims: Mapping[str, Any], *, issuer: str, client_id: str, nonce: str, now: float
) -> None:
    """Rule 4."""
    if claims.get("iss") != issuer:
        raise SmartError("id_token_issuer")
    audience = claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    if client_id not in audiences:
        raise SmartError("id_token_audience")
    party = claims.get("azp", None if len(audiences) > 1 else client_id)
    if party != client_id:
        raise SmartError("id_token_audience", "azp")
    expires, issued = _number(claims.get("exp")), _number(claims.get("iat"))
    if expires is None or expires <= now - SKEW_SECONDS:
        raise SmartError("id_token_expired")
    if issued is None or issued > now + SKEW_SECONDS:
        raise SmartError("id_token_issued_at")
    if claims.get("nonce") != nonce:
        raise SmartError("id_token_nonce")


def _number(value: object) -> float | None:
    """A numeric date, None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value)


def _read_keys(document: bytes) -> tuple[Key, ...]:
    """The public signing keys of a JWKS; entries of other kinds are left aside."""
    try:
        entries = parse_json(document)["keys"]
        listed = list(entries)[:_MAX_KEYS]
    except (MalformedResourceError, KeyError, TypeError) as cause:
        raise SmartError("jwks_malformed") from cause
    keys = (_read_key(entry) for entry in listed if isinstance(entry, dict))
    return tuple(key for key in keys if key is not None)


def _read_key(entry: dict[str, Any]) -> Key | None:
    """One signing key, None when it is of no use to us (rule 2)."""
    if entry.get("use", "sig") != "sig" or entry.get("kty") not in {"RSA", "EC"}:
        return None
    try:
        if entry["kty"] == "EC":
            return ECKey.import_key(entry)
        modulus = len(_base64url(entry["n"])) * 8
        return RSAKey.import_key(entry) if modulus >= _MIN_RSA_BITS else None
    except (JoseError, ValueError, TypeError, KeyError, AttributeError):
        # A broken neighbour must not take the good keys along; if no good one is
        # left, the signature check fails.
        return None


def _base64url(text: str) -> bytes:
    """Decode base64url without its padding."""
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))
