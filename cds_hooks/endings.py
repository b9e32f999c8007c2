"""How gatherings ended, by the id that stands in the link of a "not ready" card.

The link can be opened for as long as a session lives, which is longer than a flight is
kept. What is kept here is a job's id or a reason's code: no evidence, no patient.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

KEPT_S = 4 * 3600.0
MAX_KEPT = 10_000


@dataclass(frozen=True, slots=True)
class Ending:
    """The job that a gathering ended in, or the code of the reason for none."""

    job_id: str | None
    reason: str


class Endings:
    """A bounded memory, oldest out first; safe for threads.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept: OrderedDict[str, tuple[float, Ending]] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, flight_id: str, ending: Ending) -> None:
        """Remember one ending, and forget the oldest when there are too many."""
        with self._lock:
            self._kept[flight_id] = (self._clock(), ending)
            while len(self._kept) > MAX_KEPT or self._oldest_is_over():
                self._kept.popitem(last=False)

    def get(self, flight_id: str) -> Ending | None:
        """The ending of a gathering; None when unknown or forgotten."""
        with self._lock:
            at, ending = self._kept.get(flight_id, (0.0, None))
        return ending if self._clock() - at <= KEPT_S else None

    def _oldest_is_over(self) -> bool:
        at, _ = next(iter(self._kept.values()))
        return self._clock() - at > KEPT_S
