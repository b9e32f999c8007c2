"""The job store on PostgreSQL: the same promises as on a SQLite file."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from sqlalchemy import create_engine, text

from model.errors import ConfigurationError, JobStoreUnavailableError
from model.jobs.database import Database
from model.jobs.job import Lives
from model.jobs.store import JobStore
from tests.audit.postgres import server
from tests.model.test_store import CIPHER, LIVES, MODEL, NEW, Clock

pytestmark = pytest.mark.service("postgresql")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A fresh cluster's URL."""
    with server() as address:
        yield f"postgresql+psycopg://postgres@{address}/postgres"


@pytest.fixture
def store(url: str) -> Iterator[JobStore]:
    """A store without rows."""
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE IF EXISTS trivium_jobs"))
    engine.dispose()
    opened = JobStore(url, CIPHER, lives=LIVES, clock=Clock())
    yield opened
    opened.close()


def test_the_whole_life_of_a_job(store: JobStore) -> None:
    job, is_new = store.submit(NEW)
    assert is_new and not store.submit(NEW)[1]
    claim = store.claim(job.job_id, MODEL)
    assert claim is not None and claim.payload == b"the payload"
    assert store.claim(job.job_id, MODEL) is None
    assert store.renew(claim) and store.complete(claim, b"result", "cuda")
    assert not store.complete(claim, b"second", "cuda")
    assert store.result(job.job_id) == b"result"
    found = store.find(NEW.result_key)
    assert found is not None and found.state == "ready"
    assert store.overdue() == () and store.purge_expired() == 0
    assert store.erase_patient(["p" * 64]) == 1
    assert store.get(job.job_id) is None


def test_of_many_threads_one_submits_and_one_claims(url: str, store: JobStore) -> None:
    with ThreadPoolExecutor(5) as pool:
        submitted = list(pool.map(lambda _: store.submit(NEW), range(10)))
        job_id = submitted[0][0].job_id
        claims = list(pool.map(lambda _: store.claim(job_id, MODEL), range(10)))
    assert {job.job_id for job, _ in submitted} == {job_id}
    assert sum(is_new for _, is_new in submitted) == 1
    assert sum(claim is not None for claim in claims) == 1


def test_processes_that_create_the_table_at_once_all_start(url: str) -> None:
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE IF EXISTS trivium_jobs"))
    engine.dispose()
    with ThreadPoolExecutor(4) as pool:
        stores = list(pool.map(lambda _: JobStore(url, CIPHER), range(4)))
    assert stores[0].submit(NEW)[1] and not stores[3].submit(NEW)[1]
    for opened in stores:
        opened.close()


def test_a_locked_table_is_a_typed_error_in_bounded_time(
    url: str, store: JobStore
) -> None:
    hurried = JobStore(url, CIPHER, lives=Lives(), timeout_s=0.1)
    engine = create_engine(url)
    with engine.begin() as holder:
        holder.execute(text("LOCK TABLE trivium_jobs IN ACCESS EXCLUSIVE MODE"))
        with pytest.raises(JobStoreUnavailableError):
            hurried.submit(replace(NEW, result_key="z" * 64))
    assert hurried.submit(replace(NEW, result_key="z" * 64))[1]
    engine.dispose()
    hurried.close()


def test_a_role_that_may_not_create_tables_is_told_so(url: str) -> None:
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE IF EXISTS trivium_jobs"))
        connection.execute(text("DROP ROLE IF EXISTS reader"))
        connection.execute(text("CREATE ROLE reader LOGIN"))
        connection.execute(text("REVOKE CREATE ON SCHEMA public FROM PUBLIC"))
    engine.dispose()
    with pytest.raises(JobStoreUnavailableError):
        Database(url.replace("postgres@", "reader@"), 5.0)


def test_a_server_that_is_not_there_is_a_typed_error() -> None:
    with pytest.raises(JobStoreUnavailableError):
        JobStore("postgresql+psycopg://nobody@127.0.0.1:1/none", CIPHER)


def test_a_url_with_a_password_is_never_quoted() -> None:
    with pytest.raises(ConfigurationError) as caught:
        Database("mysql://user:secret@host/db", 1.0)
    assert "secret" not in str(caught.value)
