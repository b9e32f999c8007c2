"""What ends after its hook was answered: watched, recorded, and sent again if lost.

A hook that was answered "not ready" has an OUTCOME record already. When its assessment
ends, a ``job.done`` record says so, with the device and the model that did it, under
the same correlation id. Nothing is dropped in silence: an assessment that ends in an
error, expires or vanishes is recorded as failed or unknown, and a record that could not
be written is tried again. A process that ends records what it will not see the end of.

The same thread writes the counts of collapsed refusals (see :mod:`.refusals`), sends
jobs again whose message was lost, and deletes what has expired, so that a job store
without a worker does not keep patients' data for longer either (TM-I3).
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field

from audit.errors import AuditError
from audit.event import AuditEvent, Outcome
from audit.log import AuditLog
from cds_hooks.audit_trail import Trail, record
from cds_hooks.errors import AuditBlockedError
from cds_hooks.flight import Flight
from cds_hooks.refusals import Refusals
from fhir_adapters.errors import AdapterError
from model.errors import ModelError
from model.jobs.prediction import ModelIdentity
from model.jobs.queue import AssessmentQueue, JobView

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 0.25
RESEND_EVERY_S = 5.0
PURGE_EVERY_S = 60.0


@dataclass(slots=True, eq=False)
class LateCall:
    """One answered hook whose assessment is still on its way."""

    flight: Flight
    trail: Trail
    since: float = field(default_factory=time.monotonic)


class LateJobs:
    """The watching thread.

    Args:
        queue: The assessment queue.
        log: The audit log.
        model: The model that was asked.
        refusals: Collapsed refusals that are written from here.
        limit_s: After so many seconds an assessment without an end is "unknown".
    """

    def __init__(
        self,
        queue: AssessmentQueue,
        log: AuditLog,
        model: ModelIdentity,
        refusals: Refusals,
        *,
        limit_s: float,
    ) -> None:
        self._queue = queue
        self._log = log
        self._model = model
        self.refusals = refusals
        self._limit_s = limit_s
        self._calls: list[LateCall] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._resent_at = self._purged_at = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="late-jobs", daemon=True)
        self._thread.start()

    def watch(self, flight: Flight, trail: Trail) -> None:
        """Record the end of this assessment when it comes."""
        with self._lock:
            self._calls.append(LateCall(flight, trail))

    def watched(self) -> int:
        """How many assessments are still on their way."""
        with self._lock:
            return len(self._calls)

    def close(self) -> None:
        """Stop the thread, look once more, and record the rest as not known."""
        self._stop.set()
        self._thread.join(timeout=5.0)
        for call in self._watched_calls():
            self._look(call)

    def _run(self) -> None:
        while not self._stop.wait(LOOK_EVERY_S):
            calls = self._watched_calls()
            for call in calls:
                self._look(call)
            self._write_refusals()
            now = time.monotonic()
            if calls and now - self._resent_at > RESEND_EVERY_S:
                self._resent_at = now
                self._resend()
            if now - self._purged_at > PURGE_EVERY_S:
                self._purged_at = now
                self._purge()

    def _watched_calls(self) -> list[LateCall]:
        with self._lock:
            return list(self._calls)

    def _look(self, call: LateCall) -> None:
        """Record the call's end if it has come; no failure of one stops the others."""
        try:
            event = self._end_of(call)
            if event is None:
                return
            record(self._log, event)
        except AuditBlockedError:
            logger.warning("the end of an assessment waits for the audit log")
            return
        except (AuditError, ModelError, AdapterError) as error:
            # Kept and tried again: it must neither be lost nor stop the others.
            logger.error("the end of an assessment: %s", type(error).__name__)
            return
        with self._lock:
            if call in self._calls:
                self._calls.remove(call)

    def _end_of(self, call: LateCall) -> AuditEvent | None:
        """The record of the assessment's end; None while it has not ended."""
        overdue = time.monotonic() - call.since > self._limit_s
        job: JobView | None = None
        landing = call.flight.landing
        if landing.done():
            if landing.cancelled():
                return self._event(call, Outcome.UNKNOWN, "cancelled")
            error = landing.exception()
            if error is not None:
                reason = str(getattr(error, "reason", type(error).__name__))
                return self._event(call, Outcome.FAILED, reason)
            landed = landing.result()
            if landed.job is None:
                return self._event(call, Outcome.FAILED, landed.reason)
            try:
                job = self._queue.view(landed.job.job_id)
            except ModelError as refused:
                logger.warning("a late job cannot be looked up: %s", refused.code)
            else:
                if job is None:
                    return self._event(call, Outcome.UNKNOWN, "expired")
        if job is not None and job.finished:
            good = job.state == "ready"
            outcome = Outcome.OK if good else Outcome.FAILED
            return self._event(call, outcome, job.error or job.state, job)
        if self._stop.is_set():
            return self._event(call, Outcome.UNKNOWN, "shutting_down", job)
        return self._event(call, Outcome.UNKNOWN, "no_end", job) if overdue else None

    def _event(
        self,
        call: LateCall,
        outcome: Outcome,
        reason: str,
        job: JobView | None = None,
    ) -> AuditEvent:
        return call.trail.job_done(outcome, reason, self._model, job)

    def _write_refusals(self) -> None:
        try:
            self.refusals.write_due()
        except (AuditBlockedError, AuditError):
            logger.warning("counts of refusals wait for the audit log")

    def _resend(self) -> None:
        try:
            self._queue.resend_overdue()
        except ModelError as error:
            logger.warning("overdue jobs were not sent again: %s", error.code)

    def _purge(self) -> None:
        try:
            self._queue.purge_expired()
        except ModelError as error:
            logger.warning("expired jobs were not deleted: %s", error.code)
