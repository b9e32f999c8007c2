"""Whatever is changed is found, and said where."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from audit.errors import RefusedError, UncheckableError
from audit.findings import FindingKind, VerifyReport
from audit.log import AuditLog
from audit.sealer import only_sealer
from audit.settings import AuditSettings
from audit.tables import metadata
from audit.verify import verify
from tests.audit.conftest import make_event, settings_in
from tests.audit.tampering import as_administrator, count, database_file

COLUMNS = [
    (table.name, column.name)
    for table in metadata.tables.values()
    for column in table.columns
]


@pytest.fixture(scope="module")
def sealed_template(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two ended streams, two commits each, and two checkpoints; not to be changed."""
    folder = tmp_path_factory.mktemp("sealed") / "log"
    shutil.copytree(template, folder)
    settings = settings_in(folder)
    for name in ("a", "b"):
        log = AuditLog.open(settings)
        log.append(make_event(name))
        log.append_many([make_event(name), make_event(None)])
        log.close()
        with only_sealer(settings) as sealer:
            sealer.seal()
    return folder


@pytest.fixture
def sealed(sealed_template: Path, tmp_path: Path) -> AuditSettings:
    shutil.copytree(sealed_template, tmp_path / "copy")
    return settings_in(tmp_path / "copy")


def kinds(report: VerifyReport) -> set[FindingKind]:
    return {finding.kind for finding in report.findings}


def streams_of(settings: AuditSettings) -> list[bytes]:
    with closing(sqlite3.connect(database_file(settings))) as connection:
        query = "SELECT stream_id FROM audit_stream ORDER BY opened_us"
        return [row[0] for row in connection.execute(query)]


def test_an_untouched_log_is_intact(sealed: AuditSettings) -> None:
    report = verify(sealed)
    assert report.verified and report.findings == []
    assert (report.records, report.streams, report.leaves) == (8, 2, 8)
    assert (report.checkpoints, report.anchors, report.unsealed) == (2, 4, 0)
    assert report.to_json()["verified"] is True


def flip(value: object, bit: int) -> object:
    if value is None:
        return bytes(16)
    if isinstance(value, int):
        # Bits from the fourth on: no flip lands on the number of another row.
        return value ^ 1 << 3 + bit % 59
    changed = bytearray(value)
    changed[bit // 8 % len(changed)] ^= 1 << bit % 8
    return bytes(changed)


def mutate(settings: AuditSettings, table: str, column: str, row: int, bit: int) -> Any:
    """Flip one bit; returns the row as it was, by column name."""
    with as_administrator(settings) as connection:
        connection.row_factory = sqlite3.Row
        rows = connection.execute(f"SELECT rowid AS at, * FROM {table}").fetchall()
        old = dict(rows[row % len(rows)])
        query = f"UPDATE {table} SET {column} = ? WHERE rowid = ?"
        connection.execute(query, (flip(old[column], bit), old["at"]))
    return old


def is_located(report: VerifyReport, table: str, old: Any) -> bool:
    """Whether a finding names the stream and covers the number of the changed row."""
    if table == "audit_checkpoint":
        return bool(kinds(report) & {FindingKind.CHECKPOINT_ALTERED})
    if table == "audit_stream_end":
        return bool(kinds(report) & {"stream_end_altered", "truncated"})
    for finding in report.findings:
        if table == "audit_leaf" and f"leaf {old['leaf_index']}" in finding.detail:
            return True
        if finding.stream != old["stream_id"].hex():
            continue
        if table not in ("audit_record", "audit_leaf", "audit_batch"):
            return True
        first = old.get("seq", old.get("first_seq"))
        last = old.get("seq", old.get("last_seq"))
        if finding.seq is None:
            return True
        if finding.seq <= last and (finding.last_seq or finding.seq) >= first:
            return True
    return False


@pytest.mark.control("PR-06")
@pytest.mark.parametrize(("table", "column"), COLUMNS)
def test_every_column_counts(sealed: AuditSettings, table: str, column: str) -> None:
    old = mutate(sealed, table, column, 1, 3)
    report = verify(sealed)
    assert not report.verified
    assert is_located(report, table, old), report.findings


@pytest.mark.control("H7")
@hypothesis_settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.sampled_from(COLUMNS), st.integers(0, 7), st.integers(0, 4096))
def test_any_flipped_bit_is_found_and_located(
    sealed_template: Path,
    tmp_path: Path,
    place: tuple[str, str],
    row: int,
    bit: int,
) -> None:
    folder = tmp_path / "copy"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(sealed_template, folder)
    settings = settings_in(folder)
    old = mutate(settings, *place, row, bit)
    report = verify(settings)
    assert not report.verified
    assert is_located(report, place[0], old), report.findings


@pytest.mark.control("PR-09")
@pytest.mark.parametrize("k", [1, 2, 3, 4])
@pytest.mark.parametrize("depth", ["rows", "rows and batches", "everything"])
def test_a_cut_tail_is_found(sealed: AuditSettings, k: int, depth: str) -> None:
    stream = streams_of(sealed)[1]
    with as_administrator(sealed) as connection:
        tail = (stream, 4 - k)
        connection.execute(
            "DELETE FROM audit_record WHERE stream_id=? AND seq>=?", tail
        )
        if depth != "rows":
            query = "DELETE FROM audit_batch WHERE stream_id=? AND last_seq>=?"
            connection.execute(query, tail)
            connection.execute("DELETE FROM audit_stream_end")
        if depth == "everything":
            query = "DELETE FROM audit_leaf WHERE stream_id=? AND seq>=?"
            connection.execute(query, tail)
            connection.execute("DELETE FROM audit_checkpoint WHERE tree_size > 4")
    report = verify(sealed)
    assert not report.verified
    if depth == "everything":
        assert FindingKind.TREE_TRUNCATED in kinds(report)
    else:
        missing = {
            seq
            for finding in report.findings
            if finding.stream == stream.hex() and finding.seq is not None
            for seq in range(finding.seq, (finding.last_seq or finding.seq) + 1)
        }
        assert missing >= set(range(4 - k, 4))


@pytest.mark.control("PR-09")
def test_a_cut_tail_of_a_stream_that_was_never_sealed(
    settings: AuditSettings, log: AuditLog
) -> None:
    log.append(make_event())
    log.append(make_event())
    log.close()
    assert verify(settings).not_checked == [
        "3 newest records are signed but not yet anchored"
    ]
    with as_administrator(settings) as connection:
        connection.execute("DELETE FROM audit_record WHERE seq = 2")
        connection.execute("DELETE FROM audit_batch WHERE last_seq = 2")
    (finding,) = verify(settings).findings
    assert (finding.kind, finding.seq, finding.last_seq) == ("truncated", 2, 2)


def test_a_removed_row_is_a_gap(sealed: AuditSettings) -> None:
    stream = streams_of(sealed)[0]
    with as_administrator(sealed) as connection:
        query = "DELETE FROM audit_record WHERE stream_id = ? AND seq = 2"
        connection.execute(query, (stream,))
    report = verify(sealed)
    gaps = [f for f in report.findings if f.kind is FindingKind.ROWS_MISSING]
    assert {(gap.stream, gap.seq, gap.last_seq) for gap in gaps} == {
        (stream.hex(), 2, 2)
    }


@pytest.mark.parametrize("other_stream", [False, True])
def test_swapped_rows_are_found(sealed: AuditSettings, other_stream: bool) -> None:
    one, two = streams_of(sealed)
    left, right = (one, 1), (two if other_stream else one, 2)
    with as_administrator(sealed) as connection:
        move = "UPDATE audit_record SET stream_id=?, seq=? WHERE stream_id=? AND seq=?"
        connection.execute(move, (one, 99, *left))
        connection.execute(move, (*left, *right))
        connection.execute(move, (*right, one, 99))
    report = verify(sealed)
    altered = [f for f in report.findings if f.kind is FindingKind.ROW_ALTERED]
    assert {(f.stream, f.seq) for f in altered} == {
        (left[0].hex(), left[1]),
        (right[0].hex(), right[1]),
    }


def test_a_row_that_nobody_signed_is_found(
    settings: AuditSettings, log: AuditLog
) -> None:
    log.append(make_event())
    with as_administrator(settings) as connection:
        connection.execute("UPDATE audit_batch SET last_seq = 0")
    assert FindingKind.UNSIGNED in kinds(verify(settings))


@pytest.mark.control("PR-11")
@pytest.mark.parametrize("also_leaves", [False, True])
def test_a_dropped_stream_is_missed(sealed: AuditSettings, also_leaves: bool) -> None:
    stream = streams_of(sealed)[1]
    tables = ["audit_record", "audit_batch", "audit_stream", "audit_stream_end"]
    with as_administrator(sealed) as connection:
        for table in tables + ["audit_leaf"] * also_leaves:
            connection.execute(f"DELETE FROM {table} WHERE stream_id = ?", (stream,))
        if also_leaves:
            connection.execute("DELETE FROM audit_checkpoint WHERE tree_size > 4")
    report = verify(sealed)
    missing = [f for f in report.findings if f.kind is FindingKind.STREAM_MISSING]
    assert [finding.stream for finding in missing] == [stream.hex()]


def rewrite(settings: AuditSettings) -> None:
    """Delete the last stream and let a new one take its place, same tree size."""
    stream = streams_of(settings)[-1]
    with as_administrator(settings) as connection:
        for table in ("audit_record", "audit_batch", "audit_stream", "audit_leaf"):
            connection.execute(f"DELETE FROM {table} WHERE stream_id = ?", (stream,))
        connection.execute("DELETE FROM audit_stream_end")
        connection.execute("DELETE FROM audit_checkpoint WHERE tree_size > 4")
    log = AuditLog.open(settings)
    log.append_many([make_event("b"), make_event("b"), make_event(None)])
    log.close()


@pytest.mark.control("PR-10")
@pytest.mark.control("PR-12")
def test_a_same_length_rewrite_is_caught_by_what_was_anchored(
    sealed: AuditSettings,
) -> None:
    rewrite(sealed)
    # The honest sealer refuses to vouch for it.
    with pytest.raises(RefusedError):
        with only_sealer(sealed):
            pytest.fail("sealed a tree that is not as anchored")
    # An attacker who holds every key signs it, in a fresh anchor file.
    honest = sealed.checkpoints.read_bytes()
    lines = honest.splitlines(keepends=True)
    sealed.checkpoints.write_bytes(b"".join(lines[:2]))
    with only_sealer(sealed) as sealer:
        sealer.seal()
    for _ in range(2):
        log = AuditLog.open(sealed)
        log.append_many([make_event(f"n-{n}") for n in range(50)])
        log.close()
    with only_sealer(sealed) as sealer:
        sealer.seal()
    # The anchors that lie elsewhere still know the root of eight leaves.
    sealed.checkpoints.write_bytes(honest)
    found = kinds(verify(sealed))
    assert {FindingKind.TREE_ALTERED, FindingKind.STREAM_MISSING} <= found


@pytest.mark.control("TM-T3")
def test_two_roots_for_one_size_are_equivocation(
    sealed: AuditSettings, tmp_path: Path
) -> None:
    twin = settings_in(tmp_path / "twin")
    shutil.copytree(sealed.journal.parent, tmp_path / "twin")
    rewrite(twin)
    lines = twin.checkpoints.read_bytes().splitlines(keepends=True)
    twin.checkpoints.write_bytes(b"".join(lines[:2]))
    with only_sealer(twin) as sealer:
        sealer.seal()
    forged = twin.checkpoints.read_bytes().splitlines(keepends=True)[-1]
    with sealed.checkpoints.open("ab") as file:
        file.write(forged)
    assert FindingKind.EQUIVOCATION in kinds(verify(sealed))


@pytest.mark.parametrize("line", [0, 1, 2, 3])
def test_an_edited_anchor_is_found(sealed: AuditSettings, line: int) -> None:
    lines = sealed.checkpoints.read_text().splitlines(keepends=True)
    field = "opened_us" if '"open"' in lines[line] else "created_us"
    lines[line] = lines[line].replace(f'"{field}":1', f'"{field}":2')
    sealed.checkpoints.write_text("".join(lines))
    assert FindingKind.ANCHOR_ALTERED in kinds(verify(sealed))


@pytest.mark.parametrize("text", ["{\n", "[]\n", '{"anchor":"open"}\n', "7\n"])
def test_a_line_that_is_no_anchor_is_found(sealed: AuditSettings, text: str) -> None:
    with sealed.checkpoints.open("a") as file:
        file.write(text)
    assert kinds(verify(sealed)) == {FindingKind.ANCHOR_ALTERED}


def test_lost_anchors_are_found(sealed: AuditSettings) -> None:
    sealed.checkpoints.unlink()
    assert kinds(verify(sealed)) == {FindingKind.ANCHOR_MISSING}


def test_a_removed_checkpoint_is_found(sealed: AuditSettings) -> None:
    with as_administrator(sealed) as connection:
        connection.execute("DELETE FROM audit_checkpoint WHERE tree_size = 4")
    report = verify(sealed)
    assert kinds(report) == {FindingKind.CHECKPOINT_MISSING}
    assert report.total_findings == 2  # it is anchored, and its successor names it


def test_a_stream_of_an_unknown_node_is_found(sealed: AuditSettings) -> None:
    sealed.trust_file.write_text("ab" * 32 + "\n")
    assert FindingKind.STREAM_ALTERED in kinds(verify(sealed))


# SQLite itself keeps the one integer primary key an integer.
@pytest.mark.parametrize(
    ("table", "column"), [c for c in COLUMNS if c[1] != "leaf_index"]
)
def test_a_value_of_another_type_is_a_finding_not_a_crash(
    sealed: AuditSettings, table: str, column: str
) -> None:
    with as_administrator(sealed) as connection:
        query = f"SELECT max(rowid) FROM {table}"
        (last,) = connection.execute(query).fetchone()
        update = f"UPDATE {table} SET {column} = 'text' WHERE rowid = ?"
        connection.execute(update, (last,))
    assert not verify(sealed).verified


@pytest.mark.control("PR-24")
def test_verification_needs_no_secret_key(sealed: AuditSettings) -> None:
    for path in (sealed.kek_file, sealed.index_key_file, sealed.node_key_file):
        path.unlink()
    Path(sealed.keys_url.removeprefix("sqlite:///")).unlink()
    assert verify(sealed).verified


@pytest.mark.control("PR-14")
@pytest.mark.parametrize("lost", ["database", "tables", "trust", "bytes"])
def test_what_cannot_be_read_is_not_called_tampered(
    sealed: AuditSettings, tmp_path: Path, lost: str
) -> None:
    if lost == "trust":
        sealed.trust_file.unlink()
    elif lost == "bytes":
        database_file(sealed).write_bytes(b"this is no database " * 400)
    else:
        database_file(sealed).unlink()
    if lost == "tables":
        database_file(sealed).touch()
    with pytest.raises(UncheckableError):
        verify(sealed)


@pytest.mark.control("O1")
@pytest.mark.parametrize("table", sorted(metadata.tables))
def test_tables_reject_update_and_delete(sealed: AuditSettings, table: str) -> None:
    column = next(iter(metadata.tables[table].columns)).name
    before = count(sealed, table)
    with closing(sqlite3.connect(database_file(sealed))) as connection:
        for statement in (
            f"UPDATE {table} SET {column}={column}",
            f"DELETE FROM {table}",
        ):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                connection.execute(statement)
    assert count(sealed, table) == before > 0


def test_progress_is_shown_when_asked(
    sealed: AuditSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    verify(sealed, progress=True)
    assert "rows" in capsys.readouterr().err
