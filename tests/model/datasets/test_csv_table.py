"""Streaming CSV: what reads the same, and what is refused and where."""

from __future__ import annotations

import csv
import gzip
import io
from collections import Counter
from pathlib import Path

import pytest

from model.datasets import csv_table
from model.datasets.csv_table import (
    Row,
    find_table,
    header_of,
    need_table,
    read_rows,
)
from model.errors import DatasetFileError

TEXT = 'a,b,c\n1,"x\n,""y""",3\n\n4,z,6\n'


def table(tmp_path: Path, data: bytes | str, name: str = "t.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def cells(path: Path, *names: str) -> list[tuple[str, ...]]:
    return [row.cells for row in read_rows(path, names)]


def fault(path: Path, *names: str) -> DatasetFileError:
    with pytest.raises(DatasetFileError) as caught:
        list(read_rows(path, names))
    return caught.value


def row(**named: str) -> Row:
    return Row("t.csv", 7, tuple(named.values()), tuple(named))


def test_columns_are_found_by_name_in_any_order(tmp_path: Path) -> None:
    assert cells(table(tmp_path, TEXT), "c", "a") == [("3", "1"), ("6", "4")]
    assert header_of(tmp_path / "t.csv") == ("a", "b", "c")


@pytest.mark.parametrize(
    "data",
    [
        b"\xef\xbb\xbf" + TEXT.encode(),
        gzip.compress(TEXT.encode()),
        gzip.compress(b"\xef\xbb\xbf" + TEXT.encode()),
        TEXT.replace("\n", "\r\n").encode(),
    ],
)
def test_marks_gzip_and_line_ends_change_nothing(tmp_path: Path, data: bytes) -> None:
    assert cells(table(tmp_path, data), "a", "c") == [("1", "3"), ("4", "6")]


def test_a_quoted_cell_spans_lines_and_lines_count_on(tmp_path: Path) -> None:
    first, second = read_rows(table(tmp_path, TEXT), ("b",))
    assert first.text("b") == 'x\n,"y"' and (first.line, second.line) == (2, 5)


def test_only_rows_that_are_asked_for_are_looked_at(tmp_path: Path) -> None:
    dropped: Counter[str] = Counter()
    rows = read_rows(table(tmp_path, TEXT), ("c",), keep=("a", {"4"}), dropped=dropped)
    assert [found.cells for found in rows] == [("6",)] and dropped == {"1": 1}
    assert [
        r.cells for r in read_rows(tmp_path / "t.csv", ("c",), keep=("a", ()))
    ] == []


def test_optional_columns_are_empty_where_they_are_not(tmp_path: Path) -> None:
    first, _ = read_rows(table(tmp_path, TEXT), ("a",), ("c", "d"))
    assert first.text("c") == "3" and first.text("d") == ""


@pytest.mark.parametrize(
    ("data", "line", "column", "reason"),
    [
        (b"a,b\n1,2\n", 1, "c", "missing from the header"),
        (b"a,c,c\n1,2,3\n", 1, "c", "stands twice"),
        (b"a,b,c\n1,2\n", 2, None, "has 2 cells, the header 3"),
        (b"a,b,c\n1,2,3\n1,2,3,SECRET\n", 3, None, "has 4 cells"),
        (b"", 1, None, "is empty"),
        (b"a,b,c\n\xff\xfeSECRET,2,3\n", 2, None, "is not UTF-8"),
        (b'a,b,c\n1,"SECRET,3\n', None, None, "is not CSV"),
        (b'a,b,c\n1,"SECRET" x,3\n', 2, None, "is not CSV"),
        (gzip.compress(TEXT.encode() * 900)[:-12], None, None, "ends early"),
        (gzip.compress(TEXT.encode())[:3], None, None, "ends early"),
        (b"\x1f\x8bSECRET that is no gzip", 1, None, "is damaged"),
    ],
)
def test_damage_is_an_error_that_names_its_place(
    tmp_path: Path, data: bytes, line: int | None, column: str | None, reason: str
) -> None:
    error = fault(table(tmp_path, data), "a", "c")
    assert error.file == "t.csv" and reason in error.reason
    assert line is None or error.line == line
    assert error.column == column
    assert "SECRET" not in str(error)


def test_a_filter_needs_its_column(tmp_path: Path) -> None:
    with pytest.raises(DatasetFileError, match="column d"):
        list(read_rows(table(tmp_path, TEXT), ("a",), keep=("d", {"1"})))


def test_no_line_and_no_cell_can_exhaust_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_table, "MAX_LINE", 50)
    error = fault(table(tmp_path, "a,b\n1," + "x" * 60 + "\n"), "a")
    assert error.line == 2 and "too long a line" in error.reason
    before = csv.field_size_limit(40)
    monkeypatch.setattr(csv_table, "MAX_CELL", 40)
    try:
        wide = '1,"' + "x" * 30 + "\n" + "y" * 30 + '"\n'
        assert "is not CSV" in fault(table(tmp_path, "a,b\n" + wide), "a").reason
    finally:
        csv.field_size_limit(before)


def test_the_limit_of_a_cell_leaves_room_for_a_note(tmp_path: Path) -> None:
    note = "x" * 300_000
    assert cells(table(tmp_path, f"a,b\n1,{note}\n"), "b") == [(note,)]


def test_plain_and_gzip_are_found_and_plain_wins(tmp_path: Path) -> None:
    assert find_table(tmp_path, "t.csv") is None
    with pytest.raises(DatasetFileError, match="neither plain nor"):
        need_table(tmp_path, "t.csv")
    table(tmp_path, gzip.compress(TEXT.encode()), "t.csv.gz")
    assert need_table(tmp_path, "t.csv").name == "t.csv.gz"
    table(tmp_path, TEXT)
    assert need_table(tmp_path, "t.csv").name == "t.csv"


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetFileError, match="gone.csv: cannot be opened"):
        header_of(tmp_path / "gone.csv")


def test_cells_are_read_by_kind() -> None:
    found = row(key="007", number="1.50", time="2150-03-10 08:00:00", day="2150-03-10")
    assert found.key("key") == "7" and str(found.number("number")) == "1.50"
    assert found.time("time").isoformat() == "2150-03-10T08:00:00+00:00"
    assert found.time("day").isoformat() == "2150-03-10T00:00:00+00:00"
    assert found.day("day").isoformat() == "2150-03-10"
    assert row(d="2150-03-10 00:00:00").day("d") == found.day("day")
    assert row(w="3.0").whole("w") == 3
    empty = row(x=" ")
    assert empty.optional_key("x") is None and empty.number("x") is None
    assert empty.time("x") is None and empty.day("x") is None
    assert empty.whole("x") is None


@pytest.mark.parametrize(
    ("read", "cell", "reason"),
    [
        ("needed", "", "is empty"),
        ("key", "", "is empty"),
        ("key", "12a", "no identifier"),
        ("key", "-1", "no identifier"),
        ("key", "../12", "no identifier"),
        ("number", "1,5", "is no number"),
        ("number", "nan", "no number of a measurement"),
        ("number", "Infinity", "no number of a measurement"),
        ("number", "1e400", "no number of a measurement"),
        ("whole", "1.5", "no whole number"),
        ("time", "2150-02-30 08:00:00", "is no date"),
        ("time", "10.03.2150", "is no date"),
        ("day", "2150-13-01", "is no date"),
    ],
)
def test_a_bad_cell_names_its_column_and_not_its_content(
    read: str, cell: str, reason: str
) -> None:
    with pytest.raises(DatasetFileError, match=reason) as caught:
        getattr(row(value=cell), read)("value")
    error = caught.value
    assert (error.file, error.line, error.column) == ("t.csv", 7, "value")
    assert not cell or cell not in str(error)


def test_reading_is_lazy(tmp_path: Path) -> None:
    many = io.StringIO()
    many.write("a,b\n")
    many.writelines(f"{n},x\n" for n in range(5_000))
    many.write("broken\n")
    rows = read_rows(table(tmp_path, many.getvalue()), ("a",))
    assert next(rows).text("a") == "0"
    rows.close()
