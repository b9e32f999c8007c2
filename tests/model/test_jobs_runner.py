"""A job from claim to result: leases, failures by code, lost jobs."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fhir_adapters.patient_record import PatientRecord
from model.errors import DeviceMemoryError, JobStoreUnavailableError
from model.inference.leases import LeaseKeeper, OverdueScan
from model.inference.worker import JobRunner
from model.jobs import record_codec
from model.jobs.cipher import PayloadCipher
from model.jobs.explanation import Explanation
from model.jobs.job import Claim, Lives, NewJob
from model.jobs.prediction import Prediction
from model.jobs.store import JobStore
from tests.model.job_samples import (
    CANARY_ID,
    CANARY_TEXT,
    MODEL_SHA256,
    FixedAssessor,
    prediction,
    record,
)

Answer = tuple[Prediction, Explanation | None]
CIPHER = PayloadCipher([b"k" * 32])
LIVES = Lives(lease_s=0.3, unclaimed_s=0.05)


class CallingAssessor(FixedAssessor):
    """Answers by calling a function of the test."""

    def __init__(self, answer: Callable[[PatientRecord], Answer]) -> None:
        super().__init__()
        self._answer = answer

    def assess(self, patient: PatientRecord) -> Answer:
        """Call the function."""
        return self._answer(patient)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[JobStore]:
    """A store with short leases."""
    url = f"sqlite:///{tmp_path}/jobs.sqlite3"
    opened = JobStore(url, CIPHER, lives=LIVES)
    yield opened
    opened.close()


def submit(store: JobStore, key: str = "r") -> str:
    """One queued job."""
    payload = record_codec.encode(record())
    new = NewJob(key * 64, "site-a", "p" * 64, MODEL_SHA256, payload)
    return store.submit(new)[0].job_id


def state(store: JobStore, job_id: str) -> tuple[str, str | None]:
    """State and error of a job."""
    job = store.get(job_id)
    assert job is not None
    return job.state, job.error


def test_a_job_longer_than_its_lease_is_done_once(tmp_path: Path) -> None:
    lease_s = 0.8
    store = JobStore(
        f"sqlite:///{tmp_path}/jobs.sqlite3", CIPHER, lives=Lives(lease_s=lease_s)
    )
    job_id, started = submit(store), threading.Event()

    def slowly(patient: PatientRecord) -> Answer:
        started.set()
        time.sleep(2 * lease_s)
        return prediction(patient), None

    runner = JobRunner(store, CallingAssessor(slowly), lease_s=lease_s)
    thread = threading.Thread(target=runner.run, args=(job_id,))
    thread.start()
    assert started.wait(20)
    while thread.is_alive():
        assert store.claim(job_id, MODEL_SHA256) is None
        time.sleep(0.05)
    job = store.get(job_id)
    assert job is not None and (job.state, job.attempts) == ("ready", 1)
    store.close()


def test_the_lease_keeper_stops_when_the_claim_is_lost(
    store: JobStore, caplog: pytest.LogCaptureFixture
) -> None:
    job_id = submit(store)
    claim = store.claim(job_id, MODEL_SHA256)
    assert claim is not None
    foreign = replace(claim, lease_token="0" * 32)
    with LeaseKeeper(store, foreign, 0.01):
        time.sleep(0.1)
    assert caplog.text.count("the lease was lost") == 1


@pytest.mark.parametrize(
    "error,code",
    [
        (DeviceMemoryError("no room"), "out_of_memory"),
        (RuntimeError(f"shape of {CANARY_TEXT}"), "unexpected"),
        (MemoryError(), "unexpected"),
        (KeyError(CANARY_ID), "unexpected"),
    ],
)
def test_a_failure_ends_in_the_row_as_a_code_and_in_no_log_as_text(
    store: JobStore, caplog: pytest.LogCaptureFixture, error: Exception, code: str
) -> None:
    caplog.set_level(logging.DEBUG)

    def failing(_: PatientRecord) -> Answer:
        raise error

    job_id = submit(store)
    assert not JobRunner(store, CallingAssessor(failing), lease_s=30).run(job_id)
    assert state(store, job_id) == ("failed", code)
    assert type(error).__name__ in caplog.text
    assert CANARY_ID not in caplog.text and "Zebulon" not in caplog.text


def test_a_payload_that_is_no_record_fails_by_code(store: JobStore) -> None:
    new = NewJob("r" * 64, "t", "p" * 64, MODEL_SHA256, b"\x80\x04pickle")
    job_id = store.submit(new)[0].job_id
    assert not JobRunner(store, FixedAssessor(), lease_s=30).run(job_id)
    assert state(store, job_id) == ("failed", "record_malformed")


def test_a_number_that_json_has_not_fails_the_job(store: JobStore) -> None:
    def odd(patient: PatientRecord) -> Answer:
        return prediction(patient, probability=float("nan")), None

    job_id = submit(store)
    assert not JobRunner(store, CallingAssessor(odd), lease_s=30).run(job_id)
    assert state(store, job_id) == ("failed", "unexpected")


def test_a_tampered_payload_is_logged_and_not_run(
    store: JobStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    job_id = submit(store)
    connection = sqlite3.connect(tmp_path / "jobs.sqlite3")
    with connection:
        connection.execute("UPDATE trivium_jobs SET payload = substr(payload, 1, 60)")
    connection.close()
    assessor = FixedAssessor()
    assert not JobRunner(store, assessor, lease_s=30).run(job_id)
    assert not assessor.seen and "job_tampered" in caplog.text


def test_a_second_result_is_discarded(
    store: JobStore, caplog: pytest.LogCaptureFixture
) -> None:
    job_id = submit(store)
    url_clock = time.time() + 60  # another worker, for whom the lease has run out

    def overtaken(patient: PatientRecord) -> Answer:
        late = JobStore(
            f"sqlite:///{store._database._engine.url.database}",
            CIPHER,
            lives=LIVES,
            clock=lambda: url_clock,
        )
        claim = late.claim(job_id, MODEL_SHA256)
        assert claim is not None and late.complete(claim, b"{}", "other")
        late.close()
        return prediction(patient), None

    assert not JobRunner(store, CallingAssessor(overtaken), lease_s=30).run(job_id)
    assert "discarded" in caplog.text
    job = store.get(job_id)
    assert job is not None and job.device == "other"


class OutageStore(JobStore):
    """A real store whose writes fail a given number of times."""

    outages = 0

    def _strike(self) -> None:
        if self.outages:
            self.outages -= 1
            raise JobStoreUnavailableError("outage of the test")

    def complete(self, claim: Claim, result: bytes, device: str) -> bool:
        """Fail or complete."""
        self._strike()
        return super().complete(claim, result, device)

    def fail(self, job_id: str, lease_token: str, code: str) -> bool:
        """Fail to fail, or fail."""
        self._strike()
        return super().fail(job_id, lease_token, code)

    def renew(self, claim: Claim) -> bool:
        """Fail or renew."""
        self._strike()
        return super().renew(claim)


@pytest.fixture
def flaky(tmp_path: Path) -> Iterator[OutageStore]:
    """A store that can have outages."""
    opened = OutageStore(f"sqlite:///{tmp_path}/flaky.sqlite3", CIPHER, lives=LIVES)
    yield opened
    opened.close()


def test_a_short_outage_of_the_store_loses_no_result(flaky: OutageStore) -> None:
    job_id = submit(flaky)

    def then_down(patient: PatientRecord) -> Answer:
        flaky.outages = 1
        return prediction(patient), None

    assert JobRunner(flaky, CallingAssessor(then_down), lease_s=30).run(job_id)
    assert state(flaky, job_id) == ("ready", None)


def test_a_long_outage_leaves_the_job_to_its_lease(
    flaky: OutageStore, caplog: pytest.LogCaptureFixture
) -> None:
    job_id = submit(flaky)

    def then_down(patient: PatientRecord) -> Answer:
        flaky.outages = 100
        return prediction(patient), None

    assert not JobRunner(flaky, CallingAssessor(then_down), lease_s=90).run(job_id)
    assert "job_store_unavailable" in caplog.text
    flaky.outages = 0
    assert state(flaky, job_id) == ("running", None)
    assert JobRunner(flaky, FixedAssessor(), lease_s=30).run_overdue() == 1
    assert state(flaky, job_id) == ("ready", None)


def test_an_outage_while_failing_leaves_the_job_to_its_lease(
    flaky: OutageStore,
) -> None:
    def breaking(_: PatientRecord) -> Answer:
        flaky.outages = 1
        raise DeviceMemoryError("no room")

    job_id = submit(flaky)
    assert not JobRunner(flaky, CallingAssessor(breaking), lease_s=90).run(job_id)
    assert state(flaky, job_id)[0] == "running"


def test_the_lease_keeper_survives_an_outage(flaky: OutageStore) -> None:
    job_id = submit(flaky)
    claim = flaky.claim(job_id, MODEL_SHA256)
    assert claim is not None
    flaky.outages = 2
    with LeaseKeeper(flaky, claim, 0.02):
        time.sleep(0.6)  # twice the lease
        assert flaky.claim(job_id, MODEL_SHA256) is None


def test_the_scan_does_jobs_whose_message_was_lost(store: JobStore) -> None:
    first, second = submit(store), submit(store, "s")
    runner = JobRunner(store, FixedAssessor(), lease_s=30)
    scan = OverdueScan(runner.run_overdue, store, 0.02)
    scan.start()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and {
        state(store, first)[0],
        state(store, second)[0],
    } != {"ready"}:
        time.sleep(0.01)
    scan.stop(10)
    assert state(store, first) == state(store, second) == ("ready", None)


def test_the_scan_outlives_an_outage(
    store: JobStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class DownOnce(JobStore):
        calls = 0

        def overdue(self, model_sha256: str | None = None) -> tuple[str, ...]:
            """Fail at the first look."""
            self.calls += 1
            if self.calls == 1:
                raise JobStoreUnavailableError("outage of the test")
            return super().overdue(model_sha256)

    down = DownOnce(f"sqlite:///{tmp_path}/jobs.sqlite3", CIPHER, lives=LIVES)
    job_id = submit(store)
    scan = OverdueScan(
        JobRunner(down, FixedAssessor(), lease_s=30).run_overdue, down, 0.02
    )
    scan.start()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and state(store, job_id)[0] != "ready":
        time.sleep(0.01)
    scan.stop(10)
    assert state(store, job_id)[0] == "ready"
    assert "job_store_unavailable" in caplog.text
    down.close()
