"""A strict authorisation and resource server: what a real one should refuse, it does.

Independent launchers answer data requests without a token and do not look at ``jti``,
scopes or expiry; this one does. Refresh tokens rotate and a spent one ends the session.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, RSAKey

from fhir_adapters.access.smart_keys import ASSERTION_TYPE, KeyRing, new_key
from tests.fhir_adapters.http_server import Handler, Server, serving
from tests.fhir_adapters.smart_server import SmartServer

EC_KEY = new_key("ES384", "ec-ours")
RSA_KEY = dict(RSAKey.generate_key(2048, {"kid": "rsa-ours"}).as_dict(private=True))
RING = KeyRing([EC_KEY, RSA_KEY])
_KINDS = {"EC": ECKey, "RSA": RSAKey}


@dataclass
class AuthServer(SmartServer):
    """Tokens that end, rotate and can be revoked; resources that ask for them."""

    ring: KeyRing = field(default_factory=lambda: RING)
    life_s: int = 300
    live: dict[str, dict[str, Any]] = field(default_factory=dict)
    refreshable: dict[str, dict[str, Any]] = field(default_factory=dict)
    used_jti: set[str] = field(default_factory=set)
    assertions: list[tuple[dict[str, Any], dict[str, Any]]] = field(
        default_factory=list
    )
    forms: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    delay_s: float = 0.0
    resources: dict[str, dict[str, Any]] = field(
        default_factory=lambda: {
            "/fhir/Patient/p1": {"resourceType": "Patient", "id": "p1"}
        }
    )
    lock: threading.Lock = field(default_factory=threading.Lock)
    number: int = 0
    clock: Callable[[], float] = time.time

    def __call__(self, handler: Handler) -> None:
        """Answer one request."""
        path = urlsplit(handler.path).path
        if path in ("/revoke", "/introspect"):
            form = {k: v[0] for k, v in parse_qs(handler.body().decode()).items()}
            self.forms.append((path, form))
            known = self._client(form)
            body = getattr(self, path[1:])(form) if known else b'{"error": "x"}'
            handler.reply(
                body if isinstance(body, bytes) else _json(body),
                self.status.get(path, 200 if known else 401),
            )
        elif path in self.resources:
            self._resource(handler, path)
        else:
            super().__call__(handler)

    def _configuration(self, handler: Handler) -> dict[str, Any]:
        made = super()._configuration(handler)
        extra = {
            "introspection_endpoint": f"{self.origin}/introspect",
            "revocation_endpoint": f"{self.origin}/revoke",
            "capabilities": [*made["capabilities"], "client-confidential-asymmetric"],
        }
        return {
            **made,
            **{k: v for k, v in extra.items() if k not in self.configuration},
        }

    def _token(self, handler: Handler) -> dict[str, Any] | bytes:
        form = {k: v[0] for k, v in parse_qs(handler.body().decode()).items()}
        self.forms.append(("/token", form))
        self.status["/token"] = 200
        if not self._client(form):
            return self._refused("invalid_client", 401)
        time.sleep(self.delay_s)
        grant = form["grant_type"]
        if grant == "client_credentials":
            return self._issued({"scope": form["scope"]})
        if grant == "authorization_code":
            asked = self.codes.pop(form["code"])
            return self._issued(
                {"scope": asked["scope"], "patient": "p1"},
                refresh=True,
                id_token=self._id_token(asked),
            )
        with self.lock:
            session = self.refreshable.pop(form["refresh_token"], None)
        if session is None:
            # A spent refresh token is a stolen one: the whole session ends.
            self.live.clear()
            self.refreshable.clear()
            return self._refused("invalid_grant", 400)
        return self._issued(session, refresh=True)

    def _refused(self, error: str, status: int) -> dict[str, Any]:
        self.status["/token"] = status
        return {"error": error, "error_description": "Doe^John"}

    def _issued(
        self, session: dict[str, Any], *, refresh: bool = False, **more: Any
    ) -> dict[str, Any]:
        with self.lock:
            self.number += 1
            token, renewal = f"at-{self.number}", f"rt-{self.number}"
            self.live[token] = {**session, "exp": self.clock() + self.life_s}
            if refresh:
                self.refreshable[renewal] = session
        made = {
            "access_token": token,
            "token_type": "Bearer",
            "expires_in": self.life_s,
            **session,
            **more,
            **({"refresh_token": renewal} if refresh else {}),
            **self.answer,
        }
        return {name: value for name, value in made.items() if value is not None}

    def _client(self, form: dict[str, str]) -> bool:
        """A valid assertion of our client, used once; a public client by its id."""
        if "client_assertion" not in form:
            return form.get("client_id") == self.client_id
        if form["client_assertion_type"] != ASSERTION_TYPE:
            return False
        keys = self.ring.public_jwks()["keys"]
        key_set = KeySet([_KINDS[key["kty"]].import_key(key) for key in keys])
        token = jwt.decode(
            form["client_assertion"], key_set, algorithms=["RS384", "ES384"]
        )
        claims, now = token.claims, self.clock()
        self.assertions.append((dict(token.header), dict(claims)))
        fits = (
            claims["iss"] == claims["sub"] == self.client_id
            and claims["aud"] == f"{self.origin}/token"
            and now < claims["exp"] <= now + 300
            and claims["jti"] not in self.used_jti
        )
        self.used_jti.add(claims["jti"])
        return fits

    def revoke(self, form: dict[str, str]) -> bytes:
        """RFC 7009: 200 whether the token was known or not."""
        self.live.pop(form["token"], None)
        self.refreshable.pop(form["token"], None)
        return b""

    def introspect(self, form: dict[str, str]) -> dict[str, Any]:
        """RFC 7662."""
        held = self.live.get(form["token"])
        if held is None:
            return {"active": False}
        return {
            "active": True,
            "client_id": self.client_id,
            "exp": int(held["exp"]),
            "iss": self.issuer,
            "sub": "u1",
            **{k: v for k, v in held.items() if k != "exp"},
            **self.answer,
        }

    def _resource(self, handler: Handler, path: str) -> None:
        token = handler.headers.get("Authorization", "").removeprefix("Bearer ")
        held = self.live.get(token)
        if held is None or held["exp"] <= self.clock():
            handler.reply(b"{}", 401)
        elif "Patient" not in held["scope"] and "*" not in held["scope"]:
            handler.reply(b"{}", 403)
        else:
            handler.reply(_json(self.resources[path]), self.status.get(path, 200))


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


@contextmanager
def auth_server() -> Iterator[tuple[AuthServer, Server]]:
    """Run one until the block ends."""
    state = AuthServer()
    with serving(state) as server:
        state.origin = server.origin
        yield state, server
