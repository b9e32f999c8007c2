"""What the web process makes of a queue that hangs, fails or forgets."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from audit.errors import AuditUnavailableError, EventError
from audit.event import Agent, AuditEvent, Outcome, Subject, new_correlation_id
from audit.log import AuditLog
from cds_hooks.access_record import RecordingDoor
from cds_hooks.assessment import Assessments, AssessmentState
from cds_hooks.audit_trail import Trail
from cds_hooks.audit_trail import record as audit_record
from cds_hooks.endings import Ending
from cds_hooks.errors import AuditBlockedError, MissingDataError
from cds_hooks.evidence import Collection, EvidenceCollector
from cds_hooks.flight import Flight, FlightKey, Landing
from cds_hooks.hook_request import HookRequest
from cds_hooks.late_jobs import LateJobs
from cds_hooks.refusals import Refusals
from cds_hooks.services import CHEST
from cds_hooks.tenants import Issuer, Tenant
from fhir_adapters.access.gather import Gather, Pending
from fhir_adapters.errors import UpstreamTimeoutError
from fhir_adapters.patient_record import PatientRecord
from fhir_adapters.policy import AdapterPolicy
from model.errors import (
    BrokerUnavailableError,
    JobStoreUnavailableError,
    PayloadTooLargeError,
)
from model.jobs.queue import AssessmentQueue, JobView
from tests.cds_hooks.service import MODEL, prediction
from tests.cds_hooks.test_card_wording import record

TENANT = Tenant("t", "T", (Issuer("i"),))
REQUEST = HookRequest(CHEST, "h", "Practitioner/1", "p", None, None, {})
TRAIL = Trail(
    Agent("human", "urn:test", "dr"),
    Subject("urn:test", "p"),
    new_correlation_id(),
    "t",
)
JOB_ID = "1" * 32


def job(state: str = "queued", error: str | None = None, age_s: float = 0) -> JobView:
    made = datetime.now(UTC) - timedelta(seconds=age_s)
    return JobView(JOB_ID, "2" * 64, state, None, None, error, made, None, "t")


class Queue:
    """The queue's interface; each call does what the test put there."""

    def __init__(self) -> None:
        self.known: Any = None
        self.requested: Any = job()
        self.waited: Any = job()
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.resent = self.purged = 0

    def result_key(self, record: PatientRecord, **more: Any) -> str:
        return "2" * 64

    def view(self, key: str) -> Any:
        return self._do(self.known)

    def request(self, record: PatientRecord, **more: Any) -> Any:
        return self._do(self.requested)

    def wait(self, job_id: str, until: float) -> Any:
        self.may_answer.wait(5)
        return self._do(self.waited)

    def fitted(self, record: PatientRecord) -> PatientRecord:
        return record

    def purge_expired(self) -> int:
        self.purged += 1
        raise JobStoreUnavailableError("down")

    def resend_overdue(self) -> int:
        self.resent += 1
        raise BrokerUnavailableError("still down")

    def _do(self, what: Any) -> Any:
        if isinstance(what, Exception):
            raise what
        return what


class Gathering:
    """A collection that ends as the test wants."""

    def __init__(self, end: Any) -> None:
        self.end = end
        self.may_end = threading.Event()
        self.may_end.set()

    def waiting_for(self) -> tuple[str, ...]:
        return ("image",)

    def accesses(self) -> tuple[Any, ...]:
        return ()

    def finish(self) -> PatientRecord:
        self.may_end.wait(5)
        if isinstance(self.end, Exception):
            raise self.end
        return cast(PatientRecord, self.end)

    def begin(self, request: HookRequest, tenant: Tenant) -> Collection:
        return cast(Collection, self)


class Log:
    """Takes events, or fails when told to."""

    def __init__(self) -> None:
        self.events: list[AuditEvent] = []
        self.fails = False

    def append_many(self, events: Sequence[AuditEvent]) -> list[Any]:
        if self.fails:
            raise AuditUnavailableError("test")
        self.events += events
        return []


class Bench:
    """Assessments with a queue, a gathering and a log of the test's choice."""

    def __init__(self) -> None:
        self.queue, self.gathering, self.log = Queue(), Gathering(record()), Log()
        self.assessments = Assessments(
            cast(EvidenceCollector, self.gathering),
            cast(AssessmentQueue, self.queue),
            cast(AuditLog, self.log),
            MODEL,
            threads=2,
            reuse_s=0.3,
        )

    def begin(self) -> Flight:
        flight = self.assessments.begin(REQUEST, TENANT, TRAIL)
        assert flight is not None
        return flight

    def standing(self, wait_s: float = 1.0) -> Any:
        return self.assessments.standing(self.begin(), time.monotonic() + wait_s)


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.queue.may_answer.set()
    made.gathering.may_end.set()
    made.assessments.close()


def test_a_store_that_hangs_does_not_hold_the_hook(bench: Bench) -> None:
    bench.queue.may_answer.clear()
    start = time.monotonic()
    standing = bench.standing(0.2)
    assert time.monotonic() - start < 1.0
    assert standing.state is AssessmentState.QUEUED
    assert standing.waiting_for == ("queue",)
    assert standing.record is not None


@pytest.mark.parametrize(
    ("where", "error", "reason"),
    [
        ("waited", JobStoreUnavailableError("x"), "job_store_unavailable"),
        ("requested", JobStoreUnavailableError("x"), "job_store_unavailable"),
        ("requested", PayloadTooLargeError("x"), "payload_too_large"),
        ("requested", BrokerUnavailableError("x"), "broker_unavailable"),
        ("known", JobStoreUnavailableError("x"), "job_store_unavailable"),
    ],
)
def test_errors_of_the_queue_become_reasons(
    bench: Bench, where: str, error: Exception, reason: str
) -> None:
    setattr(bench.queue, where, error)
    standing = bench.standing()
    assert standing.state is AssessmentState.FAILED
    assert standing.reason == reason
    assert standing.record is not None


def test_a_store_that_fails_after_the_broker_is_the_reason(bench: Bench) -> None:
    bench.queue.requested = BrokerUnavailableError("x", JOB_ID)
    calls = iter([None, JobStoreUnavailableError("x")])
    bench.queue.view = lambda key: bench.queue._do(next(calls))  # type: ignore
    assert bench.standing().reason == "job_store_unavailable"


def test_a_fresh_failure_is_shown_and_an_old_one_is_tried_again(bench: Bench) -> None:
    bench.queue.known = job("failed", "inference_failed")
    assert bench.standing().reason == "inference_failed"
    bench.queue.known = job("failed", "inference_failed", age_s=3600)
    assert bench.standing().state is AssessmentState.QUEUED
    bench.queue.known = job("failed")
    assert bench.standing().reason == "model_error"


def test_a_gathering_that_gives_nothing_is_a_reason(bench: Bench) -> None:
    bench.gathering.end = UpstreamTimeoutError("gather_timeout")
    standing = bench.standing()
    assert standing.reason == "gather_timeout" and standing.record is None


def test_a_bug_in_the_gathering_reaches_the_boundary(bench: Bench) -> None:
    bench.gathering.end = KeyError("bug")
    with pytest.raises(KeyError):
        bench.standing()


def test_a_late_landing_serves_for_a_while_and_is_then_forgotten(bench: Bench) -> None:
    bench.gathering.may_end.clear()
    first = bench.begin()
    late = bench.assessments.standing(first, time.monotonic() + 0.05)
    assert late.state is AssessmentState.GATHERING and late.waiting_for == ("image",)
    assert bench.assessments.job_of(first.id) is None
    bench.gathering.may_end.set()
    first.landing.result(5)
    assert bench.assessments.job_of(first.id) == JOB_ID
    assert first.collection is None
    for _ in range(2):
        assert bench.begin() is first
    time.sleep(0.35)
    assert bench.begin() is not first


def test_a_late_failure_is_told_once_and_then_tried_again(bench: Bench) -> None:
    bench.gathering.may_end.clear()
    bench.gathering.end = MissingDataError()
    first = bench.begin()
    bench.assessments.standing(first, time.monotonic() + 0.05)
    bench.gathering.may_end.set()
    with pytest.raises(MissingDataError):
        first.landing.result(5)
    assert bench.begin() is first
    with pytest.raises(MissingDataError):
        bench.assessments.standing(first, time.monotonic() + 1)
    assert bench.begin() is not first


def test_a_closed_process_cancels_what_has_not_begun(bench: Bench) -> None:
    bench.gathering.may_end.clear()
    flights = []
    for number in range(3):
        request = HookRequest(
            CHEST, "h", "Practitioner/1", f"p{number}", None, None, {}
        )
        flights.append(bench.assessments.begin(request, TENANT, TRAIL))
    threading.Timer(0.1, bench.gathering.may_end.set).start()
    bench.assessments.close()
    assert flights[2] is not None and flights[2].landing.cancelled()
    assert bench.assessments.job_of(flights[2].id) is None


def flight(landing: Future[Landing]) -> Flight:
    return Flight(FlightKey("t", "", "p", "u", "s", "0", "", False), None, landing)


@pytest.fixture
def watching(bench: Bench) -> Iterator[Any]:
    refusals = Refusals(cast(AuditLog, bench.log))
    late = LateJobs(
        cast(AssessmentQueue, bench.queue),
        cast(AuditLog, bench.log),
        MODEL,
        refusals,
        limit_s=1.0,
    )
    yield late
    late.close()


def landed(**result: Any) -> Future[Landing]:
    future: Future[Landing] = Future()
    future.set_result(Landing(**{"record": record(), "job": job(), **result}))
    return future


def ended(bench: Bench, late: LateJobs, seconds: float = 5.0) -> AuditEvent:
    end = time.monotonic() + seconds
    while late.watched() and time.monotonic() < end:
        time.sleep(0.02)
    (event,) = bench.log.events
    assert event.correlation_id == TRAIL.correlation_id
    return event


@pytest.mark.parametrize(
    ("known", "outcome", "reason"),
    [
        (job("ready"), Outcome.OK, "ready"),
        (job("failed", "inference_failed"), Outcome.FAILED, "inference_failed"),
        (None, Outcome.UNKNOWN, "expired"),
        (job("running"), Outcome.UNKNOWN, "no_end"),
        (JobStoreUnavailableError("x"), Outcome.UNKNOWN, "no_end"),
    ],
)
def test_every_end_of_a_late_job_is_recorded(
    bench: Bench, watching: LateJobs, known: Any, outcome: Outcome, reason: str
) -> None:
    bench.queue.known = known
    watching.watch(flight(landed()), TRAIL)
    event = ended(bench, watching)
    assert (event.outcome, event.evidence["reason"]) == (outcome, reason)


def test_flights_that_ended_without_a_job_are_recorded(
    bench: Bench, watching: LateJobs
) -> None:
    cancelled: Future[Landing] = Future()
    cancelled.cancel()
    failed: Future[Landing] = Future()
    failed.set_exception(AuditBlockedError())
    for landing in (cancelled, failed, landed(job=None, reason="busy"), Future()):
        watching.watch(flight(landing), TRAIL)
    end = time.monotonic() + 5
    while watching.watched() and time.monotonic() < end:
        time.sleep(0.02)
    ends = {(e.outcome, e.evidence["reason"]) for e in bench.log.events}
    assert ends == {
        (Outcome.UNKNOWN, "cancelled"),
        (Outcome.FAILED, "audit_blocked"),
        (Outcome.FAILED, "busy"),
        (Outcome.UNKNOWN, "no_end"),
    }


def test_a_record_that_cannot_be_written_is_tried_again(
    bench: Bench, watching: LateJobs
) -> None:
    bench.log.fails = True
    bench.queue.known = job("ready")
    watching.watch(flight(landed()), TRAIL)
    time.sleep(0.6)
    assert watching.watched() == 1
    bench.log.fails = False
    assert ended(bench, watching).outcome is Outcome.OK


def test_counts_of_refusals_wait_for_the_audit_log(
    bench: Bench, watching: LateJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cds_hooks.refusals.WINDOW_S", 0.0)
    for _ in range(3):
        watching.refusals.note(MissingDataError(), "10.0.0.1", None)
        bench.log.fails = True
    time.sleep(0.6)
    bench.log.fails = False
    end = time.monotonic() + 5
    while len(bench.log.events) < 2 and time.monotonic() < end:
        time.sleep(0.02)
    assert [e.evidence["count"] for e in bench.log.events] == [1, 2]


def test_a_collection_that_outlives_its_limit_is_a_typed_error() -> None:
    class Stuck:
        """A gathering that never ends."""

        def run(self, deadline: float) -> Pending:
            return Pending(("image",))

    stuck = Collection(
        gather=cast(Gather, Stuck()),
        door=cast(RecordingDoor, None),
        ends_at=0.0,
        cutoff=datetime.now(UTC),
        adapters=AdapterPolicy(),
    )
    assert stuck.waiting_for() == ("image",)
    with pytest.raises(UpstreamTimeoutError, match="gather_timeout"):
        stuck.finish()


def test_an_event_of_ours_that_breaks_the_rules_is_a_bug_not_an_outage() -> None:
    class Strict:
        """A log that refuses the event itself."""

        def append_many(self, events: Sequence[AuditEvent]) -> list[Any]:
            raise EventError("evidence", "no JSON")

    with pytest.raises(EventError):
        audit_record(cast(AuditLog, Strict()))


def test_lost_jobs_are_sent_again_while_somebody_waits(
    bench: Bench, watching: LateJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cds_hooks.late_jobs.RESEND_EVERY_S", 0.0)
    bench.queue.known = job("running")
    watching.watch(flight(landed()), TRAIL)
    ended(bench, watching)
    assert bench.queue.resent >= 1


def test_a_result_to_another_question_is_not_shown(bench: Bench) -> None:
    asked = cast(PatientRecord, bench.gathering.end)
    other = replace(MODEL, sha256="1" * 64)
    for made, state in (
        (prediction(asked, MODEL), AssessmentState.READY),
        (prediction(asked, other), AssessmentState.FAILED),
        (prediction(asked, MODEL, evidence_sha256="0" * 64), AssessmentState.FAILED),
    ):
        bench.queue.waited = replace(job("ready"), prediction=made)
        standing = bench.standing()
        assert standing.state is state
        if state is AssessmentState.FAILED:
            assert standing.reason == "job_tampered"
            assert standing.job.prediction is None and standing.job.finished


def test_a_landing_that_failed_keeps_no_frame_of_its_gathering(bench: Bench) -> None:
    bench.gathering.may_end.clear()
    bench.gathering.end = MissingDataError()
    first = bench.begin()
    bench.assessments.standing(first, time.monotonic() + 0.05)
    bench.gathering.may_end.set()
    error = first.landing.exception(5)
    assert error is not None
    assert (error.__traceback__, error.__context__, error.__cause__) == (None,) * 3


def test_what_is_known_of_a_gathering_by_its_id(bench: Bench) -> None:
    bench.gathering.may_end.clear()
    bench.gathering.end = UpstreamTimeoutError("gather_timeout")
    first = bench.begin()
    assert bench.assessments.is_gathering(first.id)
    assert bench.assessments.ending_of(first.id) is None
    bench.gathering.may_end.set()
    first.landing.result(5)
    assert not bench.assessments.is_gathering(first.id)
    assert bench.assessments.ending_of(first.id) == Ending(None, "gather_timeout")


def test_one_call_that_cannot_be_recorded_does_not_stop_the_others(
    bench: Bench, watching: LateJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def picky(events: Sequence[AuditEvent]) -> list[Any]:
        if any(event.evidence["reason"] == "bad" for event in events):
            raise EventError("evidence", "no JSON")
        bench.log.events += events
        return []

    monkeypatch.setattr(bench.log, "append_many", picky)
    watching.watch(flight(landed(job=None, reason="bad")), TRAIL)
    watching.watch(flight(landed(job=None, reason="x" * 5000)), TRAIL)
    end = time.monotonic() + 5
    while watching.watched() > 1 and time.monotonic() < end:
        time.sleep(0.02)
    (event,) = bench.log.events
    assert event.evidence["reason"] == "x" * 64
    time.sleep(0.3)
    watching.watch(flight(landed(job=None, reason="busy")), TRAIL)
    while watching.watched() > 1 and time.monotonic() < end:
        time.sleep(0.02)
    assert len(bench.log.events) == 2


@pytest.mark.parametrize(
    ("known", "outcome", "reason"),
    [
        (job("ready"), Outcome.OK, "ready"),
        (job("running"), Outcome.UNKNOWN, "shutting_down"),
        (JobStoreUnavailableError("x"), Outcome.UNKNOWN, "shutting_down"),
    ],
)
def test_closing_records_the_end_or_that_it_is_not_known(
    bench: Bench,
    watching: LateJobs,
    monkeypatch: pytest.MonkeyPatch,
    known: Any,
    outcome: Outcome,
    reason: str,
) -> None:
    monkeypatch.setattr("cds_hooks.late_jobs.LOOK_EVERY_S", 60.0)
    bench.queue.known = job("running")
    time.sleep(0.3)  # the look that had begun to wait
    bench.queue.known = known
    watching.watch(flight(landed()), TRAIL)
    watching.close()
    (event,) = bench.log.events
    assert (event.outcome, event.evidence["reason"]) == (outcome, reason)


def test_what_has_expired_is_deleted_without_a_worker_too(
    bench: Bench, watching: LateJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cds_hooks.late_jobs.PURGE_EVERY_S", 0.0)
    end = time.monotonic() + 5
    while bench.queue.purged < 2 and time.monotonic() < end:
        time.sleep(0.02)
    assert bench.queue.purged >= 2  # again, after it failed
