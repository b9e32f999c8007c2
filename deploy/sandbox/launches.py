"""Launch contexts and authorisation codes: short-lived, single use, in memory.

The chart page makes a launch context; the SMART app brings it back to /authorize, gets
a code for it and trades the code for a token. Both are random, live for minutes and
are gone once used. A code that comes back a second time is a stolen code or a replay:
the token made from it is revoked (RFC 6749, section 4.1.2).
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

LAUNCH_LIFE_S = 600
CODE_LIFE_S = 60
MAX_OPEN = 1000

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LaunchContext:
    """What a SMART app learns from the EHR when it is launched."""

    patient: str
    encounter: str | None = None
    app_context: str | None = None


@dataclass(frozen=True, slots=True)
class PendingCode:
    """What an authorisation code stands for until it is traded."""

    client_id: str
    redirect_uri: str
    challenge: str
    scope: str
    nonce: str | None
    context: LaunchContext


class LaunchBook:
    """Open launches and codes of one running sandbox; thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._launches: dict[str, tuple[float, LaunchContext]] = {}
        self._codes: dict[str, tuple[float, PendingCode]] = {}
        self._spent: dict[str, str] = {}

    def open_launch(self, context: LaunchContext) -> str:
        """An opaque launch value for a context."""
        with self._lock:
            return self._add(self._launches, LAUNCH_LIFE_S, context)

    def take_launch(self, launch: str) -> LaunchContext | None:
        """The context of a launch value, once."""
        with self._lock:
            return self._take(self._launches, launch)

    def open_code(self, pending: PendingCode) -> str:
        """An authorisation code."""
        with self._lock:
            return self._add(self._codes, CODE_LIFE_S, pending)

    def take_code(self, code: str) -> PendingCode | None:
        """What a code stands for, once."""
        with self._lock:
            return self._take(self._codes, code)

    def spent(self, code: str, access_token: str) -> None:
        """Remember which token a used code gave."""
        with self._lock:
            self._trim(self._spent)
            self._spent[code] = access_token

    def token_of_spent(self, code: str) -> str | None:
        """Token that an already used code gave, None for a code never seen."""
        with self._lock:
            return self._spent.pop(code, None)

    def _add(self, book: dict[str, tuple[float, T]], life_s: float, value: T) -> str:
        self._trim(book)
        key = secrets.token_urlsafe(24)
        book[key] = (self._clock() + life_s, value)
        return key

    def _take(self, book: dict[str, tuple[float, T]], key: str) -> T | None:
        ends, value = book.pop(key, (0.0, None))
        return value if ends > self._clock() else None

    @staticmethod
    def _trim(book: dict[str, Any]) -> None:
        """Forget the oldest, so that a loop cannot fill the memory."""
        while len(book) >= MAX_OPEN:
            book.pop(next(iter(book)))
