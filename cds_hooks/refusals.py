"""Refused calls in the audit log: counted exactly, never sampled, never a flood.

The first refusal of a source for a reason is recorded before its answer leaves. Those
that follow within ten seconds are counted, and the count is one more record. Attack
(threat TM-D2): ten thousand bad calls that fill the audit store and so stop the service
for everybody, or that bury the one record that matters.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from audit.log import AuditLog
from cds_hooks.audit_trail import record, refusal
from cds_hooks.client_auth import Caller
from cds_hooks.errors import AuditBlockedError, WebError

logger = logging.getLogger(__name__)

WINDOW_S = 10.0
MAX_SOURCES = 1000
OTHERS = "others"


@dataclass(slots=True)
class _Window:
    """Refusals of one source and reason since the last record.

    ``error`` is a fresh one: the raised one would keep the frames of its call (F3).
    """

    error: WebError
    caller: Caller | None
    opened_at: float
    count: int = 0


_Key = tuple[str, type[WebError], str]


class Refusals:
    """Collapses refusals; safe for threads.

    Args:
        log: The audit log.
        clock: Monotonic seconds.
    """

    def __init__(
        self, log: AuditLog, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._log = log
        self._clock = clock
        self._windows: dict[_Key, _Window] = {}
        self._lock = threading.Lock()

    def note(self, error: WebError, source: str, caller: Caller | None) -> None:
        """Record one refusal, at once or as part of a count.

        Raises:
            AuditBlockedError: the first of its kind could not be recorded.
        """
        with self._lock:
            if len(self._windows) >= MAX_SOURCES:
                source = OTHERS
            key = (source, type(error), error.reason)
            window = self._windows.get(key)
            if window is not None:
                window.count += 1
                return
            kept = type(error)(reason=error.reason)
            window = self._windows[key] = _Window(kept, caller, self._clock())
        try:
            record(self._log, refusal(error, source, 1, caller))
        except BaseException:
            self._take_back(key, window)
            raise

    def write_due(self, *, everything: bool = False) -> None:
        """Record the counts of windows that have ended.

        Raises:
            AuditBlockedError: not all could be recorded; they are kept.
        """
        now = self._clock()
        with self._lock:
            due = [
                (key, window)
                for key, window in self._windows.items()
                if everything or now - window.opened_at >= WINDOW_S
            ]
        for key, window in due:
            with self._lock:
                count, window.count = window.count, 0
                if not count:
                    self._windows.pop(key, None)
            if count:
                self._write(key, window, count)

    def close(self) -> None:
        """Record what is still only counted; logged when the audit log is gone."""
        try:
            self.write_due(everything=True)
        except AuditBlockedError:
            logger.warning("counts of refusals were lost: the audit log is gone")

    def _take_back(self, key: _Key, window: _Window) -> None:
        """The first record of a window failed: the next refusal is a first again.

        Where others were counted meanwhile, this one is counted with them.
        """
        with self._lock:
            if window.count:
                window.count += 1
            else:
                self._windows.pop(key, None)

    def _write(self, key: _Key, window: _Window, count: int) -> None:
        written = False
        try:
            record(self._log, refusal(window.error, key[0], count, window.caller))
            written = True
        finally:
            with self._lock:
                if written:
                    window.opened_at = self._clock()
                else:
                    window.count += count
