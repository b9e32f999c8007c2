"""Opaque access tokens and what they allow.

Rules:

- a token is sealed (HMAC, :mod:`itsdangerous`) with the store's own secret; a forged or
  altered one is refused (401);
- it ends after its life, five minutes unless asked otherwise (CDS Hooks 2.0,
  ``#passing-the-access-token-to-the-cds-service``);
- it is bound to one patient: asking for anybody else is 403 (patient compartment);
- scopes are SMART v2 (``patient/Type.cruds``) with v1 ``.read`` understood as ``.rs``;
- a revoked token is refused by the process that revoked it. Tokens carry no patient
  data but an id and are never logged.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from itsdangerous import BadSignature, URLSafeSerializer

from deploy.sandbox.errors import RequestError

# What the EHR lends the CDS service with a hook: read the chart of one patient.
HOOK_SCOPE = " ".join(
    f"patient/{kind}.rs"
    for kind in (
        "Patient",
        "Observation",
        "DiagnosticReport",
        "DocumentReference",
        "ImagingStudy",
        "Endpoint",
        "Encounter",
        "Condition",
        "Practitioner",
        "Binary",
    )
)
_SCOPE = re.compile(r"(?:patient|user)/([A-Z][A-Za-z]+|\*)\.(read|c?r?u?d?s?)")


@dataclass(frozen=True, slots=True)
class Grant:
    """What one access token stands for."""

    client: str
    patient: str
    scope: str
    expires_at: int
    jti: str

    def allows(self, kind: str, verb: str) -> bool:
        """Whether the scopes cover ``verb`` ("r" read, "s" search) on a type."""
        return any(
            match.group(1) in (kind, "*")
            and verb in match.group(2).replace("read", "rs")
            for item in self.scope.split()
            if (match := _SCOPE.fullmatch(item))
        )


def sealer(secret: bytes, purpose: str) -> URLSafeSerializer:
    """Sealing of small JSON values; what is sealed for one purpose fails another."""
    return URLSafeSerializer(
        secret,
        salt=f"sandbox {purpose}",
        signer_kwargs={"digest_method": hashlib.sha256, "key_derivation": "hmac"},
    )


class TokenSeal:
    """Issues and opens access tokens; any process with the same secret agrees."""

    def __init__(self, secret: bytes, clock: Callable[[], float] = time.time) -> None:
        self._serializer = sealer(secret, "access-token")
        self._clock = clock
        self._revoked: set[str] = set()
        self._lock = threading.Lock()

    def issue(self, client: str, patient: str, scope: str, life_s: int = 300) -> str:
        """A new token for one client, patient and scope."""
        grant = {
            "c": client,
            "p": patient,
            "s": scope,
            "e": int(self._clock()) + life_s,
            "j": secrets.token_urlsafe(12),
        }
        return str(self._serializer.dumps(grant))

    def open(self, token: str) -> Grant:
        """What a presented token allows.

        Raises:
            RequestError: 401 forged, expired or revoked.
        """
        try:
            held: dict[str, Any] = self._serializer.loads(token)
        except BadSignature as error:
            raise RequestError(401, "login", "invalid access token") from error
        grant = Grant(held["c"], held["p"], held["s"], held["e"], held["j"])
        with self._lock:
            revoked = grant.jti in self._revoked
        if revoked or grant.expires_at <= self._clock():
            raise RequestError(401, "login", "invalid access token")
        return grant

    def revoke(self, token: str) -> None:
        """Refuse this token from now on (in this process)."""
        jti = self.open(token).jti
        with self._lock:
            self._revoked.add(jti)


def bearer_grant(seal: TokenSeal, authorization: str | None) -> Grant:
    """The grant of an ``Authorization`` header.

    Raises:
        RequestError: 401 no bearer token, or one that is not valid.
    """
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.casefold() != "bearer" or not token.strip():
        raise RequestError(401, "login", "a bearer token is required")
    return seal.open(token.strip())
