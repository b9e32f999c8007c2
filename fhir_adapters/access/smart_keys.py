"""Our own signing keys at an EHR's token endpoint (SMART 2.2, asymmetric client auth).

Rules, numbered as in the SMART checklist:

- S29 an assertion is RS384 or ES384, names its ``kid``, lives five minutes at most and
  carries a ``jti`` of its own: it is built anew for every request (attack: replay).
- S31 what we publish is the public half of every key in the ring, never more.

A ring rotates in three steps, each a change of the file: **add** the new key at the end
(published, not signing), wait until EHRs have read it, put it **first** (signing, the
old one still published), wait for the last old assertion, **remove** the old one.

Keys become joserfc objects once, when the ring is read: a PEM text handed to the signer
would be taken for RSA whatever it is.
"""

from __future__ import annotations

import json
import re
import secrets
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeyParameters, RSAKey

from fhir_adapters.errors import SmartError

ASSERTION_SECONDS = 240  # S29 allows 300; clocks differ
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
KEY_SET_SECONDS = 300
_KID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_MIN_RSA_BITS = 2048
_MAX_KEYS = 8

Key = RSAKey | ECKey


class KeyRing:
    """Private signing keys; the first one signs, all of them are published.

    Args:
        documents: The keys as private JWKs with ``kid``: RSA of 2048 bits or more, or
            EC on P-384.

    Raises:
        SmartError: "signing_keys": none, too many, the same ``kid`` twice, a public
            key, or one of another kind.
    """

    def __init__(self, documents: Sequence[Mapping[str, Any]]) -> None:
        keys = [_private_key(document) for document in documents[: _MAX_KEYS + 1]]
        names = {str(key.kid) for key in keys}
        if not keys or len(keys) > _MAX_KEYS or len(names) != len(keys):
            raise SmartError("signing_keys")
        self._keys = tuple(keys)

    def __repr__(self) -> str:
        """The names of the keys only."""
        return f"KeyRing({', '.join(self.kids)})"

    @classmethod
    def read(cls, path: Path) -> KeyRing:
        """A ring from a JWKS file that nobody but its owner can read.

        Raises:
            SmartError: "signing_keys": unreadable, open to others, or as above.
        """
        try:
            if stat.S_IMODE(path.stat().st_mode) & 0o077:
                raise SmartError("signing_keys", "the file must have mode 0600")
            document = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as cause:
            raise SmartError("signing_keys") from cause
        keys = document.get("keys") if isinstance(document, dict) else None
        if not isinstance(keys, list) or not all(isinstance(k, dict) for k in keys):
            raise SmartError("signing_keys")
        return cls(keys)

    @property
    def kids(self) -> tuple[str, ...]:
        """The names of the keys, the signing one first."""
        return tuple(str(key.kid) for key in self._keys)

    def public_jwks(self) -> dict[str, Any]:
        """S31: the key set for the EHR, public halves only."""
        return {
            "keys": [
                {
                    **key.as_dict(private=False),
                    "use": "sig",
                    "alg": _algorithm(key),
                    "key_ops": ["verify"],
                }
                for key in self._keys
            ]
        }

    def assertion(self, client_id: str, token_url: str, now: float) -> str:
        """S29: who we are, for one request to ``token_url``.

        Args:
            client_id: Ours at this EHR; both ``iss`` and ``sub``.
            token_url: The audience.
            now: Seconds since 1970.
        """
        key = self._keys[0]
        algorithm = _algorithm(key)
        header = {"alg": algorithm, "kid": str(key.kid), "typ": "JWT"}
        claims = {
            "iss": client_id,
            "sub": client_id,
            "aud": token_url,
            "iat": int(now),
            "exp": int(now) + ASSERTION_SECONDS,
            "jti": secrets.token_urlsafe(24),
        }
        return str(jwt.encode(header, claims, key, algorithms=[algorithm]))


def new_key(kind: str, kid: str) -> dict[str, Any]:
    """A fresh private JWK: ``kind`` is "RS384" (3072 bits) or "ES384"."""
    parameters: KeyParameters = {"kid": kid}
    if kind == "ES384":
        return dict(ECKey.generate_key("P-384", parameters).as_dict(private=True))
    return dict(RSAKey.generate_key(3072, parameters).as_dict(private=True))


def _private_key(document: Mapping[str, Any]) -> Key:
    kid = document.get("kid")
    if not isinstance(kid, str) or not _KID.fullmatch(kid) or "d" not in document:
        raise SmartError("signing_keys", "a private key with a kid is needed")
    try:
        if document.get("kty") == "EC" and document.get("crv") == "P-384":
            return ECKey.import_key(dict(document))
        if document.get("kty") == "RSA" and _bits(document) >= _MIN_RSA_BITS:
            return RSAKey.import_key(dict(document))
    except (JoseError, ValueError, TypeError, KeyError, AttributeError) as cause:
        raise SmartError("signing_keys") from cause
    raise SmartError("signing_keys", "RSA of 2048 bits or EC on P-384")


def _bits(document: Mapping[str, Any]) -> int:
    """Size of an RSA modulus from its base64url text."""
    return len(str(document.get("n", ""))) * 6


def _algorithm(key: Key) -> str:
    return "ES384" if key.key_type == "EC" else "RS384"
