"""The sealer: heartbeats, crashes between database and anchors, what it refuses."""

from __future__ import annotations

import pytest

from audit.errors import DatabaseDownError, RefusedError
from audit.findings import FindingKind
from audit.log import AuditLog
from audit.sealer import only_sealer
from audit.settings import AuditSettings
from audit.verify import verify
from tests.audit.conftest import make_event, settings_in
from tests.audit.tampering import as_administrator, count, database_file


@pytest.fixture
def sealed(settings: AuditSettings) -> AuditSettings:
    log = AuditLog.open(settings)
    log.append_many([make_event(), make_event()])
    log.close()
    with only_sealer(settings) as sealer:
        sealer.seal()
    return settings


@pytest.mark.control("N1")
def test_silence_is_signed_too(sealed: AuditSettings) -> None:
    with only_sealer(sealed) as sealer:
        first, second = sealer.seal(), sealer.seal()
    assert first.tree_size == second.tree_size == 3
    assert first.root == second.root
    assert second.prev == first.digest()
    assert verify(sealed).verified


def test_a_checkpoint_lost_on_its_way_to_the_anchors_is_anchored_at_restart(
    sealed: AuditSettings,
) -> None:
    lines = sealed.checkpoints.read_bytes().splitlines(keepends=True)
    sealed.checkpoints.write_bytes(b"".join(lines[:-1]) + lines[-1][:40])
    with only_sealer(sealed):
        pass
    repaired = sealed.checkpoints.read_bytes().splitlines(keepends=True)
    assert repaired[-1] == lines[-1]
    # The torn line stays in its place and is named.
    assert [f.kind for f in verify(sealed).findings] == [FindingKind.ANCHOR_ALTERED]


def test_a_tree_shorter_than_anchored_is_not_sealed(sealed: AuditSettings) -> None:
    with as_administrator(sealed) as connection:
        connection.execute("DELETE FROM audit_leaf WHERE leaf_index = 2")
    with pytest.raises(RefusedError, match="shorter"), only_sealer(sealed):
        pytest.fail("sealed a tree that was cut")


def test_nothing_behind_a_gap_is_sealed(sealed: AuditSettings) -> None:
    log = AuditLog.open(sealed)
    log.append(make_event())
    log.append(make_event())
    log.close()
    with as_administrator(sealed) as connection:
        connection.execute("DELETE FROM audit_record WHERE seq = 1 AND rowid > 3")
    with only_sealer(sealed) as sealer:
        assert sealer.seal().tree_size == 4
    assert count(sealed, "audit_leaf") == 4


def test_a_database_without_tables_cannot_be_sealed(sealed: AuditSettings) -> None:
    database_file(sealed).unlink()
    with pytest.raises(DatabaseDownError), only_sealer(sealed):
        pytest.fail("sealed nothing")


def test_a_database_that_refuses_gets_no_anchor(sealed: AuditSettings) -> None:
    before = sealed.checkpoints.read_bytes()
    with only_sealer(sealed) as sealer:
        with as_administrator(sealed) as connection:
            connection.execute("DROP TABLE audit_checkpoint")
        with pytest.raises(DatabaseDownError):
            sealer.seal()
    assert sealed.checkpoints.read_bytes() == before


def test_anchors_that_cannot_be_written_do_not_stop_the_log(
    settings: AuditSettings,
) -> None:
    folder = settings.journal.parent
    nowhere = settings_in(folder, checkpoints=folder / "none" / "anchors")
    log = AuditLog.open(nowhere)
    assert log.append(make_event()).device == "database"
    log.close()
    report = verify(nowhere)
    assert report.verified and "there is no anchor file" in report.not_checked
