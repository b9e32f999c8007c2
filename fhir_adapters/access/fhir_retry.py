"""When a FHIR request is sent again, and how long to wait before.

Rules:

1. 429 and 503 wait as long as ``Retry-After`` says, in seconds or as a date (RFC 9110
   section 10.2.3), if that is no longer than :data:`MAX_WAIT_S`. A longer or unreadable
   one is an answer too: not now (S34).
2. Without the header, 429, 502, 503 and 504 wait a little, twice as long each time, by
   chance up to a half more, so that many clients do not come back in step.
3. A connection that failed or broke is tried again for a GET only; time that ran out
   never is.
4. Nothing waits beyond the caller's deadline, and nothing is sent more than
   :attr:`RetryPolicy.attempts` times. 401 and 403 are not here: they are not luck.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from fhir_adapters.access.outbound import Response
from fhir_adapters.errors import UpstreamError, UpstreamTimeoutError

MAX_WAIT_S = 2.0  # a hook has no longer
_STATED = frozenset({429, 503})
_BACKOFF = frozenset({429, 502, 503, 504})
_BROKEN = frozenset({"connection_failed", "connection_broken"})


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often, and how patiently.

    Attributes:
        attempts: Requests at most, the first one included.
        first_wait_s: Wait before the second one, seconds, where the server names none.
        chance: Draws from [0, 1) for the spread of the waits.
    """

    attempts: int = 3
    first_wait_s: float = 0.1
    chance: Callable[[], float] = field(default=random.random, repr=False)

    def backoff(self, done: int) -> float:
        """Seconds to wait after the attempt number ``done``, counted from 1."""
        wait = self.first_wait_s * 2.0 ** (done - 1)
        return min(wait * (1.0 + self.chance() / 2.0), MAX_WAIT_S)


def send(
    once: Callable[[], Response],
    policy: RetryPolicy,
    deadline: float,
    *,
    repeatable: bool = True,
) -> Response:
    """Call ``once`` until it brings an answer that waiting would not change.

    Args:
        once: Sends the request.
        policy: How often.
        deadline: ``time.monotonic()`` seconds.
        repeatable: True for a GET: a broken connection may be tried again.

    Raises:
        AdapterError: What the last call raised.
    """
    attempt = 0
    while True:
        attempt += 1
        last = attempt >= policy.attempts
        try:
            answer = once()
        except UpstreamError as error:
            if last or not (repeatable and is_luck(error)):
                raise
            wait: float | None = policy.backoff(attempt)
            if not _wait(wait, deadline):
                raise
            continue
        wait = None if last else wait_of(answer, policy, attempt)
        if not _wait(wait, deadline):
            return answer


def is_luck(error: UpstreamError) -> bool:
    """True for a connection that failed, which another one may not."""
    late = isinstance(error, UpstreamTimeoutError)
    return not late and error.reason in _BROKEN


def wait_of(answer: Response, policy: RetryPolicy, attempt: int) -> float | None:
    """Seconds until ``answer`` may be better, None when it is final."""
    stated = answer.headers.get("retry-after")
    if stated is not None and answer.status in _STATED:
        return retry_after(stated)
    return policy.backoff(attempt) if answer.status in _BACKOFF else None


def retry_after(stated: str, now: datetime | None = None) -> float | None:
    """Seconds that a ``Retry-After`` asks for; None when too long or unreadable."""
    if re.fullmatch(r"[0-9]{1,6}", stated):
        seconds = float(stated)
    else:
        try:
            moment = parsedate_to_datetime(stated)
        except ValueError:
            return None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        seconds = max((moment - (now or datetime.now(UTC))).total_seconds(), 0.0)
    return seconds if seconds <= MAX_WAIT_S else None


def _wait(seconds: float | None, deadline: float) -> bool:
    """Sleep; False when there is nothing to wait for or no time for it."""
    if seconds is None or time.monotonic() + seconds >= deadline:
        return False
    time.sleep(seconds)
    return True
