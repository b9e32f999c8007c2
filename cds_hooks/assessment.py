"""The state of one patient's assessment: gathering, queued, ready or failed.

A *flight* is one gathering and the job that it ends in. It runs on a pool of its own,
so it goes on when its hook has been answered (L5), and a second hook with the same key
joins it (L7). The key holds tenant, server, patient, what was prefetched, and the user:
what one user may see is not handed to another. When a flight has landed, the truth is
the job store: its key holds evidence and model, so a stale result cannot answer (L6).

A flight that lands after its hook was answered is kept for ``reuse_s``. Without that, a
FHIR server that always needs longer than the deadline would never see an answer. How it
ended is kept for as long as a card's link can be opened (see :mod:`.endings`).

A result is shown only if it names the very evidence and model that were asked about:
the last check before the card, whatever happened to the job store (threat TM-T2).

Where there are several tenants, one may have half of the gathering threads at most, so
that its hanging server does not take the service from the others (threat TM-D1).
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from audit.log import AuditLog
from cds_hooks.audit_trail import Trail, record
from cds_hooks.endings import Ending, Endings
from cds_hooks.errors import WebError, bare
from cds_hooks.evidence import Collection, EvidenceCollector
from cds_hooks.flight import Flight, FlightKey, Landing
from cds_hooks.hook_request import HookRequest
from cds_hooks.tenants import Tenant
from fhir_adapters.errors import AdapterError
from fhir_adapters.patient_record import PatientRecord
from model.errors import BrokerUnavailableError, JobTamperedError, ModelError
from model.jobs.prediction import ModelIdentity
from model.jobs.queue import AssessmentQueue, JobView

MAX_FLIGHTS = 256
FAILED_HOLD = timedelta(seconds=60)
MODEL_STEP, QUEUE_STEP = "model", "queue"


class AssessmentState(StrEnum):
    """Where an assessment stands."""

    GATHERING = "gathering"
    QUEUED = "queued"
    READY = "ready"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Assessment:
    """What is known at one moment.

    ``waiting_for`` names steps while gathering or queued; ``reason`` is the code of a
    failure. The result, when ready, is in ``job``.
    """

    state: AssessmentState
    record: PatientRecord | None = None
    job: JobView | None = None
    waiting_for: tuple[str, ...] = ()
    reason: str = ""


class Assessments:
    """The flights of this process, and the way to ask how one stands.

    Args:
        collector: Starts gatherings.
        queue: The assessment queue.
        log: The audit log; access records are durable before a job is sent.
        model: The model that is asked.
        threads: Patients gathered at the same time.
        reuse_s: How long a late landing serves the next hook.
        tenants: How many share the threads.
    """

    def __init__(
        self,
        collector: EvidenceCollector,
        queue: AssessmentQueue,
        log: AuditLog,
        model: ModelIdentity,
        *,
        threads: int,
        reuse_s: float,
        tenants: int = 1,
    ) -> None:
        self._collector = collector
        self._queue = queue
        self._log = log
        self._model = model
        self._reuse_s = reuse_s
        self._share = max(1, threads // 2) if tenants > 1 else MAX_FLIGHTS
        self._flights: dict[FlightKey, Flight] = {}
        self._endings = Endings()
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="gathering")
        self._lookups = ThreadPoolExecutor(2 * threads, thread_name_prefix="lookup")

    def begin(
        self, request: HookRequest, tenant: Tenant, trail: Trail
    ) -> Flight | None:
        """Join the flight of this request, or start one; None when there is no room.

        Raises:
            MalformedRequestError, MissingDataError: see ``EvidenceCollector.begin``.
        """
        key = FlightKey.of(request, tenant)
        with self._lock:
            self._forget_old()
            known = self._flights.get(key)
            if known is not None:
                return known
            if self._is_full(tenant):
                return None
            collection = self._collector.begin(request, tenant)
            flight = Flight(key, collection, Future())
            self._flights[key] = flight
        self._pool.submit(
            self._conduct, collection, tenant.id, trail
        ).add_done_callback(lambda done: self._land(flight, done))
        return flight

    def standing(self, flight: Flight, until: float) -> Assessment:
        """How the flight stands, waiting for its result until ``until`` at most.

        Raises:
            MissingDataError: the Patient could not be had.
            AuditBlockedError: what was read could not be recorded.
        """
        try:
            landing = flight.landing.result(max(0.0, until - time.monotonic()))
        except FutureTimeoutError:
            flight.late = True
            collection = flight.collection
            steps = collection.waiting_for() if collection else ()
            return Assessment(
                AssessmentState.GATHERING, waiting_for=steps or (QUEUE_STEP,)
            )
        finally:
            self._release(flight)
        return self._of_job(landing, until)

    def job_of(self, assessment_id: str) -> str | None:
        """The job that a gathering of this process ended in, by the flight's id."""
        ending = self.ending_of(assessment_id)
        return ending.job_id if ending else None

    def ending_of(self, assessment_id: str) -> Ending | None:
        """How a gathering of this process ended; None while it flies or if unknown."""
        return self._endings.get(assessment_id)

    def is_gathering(self, assessment_id: str) -> bool:
        """True while the gathering with this flight's id is on its way."""
        with self._lock:
            flights = list(self._flights.values())
        return any(f.id == assessment_id and not f.landing.done() for f in flights)

    def close(self) -> None:
        """Finish what has begun: a gathering ends at its own limit (L5)."""
        self._pool.shutdown(cancel_futures=True)
        self._lookups.shutdown(cancel_futures=True)

    def _of_job(self, landing: Landing, until: float) -> Assessment:
        record, job = landing.record, landing.job
        if job is None:
            return Assessment(AssessmentState.FAILED, record, None, (), landing.reason)
        if not job.finished:
            # On a thread of its own, so a store that hangs cannot hold the hook (L1).
            lookup = self._lookups.submit(self._queue.wait, job.job_id, until)
            try:
                job = lookup.result(max(0.0, until - time.monotonic()) + 0.005)
            except FutureTimeoutError:
                return Assessment(AssessmentState.QUEUED, record, job, (QUEUE_STEP,))
            except ModelError as error:
                return Assessment(AssessmentState.FAILED, record, job, (), error.code)
        if not self._is_answer(job, record):
            job = replace(job, state="failed", prediction=None, explanation=None)
            tampered = JobTamperedError.code
            return Assessment(AssessmentState.FAILED, record, job, (), tampered)
        if job.state == AssessmentState.READY:
            return Assessment(AssessmentState.READY, record, job)
        if job.state == AssessmentState.FAILED:
            reason = job.error or "model_error"
            return Assessment(AssessmentState.FAILED, record, job, (), reason)
        step = QUEUE_STEP if landing.unsent else MODEL_STEP
        return Assessment(AssessmentState.QUEUED, record, job, (step,))

    def _is_answer(self, job: JobView, record: PatientRecord | None) -> bool:
        """False when there is a result, and it is one to another question."""
        made = job.prediction
        return made is None or (
            record is not None
            and made.evidence_sha256 == record.evidence_sha256()
            and made.model.sha256 == self._model.sha256
        )

    def _is_full(self, tenant: Tenant) -> bool:
        flying = sum(
            key.tenant == tenant.id and flight.landed_at is None
            for key, flight in self._flights.items()
        )
        return len(self._flights) >= MAX_FLIGHTS or flying >= self._share

    def _conduct(self, collection: Collection, tenant: str, trail: Trail) -> Landing:
        """Gather, record what was read, assemble, ask for the assessment."""
        try:
            patient_record = collection.finish()
        except AdapterError as error:
            return Landing(None, None, error.reason)
        finally:
            accesses = collection.accesses()
            if accesses:
                record(self._log, *trail.accesses(accesses))
        return self._ask(patient_record, tenant)

    def _ask(self, patient_record: PatientRecord, tenant: str) -> Landing:
        sha256 = self._model.sha256
        patient_record = self._queue.fitted(patient_record)
        try:
            key = self._queue.result_key(
                patient_record, tenant=tenant, model_sha256=sha256
            )
            known = self._queue.view(key)
            if known is not None and _freshly_failed(known):
                # Not asked again at once: the card says that it failed, instead of
                # "running" at every hook of a patient whose job always fails.
                return Landing(patient_record, known)
            job = self._queue.request(
                patient_record, tenant=tenant, model_sha256=sha256
            )
            return Landing(patient_record, job)
        except BrokerUnavailableError as error:
            return self._unsent(patient_record, error)
        except ModelError as error:
            return Landing(patient_record, None, error.code)

    def _unsent(
        self, patient_record: PatientRecord, error: BrokerUnavailableError
    ) -> Landing:
        """The message did not go out; the job is kept and is sent again."""
        try:
            job = self._queue.view(error.job_id) if error.job_id else None
        except ModelError as other:
            return Landing(patient_record, None, other.code)
        return Landing(patient_record, job, error.code, unsent=True)

    def _land(self, flight: Flight, done: Future[Landing]) -> None:
        """Hand the end of a flight, good or bad, to everybody who waits for it."""
        flight.landed_at = time.monotonic()
        flight.collection = None
        if done.cancelled():
            self._endings.add(flight.id, Ending(None, "cancelled"))
            flight.landing.cancel()
            return
        error = done.exception()
        if error is not None:
            # Whoever waits keeps it: not the frames, whose locals hold the token (F3).
            reason = error.reason if isinstance(error, WebError) else "internal"
            self._endings.add(flight.id, Ending(None, reason))
            flight.landing.set_exception(bare(error))
            return
        landed = done.result()
        job_id = landed.job.job_id if landed.job else None
        self._endings.add(flight.id, Ending(job_id, landed.reason))
        flight.landing.set_result(landed)

    def _release(self, flight: Flight) -> None:
        """Forget a flight that landed in time, or without a job.

        The next hook then gathers fresh evidence; that was quick, or has to be tried
        again. A late landing with a job is kept for ``reuse_s``.
        """
        kept = flight.late and flight.job_id() is not None
        if kept or not flight.landing.done():
            return
        with self._lock:
            if self._flights.get(flight.key) is flight:
                del self._flights[flight.key]

    def _forget_old(self) -> None:
        now = time.monotonic()
        for key, flight in list(self._flights.items()):
            landed = flight.landed_at
            if landed is not None and now - landed > self._reuse_s:
                del self._flights[key]


def _freshly_failed(job: JobView) -> bool:
    failed = job.state == AssessmentState.FAILED
    return failed and datetime.now(UTC) - job.created_at < FAILED_HOLD
