"""The job store: single flight, leases, first result wins, bounded lives."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from model.errors import (
    ConfigurationError,
    JobStoreUnavailableError,
    JobTamperedError,
    UnknownJobError,
)
from model.jobs.cipher import PayloadCipher
from model.jobs.job import Claim, Lives, NewJob
from model.jobs.store import JobStore

CIPHER = PayloadCipher([b"k" * 32])
MODEL = "ab" * 32
NEW = NewJob("r" * 64, "site-a", "p" * 64, MODEL, b"the payload")
LIVES = Lives(
    job_ttl_s=600, result_ttl_s=3600, lease_s=30, unclaimed_s=5, max_attempts=3
)


class Clock:
    """Seconds since 1970, moved by hand."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still."""
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[JobStore]:
    """An empty store on a SQLite file."""
    opened = JobStore(url_of(tmp_path), CIPHER, lives=LIVES, clock=clock)
    yield opened
    opened.close()


def url_of(folder: Path) -> str:
    """The store's URL."""
    return f"sqlite:///{folder}/jobs.sqlite3"


def claimed(store: JobStore, new: NewJob = NEW) -> Claim:
    """Submit and claim."""
    claim = store.claim(store.submit(new)[0].job_id, MODEL)
    assert claim is not None
    return claim


def test_a_job_goes_from_queued_to_ready(store: JobStore) -> None:
    job, is_new = store.submit(NEW)
    assert (job.state, is_new, job.finished) == ("queued", True, False)
    claim = store.claim(job.job_id, MODEL)
    assert claim is not None and claim.payload == b"the payload"
    running = store.get(job.job_id)
    assert running is not None and (running.state, running.attempts) == ("running", 1)
    assert store.complete(claim, b"the result", "cpu fp32")
    ready = store.find(NEW.result_key)
    assert ready is not None and ready.finished
    assert (ready.state, ready.device) == ("ready", "cpu fp32")
    assert store.result(job.job_id) == b"the result"
    assert store.payload(job.job_id) == b"the payload"  # for the evidence page


def test_a_second_request_joins_the_live_job(store: JobStore) -> None:
    first, _ = store.submit(NEW)
    again, is_new = store.submit(NEW)
    assert (again.job_id, is_new) == (first.job_id, False)
    claim = store.claim(first.job_id, MODEL)
    assert claim and store.complete(claim, b"r", "cpu")
    assert store.submit(NEW)[0].state == "ready"


def test_other_evidence_is_another_job(store: JobStore) -> None:
    first, _ = store.submit(NEW)
    other, is_new = store.submit(replace(NEW, result_key="s" * 64))
    assert is_new and other.job_id != first.job_id


def test_a_failed_job_does_not_stand_in_the_way_of_a_new_one(store: JobStore) -> None:
    claim = claimed(store)
    assert store.fail(claim.job_id, claim.lease_token, "out_of_memory")
    failed = store.find(NEW.result_key)
    assert failed is not None and (failed.state, failed.error) == (
        "failed",
        "out_of_memory",
    )
    job, is_new = store.submit(NEW)
    assert is_new and job.job_id != claim.job_id
    found = store.find(NEW.result_key)
    assert found is not None and found.job_id == job.job_id  # live before failed


def test_a_failed_job_drops_its_payload_at_once(store: JobStore) -> None:
    claim = claimed(store)
    store.fail(claim.job_id, claim.lease_token, "x")
    with pytest.raises(UnknownJobError):
        store.payload(claim.job_id)


def test_only_one_claim_succeeds(store: JobStore) -> None:
    claim = claimed(store)
    assert store.claim(claim.job_id, MODEL) is None


def test_a_job_for_another_model_is_left_alone(store: JobStore) -> None:
    job, _ = store.submit(NEW)
    assert store.claim(job.job_id, "cd" * 32) is None
    left = store.get(job.job_id)
    assert left is not None and (left.state, left.attempts) == ("queued", 0)


def test_an_unknown_job_cannot_be_claimed(store: JobStore) -> None:
    assert store.claim("0" * 32, MODEL) is None
    assert store.get("0" * 32) is None
    with pytest.raises(UnknownJobError):
        store.result("0" * 32)


def test_an_expired_lease_can_be_claimed_and_the_first_result_wins(
    store: JobStore, clock: Clock
) -> None:
    slow = claimed(store)
    clock.now += 29.9
    assert store.claim(slow.job_id, MODEL) is None
    clock.now += 0.2
    quick = store.claim(slow.job_id, MODEL)
    assert quick is not None and quick.attempts == 2
    assert not store.renew(slow)
    assert not store.complete(slow, b"late", "cpu")
    assert not store.fail(slow.job_id, slow.lease_token, "late")
    assert store.complete(quick, b"first", "cpu")
    assert not store.complete(quick, b"second", "cpu")
    assert not store.complete(slow, b"late", "cpu")
    assert store.result(slow.job_id) == b"first"


def test_a_renewed_lease_is_not_claimed(store: JobStore, clock: Clock) -> None:
    claim = claimed(store)
    for _ in range(5):
        clock.now += 20
        assert store.renew(claim)
        assert store.claim(claim.job_id, MODEL) is None
    assert store.complete(claim, b"r", "cpu")


def test_a_job_that_kills_its_workers_ends(store: JobStore, clock: Clock) -> None:
    claim = claimed(store)
    for _ in range(LIVES.max_attempts - 1):
        clock.now += 31
        assert store.claim(claim.job_id, MODEL) is not None
    clock.now += 31
    assert store.claim(claim.job_id, MODEL) is None
    job = store.get(claim.job_id)
    assert job is not None and (job.state, job.error) == (
        "failed",
        "attempts_exhausted",
    )


def test_overdue_jobs_are_those_whose_message_or_worker_was_lost(
    store: JobStore, clock: Clock
) -> None:
    job, _ = store.submit(NEW)
    assert store.overdue() == ()
    clock.now += 5
    assert store.overdue() == (job.job_id,)
    assert store.overdue("cd" * 32) == ()
    store.note_sent(job.job_id)
    assert store.overdue() == ()
    claim = store.claim(job.job_id, MODEL)
    assert claim is not None
    clock.now += 30
    assert store.overdue() == ()
    clock.now += 0.1
    assert store.overdue(MODEL) == (job.job_id,)
    clock.now += 600
    assert store.overdue() == ()  # expired: nobody can use it


def test_an_unfinished_job_expires_as_failed_and_is_deleted_later(
    store: JobStore, clock: Clock
) -> None:
    job, _ = store.submit(NEW)
    clock.now += 600
    assert store.get(job.job_id) is None
    assert store.claim(job.job_id, MODEL) is None
    assert store.purge_expired() == 1
    failed = store.get(job.job_id)
    assert failed is not None and (failed.state, failed.error) == ("failed", "expired")
    clock.now += 600
    assert store.purge_expired() == 1
    assert store.purge_expired() == 0


def test_a_result_and_its_payload_live_as_long_as_the_result(
    store: JobStore, clock: Clock
) -> None:
    claim = claimed(store)
    store.complete(claim, b"r", "cpu")
    clock.now += 3599
    assert store.payload(claim.job_id) == b"the payload"
    assert store.purge_expired() == 0
    clock.now += 1
    for read in (store.payload, store.result):
        with pytest.raises(UnknownJobError):
            read(claim.job_id)
    assert store.purge_expired() == 1
    assert store.submit(NEW)[1]


def test_an_expired_job_that_was_not_purged_yet_is_replaced(
    store: JobStore, clock: Clock
) -> None:
    old, _ = store.submit(NEW)
    clock.now += 601
    job, is_new = store.submit(NEW)
    assert is_new and job.job_id != old.job_id


def test_erasing_a_patient_deletes_every_job_of_theirs_and_no_other(
    store: JobStore, tmp_path: Path
) -> None:
    mine = claimed(store)
    store.complete(mine, b"r", "cpu")
    store.submit(replace(NEW, result_key="s" * 64))
    other, _ = store.submit(replace(NEW, result_key="t" * 64, patient_index="q" * 64))
    assert store.erase_patient(["p" * 64, "o" * 64]) == 2
    assert store.get(mine.job_id) is None
    assert store.get(other.job_id) is not None
    sealed_ids = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert mine.job_id.encode() not in sealed_ids  # not in the log either (PR-30)
    assert other.job_id.encode() in sealed_ids


def tamper(folder: Path, statement: str) -> None:
    """Change rows behind the store's back."""
    connection = sqlite3.connect(folder / "jobs.sqlite3")
    with connection:
        connection.execute(statement)
    connection.close()


def test_a_changed_payload_is_a_typed_error_and_fails_the_job(
    store: JobStore, tmp_path: Path
) -> None:
    job, _ = store.submit(NEW)
    tamper(tmp_path, "UPDATE trivium_jobs SET payload = substr(payload, 1, 40)")
    with pytest.raises(JobTamperedError):
        store.claim(job.job_id, MODEL)
    failed = store.get(job.job_id)
    assert failed is not None and (failed.state, failed.error) == (
        "failed",
        "job_tampered",
    )


def test_results_swapped_between_jobs_are_noticed(
    store: JobStore, tmp_path: Path
) -> None:
    mine, theirs = (claimed(store, replace(NEW, result_key=k * 64)) for k in "rs")
    assert store.complete(mine, b"mine", "cpu")
    assert store.complete(theirs, b"theirs", "cpu")
    tamper(
        tmp_path,
        "UPDATE trivium_jobs SET result = (SELECT other.result FROM trivium_jobs other"
        f" WHERE other.job_id = '{theirs.job_id}')",
    )
    assert store.result(theirs.job_id) == b"theirs"
    with pytest.raises(JobTamperedError):
        store.result(mine.job_id)


def test_a_payload_put_in_place_of_a_result_is_noticed(
    store: JobStore, tmp_path: Path
) -> None:
    claim = claimed(store)
    store.complete(claim, b"r", "cpu")
    tamper(tmp_path, "UPDATE trivium_jobs SET result = payload")
    with pytest.raises(JobTamperedError):
        store.result(claim.job_id)


def test_of_many_threads_one_submits_and_one_claims(tmp_path: Path) -> None:
    store = JobStore(url_of(tmp_path), CIPHER, timeout_s=20)
    with ThreadPoolExecutor(8) as pool:
        submitted = list(pool.map(lambda _: store.submit(NEW), range(16)))
        assert len({job.job_id for job, _ in submitted}) == 1
        assert sum(is_new for _, is_new in submitted) == 1
        job_id = submitted[0][0].job_id
        claims = list(pool.map(lambda _: store.claim(job_id, MODEL), range(16)))
    assert sum(claim is not None for claim in claims) == 1
    store.close()


def race(url: str, barrier: object, answers: object) -> None:
    """Submit and claim 20 jobs against another process; report what was won."""
    store = JobStore(url, CIPHER, timeout_s=30)
    barrier.wait(60)  # type: ignore[attr-defined]
    won = []
    for number in range(20):
        job, is_new = store.submit(replace(NEW, result_key=f"{number:064d}"))
        claim = store.claim(job.job_id, MODEL)
        done = claim is not None and store.complete(claim, b"r", str(os.getpid()))
        won.append((job.job_id, is_new, done))
    answers.put(won)  # type: ignore[attr-defined]
    store.close()


def test_two_processes_never_do_one_job_twice(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier, answers = context.Barrier(2), context.Queue()
    racers = [
        context.Process(
            target=race, args=(url_of(tmp_path), barrier, answers), daemon=True
        )
        for _ in range(2)
    ]
    for racer in racers:
        racer.start()
    reports = [answers.get(timeout=60) for _ in racers]
    for racer in racers:
        racer.join(60)
    for mine, theirs in zip(*reports):
        assert mine[0] == theirs[0]  # the same job
        assert mine[1] + theirs[1] == 1  # submitted once
        assert mine[2] + theirs[2] == 1  # done once


def test_a_locked_database_is_a_typed_error_in_bounded_time(tmp_path: Path) -> None:
    store = JobStore(url_of(tmp_path), CIPHER, timeout_s=0.05)
    holder = sqlite3.connect(tmp_path / "jobs.sqlite3", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(JobStoreUnavailableError) as caught:
        store.submit(NEW)
    assert "payload" not in str(caught.value.__cause__).split("[SQL")[0]
    assert "p" * 64 not in str(caught.value.__cause__)  # parameters stay hidden
    assert store.find(NEW.result_key) is None  # readers do not wait for the writer
    holder.execute("ROLLBACK")
    assert store.submit(NEW)[1]
    holder.close()
    store.close()


def test_a_file_that_is_no_database_is_a_typed_error(tmp_path: Path) -> None:
    (tmp_path / "jobs.sqlite3").write_bytes(b"not a database" * 100)
    with pytest.raises(JobStoreUnavailableError):
        JobStore(url_of(tmp_path), CIPHER)


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///:memory:", "mysql://h/d", "no url"]
)
def test_other_databases_are_refused_and_not_quoted(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        JobStore(url, CIPHER)
    assert url not in str(caught.value)


def test_the_file_and_its_folder_are_private(tmp_path: Path) -> None:
    store = JobStore(url_of(tmp_path / "var"), CIPHER)
    store.submit(NEW)
    assert (tmp_path / "var").stat().st_mode & 0o077 == 0
    for path in (tmp_path / "var").iterdir():
        assert path.stat().st_mode & 0o077 == 0
    store.close()


@pytest.mark.parametrize(
    "column", ["result_key", "tenant", "patient_index", "model_sha256"]
)
def test_a_row_that_names_another_owner_opens_neither_payload_nor_result(
    store: JobStore, tmp_path: Path, column: str
) -> None:
    claim = claimed(store)
    assert store.complete(claim, b"the result", "cpu")
    tamper(tmp_path, f"UPDATE trivium_jobs SET {column} = 'somebody else'")
    for read in (store.payload, store.result):
        with pytest.raises(JobTamperedError):
            read(claim.job_id)


def test_a_row_changed_while_its_job_runs_does_not_open_its_result(
    store: JobStore, tmp_path: Path
) -> None:
    claim = claimed(store)
    tamper(tmp_path, "UPDATE trivium_jobs SET tenant = 'site-b'")
    assert store.complete(claim, b"the result", "cpu")
    with pytest.raises(JobTamperedError):
        store.result(claim.job_id)


def test_a_queued_job_that_was_given_to_another_is_not_computed(
    store: JobStore, tmp_path: Path
) -> None:
    job, _ = store.submit(NEW)
    tamper(tmp_path, f"UPDATE trivium_jobs SET patient_index = '{'q' * 64}'")
    with pytest.raises(JobTamperedError):
        store.claim(job.job_id, MODEL)
