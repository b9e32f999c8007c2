"""Journal files: frames, torn ends, limits; replay checks, copies once, records."""

from __future__ import annotations

import os
import sqlite3
import zlib
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.errors import DatabaseDownError, JournalError
from audit.frames import FrameKind, encode, read_frames
from audit.journal import JournalFile, pending
from audit.log import AuditLog
from audit.search import AuditQuery, search
from audit.settings import AuditSettings
from audit.stream import Stream, StreamKind
from audit.verify import verify
from tests.audit.conftest import make_event, settings_in
from tests.audit.tampering import count, database_file

VALUES = st.lists(st.none() | st.integers(-(2**63), 2**63 - 1) | st.binary(max_size=99))


@given(VALUES, VALUES, st.integers(0, 400))
def test_whole_frames_come_back_and_torn_ones_are_dropped(
    one: list[object], two: list[object], cut: int
) -> None:
    first = encode(FrameKind.BATCH, one)
    data = first + encode(FrameKind.END, two)
    frames = list(read_frames(data))
    assert [frame.values for frame in frames] == [tuple(one), tuple(two)]
    assert [frame.kind for frame in frames] == [FrameKind.BATCH, FrameKind.END]
    kept = list(read_frames(data[: len(first) + min(cut, len(data) - len(first) - 1)]))
    assert [frame.values for frame in kept] == [tuple(one)]
    assert kept[0].end == len(first)


@pytest.mark.parametrize("payload", [b"\x09", b"\x01I\x00", b"\x01B\x00\x00"])
def test_whole_frames_with_nonsense_are_errors(payload: bytes) -> None:
    head = len(payload).to_bytes(4, "big") + zlib.crc32(payload).to_bytes(4, "big")
    with pytest.raises(JournalError):
        list(read_frames(head + payload))


def spilled(settings: AuditSettings, number: int = 3) -> Path:
    """A journal file with ``number`` records, left by a process that is gone."""
    log = AuditLog.open(settings_in(settings.journal.parent, deadline_ms=20))
    with closing(sqlite3.connect(database_file(settings), isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        for n in range(number):
            assert log.append(make_event(f"p-{n % 2}")).device == "journal"
        log.close()
    (path,) = pending(settings.journal)
    return path


def test_a_journal_waits_and_is_not_a_missing_stream(settings: AuditSettings) -> None:
    spilled(settings)
    report = verify(settings)
    assert report.verified and report.pending_journals == 1
    assert "not replayed" in report.not_checked[0]


def test_replay_copies_removes_and_is_recorded(
    settings: AuditSettings, log: AuditLog
) -> None:
    path = spilled(settings)
    (report,) = log.replay()
    assert (report.records, report.dropped_bytes) == (4, 0)
    assert not path.exists()
    assert count(settings, "audit_record") == 6
    page = search(settings, AuditQuery(user=None, limit=10))
    note = next(e for e in page.events if e.event_type == "journal.replay")
    assert note.evidence["records"] == 4
    assert note.evidence["stream_id"] == path.stem
    assert log.replay() == []
    log.close()
    assert verify(settings).verified


def test_a_replay_that_was_interrupted_is_finished_by_the_next(
    settings: AuditSettings, log: AuditLog
) -> None:
    path = spilled(settings)
    data = path.read_bytes()
    log.replay()
    path.write_bytes(data)
    (report,) = log.replay()
    assert report.records == 4
    page = search(settings, AuditQuery(patient=make_event("p-0").subject))
    assert len(page.events) == 2
    log.close()
    assert verify(settings).verified


def test_a_torn_end_is_dropped_and_counted(
    settings: AuditSettings, log: AuditLog
) -> None:
    path = spilled(settings)
    with path.open("ab") as file:
        file.write(b"\x00\x00\x10\x00torn")
    (report,) = log.replay()
    assert (report.records, report.dropped_bytes) == (4, 8)


@pytest.mark.parametrize("attack", ["blob", "signature", "node", "opening", "empty"])
def test_a_planted_file_is_set_aside(
    settings: AuditSettings, log: AuditLog, attack: str
) -> None:
    path = spilled(settings, 1)
    frames = list(read_frames(path.read_bytes()))
    opening = list(frames[0].values)
    batch = list(next(f for f in frames if f.kind is FrameKind.BATCH).values)
    if attack == "blob":
        batch[-4] = b"forged"
    elif attack == "signature":
        batch[5] = bytes(64)
    elif attack == "node":
        opening[2] = bytes(32)
    data = encode(FrameKind.OPEN, opening) + encode(FrameKind.BATCH, batch)
    if attack == "opening":
        data = encode(FrameKind.BATCH, batch)
    path.write_bytes(b"" if attack == "empty" else data)
    with pytest.raises(JournalError):
        log.replay()
    assert pending(settings.journal) == []
    assert path.with_suffix(".refused").exists()
    assert count(settings, "audit_stream") == 0


def test_a_file_that_is_being_written_is_left_alone(
    settings: AuditSettings, log: AuditLog
) -> None:
    node_key = log._node_key
    stream = Stream(node_key, StreamKind.JOURNAL, 10)
    file = JournalFile(settings.journal, stream, 10**6)
    file.write(stream.prepare([]), {})
    assert log.replay() == []
    assert len(pending(settings.journal)) == 1
    file.close()
    assert [report.records for report in log.replay()] == [1]


def test_without_a_database_the_file_stays(
    settings: AuditSettings, log: AuditLog
) -> None:
    path = spilled(settings)
    database_file(settings).unlink()
    with pytest.raises(DatabaseDownError):
        log.replay()
    assert path.exists()


@pytest.mark.control("PR-18")
def test_a_file_without_room_refuses_and_keeps_what_it_has(
    settings: AuditSettings, log: AuditLog
) -> None:
    stream = Stream(log._node_key, StreamKind.JOURNAL, 10)
    file = JournalFile(settings.journal, stream, 700)
    prepared = stream.prepare([])
    file.write(prepared, {})
    stream.advance(prepared.batch)
    size = file.path.stat().st_size
    sealed = log._running().enveloper.seal(make_event(), 5)
    with pytest.raises(JournalError, match="full"):
        file.write(stream.prepare([sealed]), {})
    assert file.path.stat().st_size == size and file.usage() > 0.5
    file.finish(stream.end(1))
    with pytest.raises(JournalError):
        JournalFile(settings.journal, Stream(log._node_key, StreamKind.JOURNAL, 1), 9)


@pytest.mark.parametrize("folder", ["nowhere", "file"])
def test_a_folder_that_is_none_is_named(
    settings: AuditSettings, log: AuditLog, tmp_path: Path, folder: str
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(JournalError):
        pending(tmp_path / folder)
    with pytest.raises(JournalError):
        stream = Stream(log._node_key, StreamKind.JOURNAL, 1)
        JournalFile(tmp_path / folder, stream, 10**6)


def test_a_short_write_is_cut_off_again(
    settings: AuditSettings, log: AuditLog, file_size_limit: Callable[[int], None]
) -> None:
    stream = Stream(log._node_key, StreamKind.JOURNAL, 10)
    file = JournalFile(settings.journal, stream, 10**6)
    size = file.path.stat().st_size
    file_size_limit(size + 100)
    with pytest.raises(JournalError, match="full"):
        file.write(stream.prepare([]), {})
    assert file.path.stat().st_size == size
    file_size_limit(-1)
    file.write(stream.prepare([]), {})
    assert os.path.getsize(file.path) > size
    file.close()


@pytest.fixture
def file_size_limit() -> object:
    """Sets the size at which this process's writes come out short."""
    import resource
    import signal

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    signal.signal(signal.SIGXFSZ, before)
