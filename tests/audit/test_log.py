"""Appending: durable on return, chained, fail-closed, one stream a process."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from audit.appender import Appender
from audit.chain import batch_message, is_signed
from audit.envelope import evidence_document
from audit.errors import (
    AuditUnavailableError,
    DatabaseDownError,
    EventError,
    SubjectNotLiveError,
)
from audit.journal import pending
from audit.log import AuditLog
from audit.merkle import leaf_hash, root_from_path
from audit.search import AuditQuery, search
from audit.settings import AuditSettings
from audit.verify import verify
from tests.audit.conftest import make_event, settings_in
from tests.audit.tampering import count, database_file

Opener = Callable[[AuditSettings], AuditLog]


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return condition()


def locked(settings: AuditSettings) -> sqlite3.Connection:
    """Somebody else holds the write lock of the evidence database."""
    holder = sqlite3.connect(database_file(settings), isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    return holder


def test_append_returns_a_receipt_that_proves_itself(log: AuditLog) -> None:
    first, second = log.append(make_event()), log.append(make_event())
    assert (first.seq, second.seq) == (1, 2)
    assert first.stream_id == second.stream_id
    batch = second.batch
    fields = (batch.stream_id, batch.first_seq, batch.last_seq)
    message = batch_message(*fields, batch.head_hash, batch.batch_root)
    pubkey = second.statement[len(b"trivium.open.1\0") + 16 :][:32]
    assert is_signed(pubkey, batch.sig, message)
    leaf = leaf_hash(bytes.fromhex(first.row_hash))
    rows = len(first.batch.row_hashes)
    root = root_from_path(leaf, first.seq - first.batch.first_seq, rows, first.path())
    assert root == first.batch.batch_root
    assert set(first.to_json()) >= {"stream_id", "seq", "row_hash", "path", "sig"}


def test_many_events_are_one_commit_and_more_are_several(log: AuditLog) -> None:
    receipts = log.append_many([make_event(f"p-{n}") for n in range(100)])
    assert [receipt.seq for receipt in receipts] == list(range(1, 101))
    assert len({receipt.batch.first_seq for receipt in receipts}) == 2
    assert log.append_many([]) == []


def test_a_closed_log_takes_nothing(settings: AuditSettings) -> None:
    log = AuditLog.open(settings)
    log.append(make_event())
    log.close()
    with pytest.raises(AuditUnavailableError, match="closed"):
        log.append(make_event())
    assert verify(settings).verified
    assert count(settings, "audit_stream_end") == 1


@pytest.mark.parametrize("value", [object(), b"bytes", {1, 2}])
def test_what_json_cannot_hold_is_refused_before_anything_is_stored(
    settings: AuditSettings, log: AuditLog, value: object
) -> None:
    with pytest.raises(EventError) as caught:
        log.append_many([make_event(), make_event(evidence={"x": value})])
    assert caught.value.field == "evidence"
    assert count(settings, "audit_record") == 0


def test_oversized_documents_are_refused() -> None:
    with pytest.raises(EventError, match="larger"):
        evidence_document(make_event(evidence={"x": "y" * (5 * 1024 * 1024)}))


@pytest.mark.control("PR-17")
def test_a_locked_database_hands_over_to_the_journal_and_back(
    settings: AuditSettings, open_log: Opener
) -> None:
    settings = settings_in(settings.journal.parent, deadline_ms=100)
    log = open_log(settings)
    log.append(make_event(), deadline_s=5)
    with closing(locked(settings)) as holder:
        start = time.monotonic()
        receipt = log.append(make_event())
        assert time.monotonic() - start < 1.0
        assert receipt.device == "journal"
        assert log.append(make_event("p-2")).stream_id == receipt.stream_id
        assert log.mode == "journal"
        holder.execute("ROLLBACK")
    assert wait_until(lambda: not pending(settings.journal))
    assert log.append(make_event(), deadline_s=5).device == "database"
    log.close()
    report = verify(settings)
    assert report.verified, report.findings
    page = search(settings, AuditQuery(patient=make_event("p-2").subject))
    assert len(page.events) == 1 and page.events[0].sealed is None


class HangingDevice:
    """A database whose driver does not come back until it is told to."""

    def __init__(self) -> None:
        self.release = threading.Event()

    def write(self, *_: object) -> None:
        self.release.wait(10)
        raise DatabaseDownError("connection lost", in_doubt=True)

    def probe(self) -> None:
        raise DatabaseDownError("cannot begin", in_doubt=False)

    def write_end(self, *_: object) -> None:
        raise AssertionError("the stream must not end as if all were well")

    def reset(self) -> None:
        """Nothing is held."""


@pytest.mark.control("PR-17")
def test_a_hanging_driver_costs_the_deadline_and_no_more(
    settings: AuditSettings, open_log: Opener
) -> None:
    log = open_log(settings)
    parts = log._running()
    device = HangingDevice()
    appender = Appender(
        device,  # type: ignore[arg-type]
        parts.journal,
        lambda prev: log._open_stream(log._kind, prev),
        lambda stream: None,
        lambda: None,
        0.05,
    )
    sealed = parts.enveloper.seal(make_event(), 5)
    receipts: list[object] = []
    start = time.monotonic()
    threads = [
        threading.Thread(
            target=lambda: receipts.extend(appender.submit([sealed], deadline_s=0.1))
        )
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert time.monotonic() - start < 1.5
    assert [receipt.device for receipt in receipts] == ["journal"] * 4
    # Nobody waits for the deadline a second time.
    start = time.monotonic()
    appender.submit([sealed], deadline_s=5)
    assert time.monotonic() - start < 1.0
    device.release.set()
    appender.close(timeout_s=5)


@pytest.mark.control("PR-18")
def test_without_any_device_the_record_is_refused_and_later_taken(
    settings: AuditSettings, open_log: Opener
) -> None:
    folder = settings.journal.parent
    settings = settings_in(folder, deadline_ms=50, journal_max_bytes=300)
    log = open_log(settings)
    with closing(locked(settings)) as holder:
        with pytest.raises(AuditUnavailableError) as caught:
            log.append(make_event())
        assert "full" in caught.value.reason
        holder.execute("ROLLBACK")
    assert wait_until(lambda: log.mode == "database")
    assert log.append(make_event(), deadline_s=5).device == "database"


def test_a_journal_that_vanished_refuses(
    settings: AuditSettings, open_log: Opener
) -> None:
    log = open_log(settings_in(settings.journal.parent, deadline_ms=50))
    shutil.rmtree(settings.journal)
    with closing(locked(settings)):
        with pytest.raises(AuditUnavailableError, match="cannot"):
            log.append(make_event())


@pytest.mark.control("PR-19")
@pytest.mark.parametrize("attack", ["unlink", "rename", "replace"])
def test_a_journal_file_that_was_exchanged_refuses_the_next_batch(
    settings: AuditSettings, open_log: Opener, attack: str
) -> None:
    log = open_log(settings_in(settings.journal.parent, deadline_ms=50))
    with closing(locked(settings)):
        log.append(make_event())
        (path,) = pending(settings.journal)
        if attack == "unlink":
            path.unlink()
        else:
            path.rename(path.with_suffix(".stolen"))
        if attack == "replace":
            shutil.copy(path.with_suffix(".stolen"), path)
        with pytest.raises(AuditUnavailableError, match="replaced"):
            log.append(make_event())
        # The one after goes to a new file; nothing reached the unlinked inode.
        assert log.append(make_event()).device == "journal"


def test_key_database_down_warm_patients_go_on_and_new_ones_are_adopted_later(
    settings: AuditSettings, open_log: Opener
) -> None:
    log = open_log(settings)
    log.append(make_event("warm"))
    keys = Path(settings.keys_url.removeprefix("sqlite:///"))
    away = keys.with_suffix(".away")
    log._running().keyring.store.engine.dispose()
    keys.rename(away)
    keys.mkdir()
    assert log.append(make_event("warm")).device == "database"
    cold = log.append(make_event("cold"))
    again = log.append(make_event("cold"))
    nobody = log.append(make_event(None))
    assert {cold.device, again.device, nobody.device} == {"journal"}
    keys.rmdir()
    away.rename(keys)
    assert wait_until(lambda: not pending(settings.journal))
    log.close()
    assert verify(settings).verified
    for patient, number in (("warm", 2), ("cold", 2)):
        page = search(settings, AuditQuery(patient=make_event(patient).subject))
        assert [event.sealed for event in page.events] == [None] * number
        assert page.events[0].clinical == {"note": "left lower opacity"}
        assert page.events[0].subject["value"] == patient


@pytest.mark.control("PR-28")
@pytest.mark.parametrize("damage", ["state", "key"])
def test_an_erased_patient_gets_no_new_key(
    settings: AuditSettings, open_log: Opener, damage: str
) -> None:
    open_log(settings).append(make_event("gone", clinical=None))
    with closing(sqlite3.connect(settings.keys_url.removeprefix("sqlite:///"))) as db:
        if damage == "state":
            db.execute("UPDATE subject SET state = 4")
        else:
            db.execute("UPDATE subject_key SET wrapped = NULL")
        db.commit()
    with pytest.raises(SubjectNotLiveError):
        open_log(settings).append(make_event("gone"))


@pytest.mark.control("TM-T4")
def test_a_clock_that_steps_back_is_flagged_and_verifies(
    settings: AuditSettings, log: AuditLog
) -> None:
    log.append(make_event())
    log._running().enveloper._latest_us = (time.time_ns() // 1000) + 3_600_000_000
    log.append(make_event())
    page = search(settings, AuditQuery(patient=make_event().subject))
    assert [bool(event.flags & 32) for event in page.events] == [True, False]
    assert verify(settings).verified


def test_record_ids_are_uuid_version_7(log: AuditLog) -> None:
    raw = bytes.fromhex(log.append(make_event()).record_id)
    assert raw[6] >> 4 == 7 and raw[8] >> 6 == 2
    assert abs(int.from_bytes(raw[:6], "big") / 1000 - time.time()) < 60


WRITER = """
import sys
from pathlib import Path
from audit.log import AuditLog
from tests.audit.conftest import make_event, settings_in
log = AuditLog.open(settings_in(Path(sys.argv[1])))
while True:
    print(log.append(make_event()).record_id, flush=True)
"""


@pytest.mark.control("PR-16")
def test_kill_9_loses_nothing_that_was_acknowledged(settings: AuditSettings) -> None:
    command = [sys.executable, "-c", WRITER, str(settings.journal.parent)]
    environ = {**os.environ, "PYTHONPATH": os.getcwd()}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=environ
    ) as writer:
        lines = [writer.stdout.readline().strip() for _ in range(25)]
        writer.kill()
        lines += writer.stdout.read().split()
    page = search(settings, AuditQuery(patient=make_event().subject, limit=500))
    stored = {event.record_id for event in page.events}
    assert len(lines) >= 25
    assert {line for line in lines if len(line) == 32} <= stored
    assert verify(settings).verified


def test_enveloper_names_no_content_in_its_errors() -> None:
    with pytest.raises(EventError) as caught:
        evidence_document(make_event(evidence={"secret-name": {1}}))
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None
