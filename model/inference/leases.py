"""Two threads of a worker: one keeps the lease of the job in hand, one finds lost jobs.

The lease is renewed while the work goes on, so a long job is not done twice; it stops
with the process, so a killed worker's job is free again. The scan does what no message
leads to: jobs whose message or whose worker was lost.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from threading import Event, Thread
from types import TracebackType

from model.errors import JobError, JobStoreUnavailableError
from model.jobs.job import Claim
from model.jobs.store import JobStore

logger = logging.getLogger(__name__)

PURGE_EVERY_S = 60.0


class LeaseKeeper:
    """Renews one claim from a thread of its own until the block ends."""

    def __init__(self, store: JobStore, claim: Claim, pause_s: float) -> None:
        self._store = store
        self._claim = claim
        self._pause_s = pause_s
        self._done = Event()
        self._thread = Thread(target=self._keep, name="trivium-lease", daemon=True)

    def __enter__(self) -> LeaseKeeper:
        """Start renewing."""
        self._thread.start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _value: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        """Stop renewing."""
        self._done.set()
        self._thread.join()

    def _keep(self) -> None:
        while not self._done.wait(self._pause_s):
            try:
                held = self._store.renew(self._claim)
            except JobStoreUnavailableError:
                continue  # the lease may outlast a short outage
            if not held:
                logger.warning("job %s: the lease was lost", self._claim.job_id)
                return


class OverdueScan:
    """Looks for lost jobs every few seconds, on a thread of its own."""

    def __init__(
        self, run_overdue: Callable[[], int], store: JobStore, pause_s: float
    ) -> None:
        self._run_overdue = run_overdue
        self._store = store
        self._pause_s = pause_s
        self._stop = Event()
        self._thread = Thread(target=self._scan, name="trivium-scan", daemon=True)

    def start(self) -> None:
        """Begin, at once with a first look."""
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """End after the job in hand; what is not done by then is done by another."""
        self._stop.set()
        self._thread.join(timeout_s)

    def _scan(self) -> None:
        purge_at = time.monotonic()
        while not self._stop.is_set():
            try:
                if time.monotonic() >= purge_at:
                    purge_at += PURGE_EVERY_S
                    self._store.purge_expired()
                self._run_overdue()
            except JobError as exc:
                logger.warning("scan for lost jobs: %s", exc.code)
            self._stop.wait(self._pause_s)
