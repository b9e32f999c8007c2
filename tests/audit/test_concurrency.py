"""Many writers: no fork of a chain, no lost record, no false alarm."""

from __future__ import annotations

import multiprocessing
import os
import threading
from pathlib import Path

import pytest

from audit.log import AuditLog
from audit.sealer import only_sealer
from audit.search import AuditQuery, search
from audit.settings import AuditSettings
from audit.verify import verify
from tests.audit.conftest import make_event, settings_in
from tests.audit.tampering import count

FORK = multiprocessing.get_context("fork")


@pytest.mark.control("PR-01")
def test_threads_share_one_stream(settings: AuditSettings, log: AuditLog) -> None:
    streams = set()

    def write(name: int) -> None:
        for n in range(10):
            streams.add(log.append(make_event(f"p-{name}-{n % 2}")).stream_id)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(streams) == 1
    assert count(settings, "audit_record") == 81
    assert verify(settings).verified


def _write(folder: Path, barrier: object, count: int) -> None:
    log = AuditLog.open(settings_in(folder, deadline_ms=30_000))
    barrier.wait(60)
    for _ in range(count):
        assert log.append(make_event("shared")).device == "database"
    log.close()


@pytest.mark.control("PR-03")
def test_processes_make_the_first_append_ever_at_once(settings: AuditSettings) -> None:
    barrier = FORK.Barrier(6)
    folder = settings.journal.parent
    writers = [
        FORK.Process(target=_write, args=(folder, barrier, 5), daemon=True)
        for _ in range(6)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert [writer.exitcode for writer in writers] == [0] * 6
    report = verify(settings)
    assert report.verified, report.findings
    assert (report.streams, report.records) == (6, 36)
    # Six processes enrolled one new patient at once: it is one patient.
    found = search(settings, AuditQuery(patient=make_event("shared").subject))
    assert len(found.events) == 30
    assert len({event.subject_id for event in found.events}) == 1


def _child(log: AuditLog, queue: object) -> None:
    receipt = log.append(make_event("child"), deadline_s=20)
    queue.put(receipt.stream_id)
    log.close()


@pytest.mark.control("PR-08")
def test_a_forked_child_opens_its_own_stream(
    settings: AuditSettings, log: AuditLog
) -> None:
    mine = log.append(make_event()).stream_id
    queue = FORK.Queue()
    child = FORK.Process(target=_child, args=(log, queue), daemon=True)
    child.start()
    theirs = queue.get(timeout=30)
    child.join(30)
    assert child.exitcode == 0
    assert theirs != mine
    after = log.append(make_event())
    assert (after.stream_id, after.seq) == (mine, 2)
    assert verify(settings).verified


@pytest.mark.control("PR-13")
def test_verification_beside_writers_raises_no_alarm(
    settings: AuditSettings, log: AuditLog
) -> None:
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            log.append(make_event(f"p-{os.getpid()}"))

    def seal() -> None:
        with only_sealer(settings) as sealer:
            while not stop.wait(0.02):
                sealer.seal()

    threads = [threading.Thread(target=write), threading.Thread(target=seal)]
    for thread in threads:
        thread.start()
    try:
        reports = [verify(settings) for _ in range(12)]
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert [report.findings for report in reports] == [[]] * 12
    assert reports[-1].records > reports[0].records
