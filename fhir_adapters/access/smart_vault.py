"""Tokens at rest, and one refresh at a time for all workers of a host (S25, S26).

Rules and attacks:

- A row is sealed with AES-256-GCM under a named key and bound to its handle; rows are
  found by the handle's digest (a stolen file, a row moved to another session).
- The first key seals, every key opens, so a key can be changed without ending sessions.
- A refresh takes a lease on the row; whoever comes meanwhile waits for the new token
  instead of spending the old refresh token a second time, which a careful server takes
  for theft and answers by ending the session.
- ``invalid_grant`` deletes the row: the session is over.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fhir_adapters.access.smart_types import TokenSet
from fhir_adapters.errors import SmartError, UpstreamTimeoutError

LEASE_SECONDS = 10.0
_POLL_SECONDS = 0.02
_BUSY_SECONDS = 2.0

Refresh = Callable[[TokenSet], TokenSet]


class TokenVault:
    """Sealed token sets in one SQLite file, shared by threads and processes.

    Args:
        path: The file, created with mode 0600.
        keys: Name to 32 bytes; the first one seals.
        clock: Seconds since 1970.

    Raises:
        SmartError: "vault_keys": none, or one that is not 32 bytes.
    """

    def __init__(
        self,
        path: Path,
        keys: Mapping[str, bytes],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not keys or any(len(key) != 32 for key in keys.values()):
            raise SmartError("vault_keys")
        self._path, self._clock = path, clock
        self._sealing = next(iter(keys))
        self._seals = {name: AESGCM(key) for name, key in keys.items()}
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)
        with self._connection() as db:
            db.execute(
                "CREATE TABLE IF NOT EXISTS tokens (id BLOB PRIMARY KEY, "
                "ends REAL NOT NULL, kid TEXT NOT NULL, body BLOB NOT NULL, "
                "leased_until REAL NOT NULL DEFAULT 0)"
            )

    def put(self, tokens: TokenSet, seconds: float) -> str:
        """Keep ``tokens`` for ``seconds``; returns their random handle."""
        handle = secrets.token_urlsafe(32)
        now = self._clock()
        with self._connection() as db:
            db.execute("DELETE FROM tokens WHERE ends < ?", (now,))
            db.execute(
                "INSERT INTO tokens (id, ends, kid, body) VALUES (?, ?, ?, ?)",
                (
                    _row(handle),
                    now + seconds,
                    self._sealing,
                    self._sealed(handle, tokens),
                ),
            )
        return handle

    def get(self, handle: str) -> TokenSet:
        """The tokens of a live handle.

        Raises:
            SmartError: "session_ended": unknown, over, or sealed under a lost key.
        """
        with self._connection() as db:
            found = db.execute(
                "SELECT kid, body FROM tokens WHERE id = ? AND ends >= ?",
                (_row(handle), self._clock()),
            ).fetchone()
        if found is None or found[0] not in self._seals:
            raise SmartError("session_ended")
        body = bytes(found[1])
        try:
            clear = self._seals[found[0]].decrypt(body[:12], body[12:], _row(handle))
        except InvalidTag as cause:
            raise SmartError("session_ended") from cause
        content = json.loads(clear)
        content["missing_scopes"] = tuple(content["missing_scopes"])
        return TokenSet(**content)

    def drop(self, handle: str) -> None:
        """Forget a session."""
        with self._connection() as db:
            db.execute("DELETE FROM tokens WHERE id = ?", (_row(handle),))

    def refreshed(
        self, handle: str, refused: str, refresh: Refresh, deadline: float
    ) -> TokenSet:
        """Tokens other than ``refused``; at most one caller of all refreshes.

        Args:
            handle: The session.
            refused: The access token that is over or was answered with 401.
            refresh: Asks the server.
            deadline: ``time.monotonic()`` seconds.

        Raises:
            SmartError: "session_ended", or what ``refresh`` raises.
            UpstreamTimeoutError: Another worker's refresh takes too long.
        """
        while True:
            tokens = self.get(handle)
            if tokens.access_token != refused:
                return tokens
            if self._lease(handle):
                break
            if time.monotonic() + _POLL_SECONDS >= deadline:
                raise UpstreamTimeoutError("refresh_busy")
            time.sleep(_POLL_SECONDS)
        try:
            # Somebody may have finished between our look and our lease.
            tokens = self.get(handle)
            if tokens.access_token == refused:
                tokens = refresh(tokens)
                self._store(handle, tokens)
        except SmartError as error:
            if error.reason == "session_ended":
                self.drop(handle)
            raise
        finally:
            self._release(handle)
        return tokens

    def _lease(self, handle: str) -> bool:
        now = self._clock()
        with self._connection() as db:
            taken = db.execute(
                "UPDATE tokens SET leased_until = ? WHERE id = ? AND leased_until < ?",
                (now + LEASE_SECONDS, _row(handle), now),
            )
            return taken.rowcount == 1

    def _release(self, handle: str) -> None:
        with self._connection() as db:
            db.execute(
                "UPDATE tokens SET leased_until = 0 WHERE id = ?", (_row(handle),)
            )

    def _store(self, handle: str, tokens: TokenSet) -> None:
        with self._connection() as db:
            db.execute(
                "UPDATE tokens SET kid = ?, body = ? WHERE id = ?",
                (self._sealing, self._sealed(handle, tokens), _row(handle)),
            )

    def _sealed(self, handle: str, tokens: TokenSet) -> bytes:
        nonce = secrets.token_bytes(12)
        clear = json.dumps(_plain(tokens)).encode()
        seal = self._seals[self._sealing]
        return nonce + seal.encrypt(nonce, clear, _row(handle))

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        db = sqlite3.connect(self._path, timeout=_BUSY_SECONDS)
        try:
            with db:
                yield db
        finally:
            db.close()


class VaultBearer:
    """The tokens of one session; see :class:`.bearer.Bearer`.

    Args:
        vault: Where they are.
        handle: The session.
        refresh: Asks the server for new ones.
        clock: Seconds since 1970.
    """

    def __init__(
        self,
        vault: TokenVault,
        handle: str,
        refresh: Refresh,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._vault, self._handle = vault, handle
        self._refresh, self._clock = refresh, clock

    def token(self, deadline: float | None = None) -> str:
        """The access token, refreshed when its time is over.

        Raises:
            SmartError: "session_ended", or why the refresh failed.
        """
        tokens = self._vault.get(self._handle)
        if self._clock() >= tokens.expires_at:
            return self._renew(tokens.access_token, deadline)
        return tokens.access_token

    def renewed(self, refused: str, deadline: float | None = None) -> str | None:
        """A refreshed token, None where the launch gave no refresh token."""
        if self._vault.get(self._handle).refresh_token is None:
            return None
        return self._renew(refused, deadline)

    def _renew(self, refused: str, deadline: float | None) -> str:
        end = time.monotonic() + LEASE_SECONDS if deadline is None else deadline
        fresh = self._vault.refreshed(self._handle, refused, self._refresh, end)
        return fresh.access_token


def _plain(tokens: TokenSet) -> dict[str, object]:
    """The fields as JSON values; claims have done their work at the launch."""
    plain = {field.name: getattr(tokens, field.name) for field in fields(tokens)}
    return {
        **plain,
        "missing_scopes": list(tokens.missing_scopes),
        "id_token_claims": {},
    }


def _row(handle: str) -> bytes:
    return hashlib.sha256(b"trivium.tokens\0" + handle.encode()).digest()
