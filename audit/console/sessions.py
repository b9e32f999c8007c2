"""Sessions of the auditors' console, on the server side only.

Rules this module enforces (45 CFR 164.312(a)(2)(iii); attack in brackets):

- The browser holds a random id; a session that ended is gone, whatever the browser
  still sends (replayed cookie after logoff).
- It ends after 15 idle minutes and after 8 hours at the latest (walked-away desk).
- Each session has its own token against forged requests, compared in constant time
  (cross-site request forgery).

They live in memory: a restart of the console ends them all, which is what an auditor
would expect.
"""

from __future__ import annotations

import hmac
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256

from audit.users import Role

IDLE_SECONDS = 15 * 60
LONGEST_SECONDS = 8 * 3600
MAX_SESSIONS = 500


@dataclass(slots=True)
class Session:
    """One auditor at work; times on a monotonic clock, in seconds."""

    user: str
    role: Role
    csrf: str
    began: float
    seen: float

    def accepts(self, token: str) -> bool:
        """Whether a form's token belongs to it."""
        return hmac.compare_digest(self.csrf.encode(), token.encode())


class Sessions:
    """All sessions of this process; thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._open: dict[bytes, Session] = {}

    def begin(self, user: str, role: Role) -> str:
        """A new session; returns the id for the cookie."""
        handle, now = secrets.token_urlsafe(32), self._clock()
        with self._lock:
            self._forget_old(now)
            while len(self._open) >= MAX_SESSIONS:
                self._open.pop(next(iter(self._open)))
            csrf = secrets.token_urlsafe(32)
            self._open[_key(handle)] = Session(user, role, csrf, now, now)
        return handle

    def get(self, handle: str) -> Session | None:
        """The live session of a cookie, None when it ended; counts as activity."""
        now = self._clock()
        with self._lock:
            self._forget_old(now)
            session = self._open.get(_key(handle))
            if session is not None:
                session.seen = now
            return session

    def end(self, handle: str) -> None:
        """Log off."""
        with self._lock:
            self._open.pop(_key(handle), None)

    def _forget_old(self, now: float) -> None:
        self._open = {
            key: s
            for key, s in self._open.items()
            if now - s.seen < IDLE_SECONDS and now - s.began < LONGEST_SECONDS
        }


def _key(handle: str) -> bytes:
    return sha256(handle.encode()).digest()
