"""A small SMART authorisation server on loopback that can misbehave on demand."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

from tests.fhir_adapters.http_server import Handler, Server, serving

RSA = RSAKey.generate_key(2048, {"kid": "rsa-1"})
EC = ECKey.generate_key("P-384", {"kid": "ec-1"})
STRANGER = ECKey.generate_key("P-384", {"kid": "ec-1"})


def public(key: RSAKey | ECKey) -> dict[str, Any]:
    """The public half, as in a JWKS."""
    return dict(key.as_dict(private=False))


@dataclass
class SmartServer:
    """State of the server; the change hooks are how a test makes it misbehave."""

    origin: str = ""
    client_id: str = "trivium"
    client_secret: str | None = None
    key: RSAKey | ECKey = field(default_factory=lambda: EC)
    algorithm: str = "ES384"
    keys: list[dict[str, Any]] = field(
        default_factory=lambda: [public(RSA), public(EC)]
    )
    configuration: dict[str, Any] = field(default_factory=dict)
    claims: dict[str, Any] = field(default_factory=dict)
    header: dict[str, Any] = field(default_factory=dict)
    answer: dict[str, Any] = field(default_factory=dict)
    sign: Callable[[dict[str, Any], dict[str, Any]], str] | None = None
    status: dict[str, int] = field(default_factory=dict)
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    exchanges: list[dict[str, str]] = field(default_factory=list)

    @property
    def issuer(self) -> str:
        """The FHIR base."""
        return f"{self.origin}/fhir"

    def authorize(self, url: str) -> dict[str, str]:
        """What the browser brings back to our callback after the user agreed."""
        asked = {k: v[0] for k, v in parse_qs(urlsplit(url).query).items()}
        code = f"code-{len(self.codes)}"
        self.codes[code] = asked
        return {"code": code, "state": asked["state"]}

    def __call__(self, handler: Handler) -> None:
        """Answer one request."""
        path = urlsplit(handler.path).path
        documents: dict[str, Callable[[Handler], Any]] = {
            "/fhir/.well-known/smart-configuration": self._configuration,
            "/jwks.json": lambda _: {"keys": self.keys},
            "/token": self._token,
        }
        body = documents[path](handler)
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        handler.reply(raw, self.status.get(path, 200))

    def _configuration(self, handler: Handler) -> dict[str, Any]:
        return changed(
            {
                "issuer": self.issuer,
                "authorization_endpoint": f"{self.origin}/authorize",
                "token_endpoint": "../token",
                "jwks_uri": f"{self.origin}/jwks.json",
                "code_challenge_methods_supported": ["S256"],
                "capabilities": ["launch-ehr", "launch-standalone", "permission-v2"],
            },
            self.configuration,
        )

    def _token(self, handler: Handler) -> dict[str, Any]:
        form = {k: v[0] for k, v in parse_qs(handler.body().decode()).items()}
        form["authorization"] = handler.headers.get("Authorization", "")
        self.exchanges.append(form)
        asked = self.codes.pop(form["code"], None)
        digest = hashlib.sha256(form["code_verifier"].encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        if asked is None or asked["code_challenge"] != challenge:
            self.status["/token"] = 400
            return {"error": "invalid_grant"}
        return changed(
            {
                "access_token": "at-1",
                "token_type": "Bearer",
                "expires_in": 300,
                "scope": asked["scope"],
                "patient": "p1",
                "id_token": self._id_token(asked),
            },
            self.answer,
        )

    def _id_token(self, asked: dict[str, str]) -> str:
        now = int(time.time())
        claims = changed(
            {
                "iss": self.issuer,
                "sub": "u1",
                "aud": self.client_id,
                "iat": now,
                "exp": now + 300,
                "nonce": asked.get("nonce"),
                "fhirUser": "Practitioner/dr1",
            },
            self.claims,
        )
        header = changed(
            {"alg": self.algorithm, "kid": getattr(self.key, "kid", None)}, self.header
        )
        if self.sign is not None:
            return self.sign(header, claims)
        return jwt.encode(header, claims, self.key, algorithms=[header["alg"]])


def changed(fields: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """``fields`` with ``changes``; None removes a member."""
    merged = {**fields, **changes}
    return {name: value for name, value in merged.items() if value is not None}


def unsigned(header: dict[str, Any], claims: dict[str, Any]) -> str:
    """A token with ``alg: none``."""
    return f"{b64({**header, 'alg': 'none'})}.{b64(claims)}."


def b64(value: Any) -> str:
    """One part of a JWT."""
    raw = json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


@contextmanager
def smart_server() -> Iterator[tuple[SmartServer, Server]]:
    """Run one until the block ends."""
    state = SmartServer()
    with serving(state) as server:
        state.origin = server.origin
        yield state, server
