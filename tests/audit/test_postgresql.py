"""The same log on a real PostgreSQL server."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from audit import tables
from audit.database import open_engine
from audit.errors import AuditConfigurationError, RefusedError
from audit.findings import FindingKind
from audit.journal import pending
from audit.log import AuditLog
from audit.provision import initialise
from audit.sealer import only_sealer
from audit.search import AuditQuery, search
from audit.settings import AuditSettings
from audit.verify import verify
from tests.audit.conftest import make_event, settings_in
from tests.audit.postgres import server
from tests.audit.test_log import wait_until

pytestmark = pytest.mark.service("postgresql")
NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with server() as found:
        yield found


def admin(address: str, database: str = "postgres") -> psycopg.Connection:
    url = f"postgresql://postgres@{address}/{database}"
    return psycopg.connect(url, autocommit=True)


@pytest.fixture
def pg(address: str, tmp_path: Path) -> AuditSettings:
    number = next(NUMBERS)
    with admin(address) as connection:
        for name in (f"audit{number}", f"keys{number}"):
            connection.execute(f"CREATE DATABASE {name}")
    front = f"postgresql+psycopg://postgres@{address}"
    settings = settings_in(
        tmp_path, url=f"{front}/audit{number}", keys_url=f"{front}/keys{number}"
    )
    initialise(settings)
    return settings


def test_append_search_seal_verify(pg: AuditSettings) -> None:
    log = AuditLog.open(pg)
    threads = [
        threading.Thread(target=lambda n=n: log.append(make_event(f"p-{n % 3}")))
        for n in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.append_many([make_event("p-0") for _ in range(20)])
    page = search(pg, AuditQuery(patient=make_event("p-0").subject, limit=10))
    assert len(page.events) == 10 and page.next is not None
    rest = search(
        pg, AuditQuery(patient=make_event("p-0").subject, limit=100, after=page.next)
    )
    assert len(rest.events) == 14
    assert page.events[0].clinical == {"note": "left lower opacity"}
    log.close()
    with only_sealer(pg) as sealer:
        assert sealer.seal().tree_size == 33
        with pytest.raises(RefusedError), only_sealer(pg):
            pytest.fail("two sealers at once")
    report = verify(pg)
    assert report.verified, report.findings
    assert (report.records, report.leaves, report.checkpoints) == (33, 33, 1)


def test_schema_and_triggers(pg: AuditSettings) -> None:
    engine = open_engine(pg.url, setting="URL", busy_ms=1000)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, tables.metadata) == []
    engine.dispose()
    log = AuditLog.open(pg)
    log.append(make_event())
    log.close()
    plain = pg.url.replace("+psycopg", "")
    with psycopg.connect(plain, autocommit=True) as connection:
        for statement in (
            "UPDATE audit_record SET outcome = 2",
            "DELETE FROM audit_record",
            "TRUNCATE audit_record",
        ):
            with pytest.raises(psycopg.errors.RaiseException, match="append-only"):
                connection.execute(statement)
        connection.execute("ALTER TABLE audit_record DISABLE TRIGGER ALL")
        connection.execute("UPDATE audit_record SET outcome = 2 WHERE seq = 1")
    (finding,) = verify(pg).findings
    assert (finding.kind, finding.seq) == (FindingKind.ROW_ALTERED, 1)


def test_a_server_that_is_not_durable_is_refused(
    pg: AuditSettings, address: str
) -> None:
    name = pg.url.rsplit("/", 1)[1]
    with admin(address) as connection:
        connection.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
    with pytest.raises(AuditConfigurationError, match="before the disk"):
        AuditLog.open(pg)


@pytest.mark.control("PR-02")
def test_nobody_waits_for_an_open_transaction_elsewhere(pg: AuditSettings) -> None:
    log = AuditLog.open(pg)
    log.append(make_event())
    with psycopg.connect(pg.url.replace("+psycopg", "")) as other:
        other.execute("SELECT count(*) FROM audit_record").fetchone()
        other.execute("LOCK TABLE audit_record IN ROW EXCLUSIVE MODE")
        assert log.append(make_event()).device == "database"
        query = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
        assert other.execute(query).fetchone() == (0,)
    log.close()


def test_a_connection_that_is_cut_costs_no_record(
    pg: AuditSettings, address: str
) -> None:
    log = AuditLog.open(pg)
    first = log.append(make_event())
    name = pg.url.rsplit("/", 1)[1]
    with admin(address) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
            (name,),
        )
    second = log.append(make_event())
    assert second.device in ("journal", "database")
    assert wait_until(lambda: log.mode == "database" and not pending(pg.journal))
    third = log.append(make_event())
    assert third.device == "database" and third.stream_id != first.stream_id
    log.close()
    report = verify(pg)
    assert report.verified, report.findings
    page = search(pg, AuditQuery(patient=make_event().subject))
    wanted = {receipt.record_id for receipt in (first, second, third)}
    assert {event.record_id for event in page.events} == wanted


@pytest.mark.control("PR-17")
def test_a_table_lock_sends_records_to_the_journal_in_time(pg: AuditSettings) -> None:
    folder = pg.journal.parent
    quick = settings_in(folder, url=pg.url, keys_url=pg.keys_url, deadline_ms=150)
    log = AuditLog.open(quick)
    log.append(make_event(), deadline_s=5)
    with psycopg.connect(pg.url.replace("+psycopg", "")) as other:
        other.execute("LOCK TABLE audit_record IN ACCESS EXCLUSIVE MODE")
        assert log.append(make_event()).device == "journal"
    assert wait_until(lambda: log.mode == "database" and not pending(pg.journal))
    log.close()
    assert verify(pg).verified
