"""Large CSV files, row by row, with columns found by their header.

Rules this module enforces (harm in brackets):

- Columns are resolved by name: a release that moves a column reads the same, one that
  lacks a column is refused (a neighbour's numbers under the wrong name).
- A file that ends early, is not UTF-8 or has a row of another width is an error with
  file and line, never a shorter data set (silent loss).
- Errors hold names and line numbers, never the content of a cell (patient data in
  logs).
- One line and one cell have a largest size, so a file cannot exhaust the memory.

Plain and gzip files read alike; a byte order mark is dropped; quoted cells may span
lines. The file is never held whole.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import re
import zlib
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import IO

from model.errors import DatasetFileError

GZIP_SUFFIX = ".gz"
# A discharge summary is some 60,000 characters; ten times that is no cell of ours.
MAX_CELL = 1 << 20
MAX_LINE = 1 << 21
_GZIP_MAGIC = b"\x1f\x8b"
_LARGEST = Decimal(10**12)
_DIGITS = re.compile(r"[0-9]{1,18}")
_TIMES = ("%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M")
_UNREADABLE = (OSError, EOFError, zlib.error)


@dataclass(frozen=True, slots=True)
class Row:
    """One record: the cells of the asked-for columns, and where it stands."""

    file: str
    line: int
    cells: tuple[str, ...]
    columns: tuple[str, ...]

    def text(self, column: str) -> str:
        """The cell without outer white space; "" where it, or its column, is empty."""
        try:
            return self.cells[self.columns.index(column)].strip()
        except ValueError:
            return ""

    def fault(self, column: str, reason: str) -> DatasetFileError:
        """An error that names this row's place and nothing of its content."""
        return DatasetFileError(self.file, reason, line=self.line, column=column)

    def needed(self, column: str) -> str:
        """The cell; an error where it is empty."""
        found = self.text(column)
        if not found:
            raise self.fault(column, "is empty")
        return found

    def key(self, column: str) -> str:
        """An identifier made of digits alone, without leading zeros."""
        found = self.needed(column)
        if not _DIGITS.fullmatch(found):
            raise self.fault(column, "is no identifier (digits)")
        return str(int(found))

    def optional_key(self, column: str) -> str | None:
        """An identifier, None where the cell is empty."""
        return self.key(column) if self.text(column) else None

    def number(self, column: str) -> Decimal | None:
        """A finite decimal number, None where the cell is empty."""
        found = self.text(column)
        if not found:
            return None
        try:
            number = Decimal(found)
        except InvalidOperation as error:
            raise self.fault(column, "is no number") from error
        if not number.is_finite() or abs(number) > _LARGEST:
            raise self.fault(column, "is no number of a measurement")
        return number

    def whole(self, column: str) -> int | None:
        """A whole number, also where it is written as 1.0; None where empty."""
        number = self.number(column)
        if number is None:
            return None
        if number != number.to_integral_value():
            raise self.fault(column, "is no whole number")
        return int(number)

    def time(self, column: str) -> datetime | None:
        """A moment, None where the cell is empty.

        The sources shift their dates and name no time zone: all of them are tagged
        UTC, which keeps differences right and means no place.
        """
        found = self.text(column)
        if not found:
            return None
        for form in _TIMES:
            try:
                return datetime.strptime(found, form).replace(tzinfo=UTC)
            except ValueError:
                continue
        day = self.day(column)
        return datetime(day.year, day.month, day.day, tzinfo=UTC) if day else None

    def day(self, column: str) -> date | None:
        """A calendar day, None where the cell is empty."""
        found = self.text(column)
        if not found:
            return None
        try:
            # MIMIC-IV 2.0 writes midnight behind its dates.
            return date.fromisoformat(found.removesuffix(" 00:00:00"))
        except ValueError as error:
            raise self.fault(column, "is no date") from error


def find_table(folder: Path, name: str) -> Path | None:
    """``name`` (ending in .csv) below ``folder``, plain or gzip; plain wins."""
    for candidate in (folder / name, folder / f"{name}{GZIP_SUFFIX}"):
        if candidate.is_file():
            return candidate
    return None


def need_table(folder: Path, name: str) -> Path:
    """As :func:`find_table`.

    Raises:
        DatasetFileError: neither ``name`` nor ``name.gz`` is there.
    """
    found = find_table(folder, name)
    if found is None:
        raise DatasetFileError(name, "is not there, neither plain nor as .gz")
    return found


def header_of(path: Path) -> tuple[str, ...]:
    """The column names of a file, in its order."""
    with _lines(path) as lines:
        return _header(path.name, csv.reader(lines, strict=True))


def read_rows(
    path: Path,
    required: Sequence[str],
    optional: Sequence[str] = (),
    *,
    keep: tuple[str, Collection[str]] | None = None,
    dropped: Counter[str] | None = None,
) -> Iterator[Row]:
    """Stream the rows of a CSV file.

    Args:
        path: plain or gzip file; the content decides, not the name.
        required: columns that must be in the header.
        optional: columns that are read where they exist.
        keep: a column and the values to keep; other rows are dropped before anything
            else of them is looked at, which is what makes 158 million rows readable.
        dropped: counts the dropped rows by the value of that column.

    Yields:
        A row with the cells of ``required`` and the ``optional`` ones that exist.

    Raises:
        DatasetFileError: missing or doubled column, row of another width, damaged or
            truncated file, a cell or line beyond the limits.
    """
    with _lines(path) as lines:
        reader = csv.reader(lines, strict=True)
        header = _header(path.name, reader)
        for column in (*required, *((keep[0],) if keep else ())):
            if column not in header:
                raise DatasetFileError(
                    path.name, "is missing from the header", line=1, column=column
                )
        columns = (*required, *(name for name in optional if name in header))
        places = tuple(header.index(column) for column in columns)
        gate = header.index(keep[0]) if keep else -1
        wanted: Collection[str] = keep[1] if keep else ()
        line = reader.line_num + 1
        for cells in _guarded(path.name, reader):
            if not cells:
                line = reader.line_num + 1
                continue
            if len(cells) != len(header):
                raise DatasetFileError(
                    path.name,
                    f"has {len(cells)} cells, the header {len(header)}",
                    line=line,
                )
            if gate < 0 or cells[gate] in wanted:
                found = tuple(cells[place] for place in places)
                yield Row(path.name, line, found, columns)
            elif dropped is not None:
                dropped[cells[gate]] += 1
            line = reader.line_num + 1


@contextmanager
def _lines(path: Path) -> Iterator[Iterator[str]]:
    """The file's lines as text, each of at most ``MAX_LINE`` bytes."""
    # The limit is one of the whole process; it only ever grows here.
    csv.field_size_limit(max(csv.field_size_limit(), MAX_CELL))
    try:
        raw: IO[bytes] = path.open("rb")
    except OSError as error:
        raise DatasetFileError(path.name, "cannot be opened") from error
    with raw:
        packed = raw.read(2) == _GZIP_MAGIC
        raw.seek(0)
        # Buffered: gzip's own readline is slow.
        data = io.BufferedReader(gzip.GzipFile(fileobj=raw)) if packed else raw
        yield _short_lines(path.name, data)


def _short_lines(name: str, data: IO[bytes]) -> Iterator[str]:
    number = 0
    while True:
        number += 1
        try:
            line = data.readline(MAX_LINE)
        except _UNREADABLE as error:
            reason = "is damaged or ends early"
            raise DatasetFileError(name, reason, line=number) from error
        if not line:
            return
        if len(line) >= MAX_LINE and not line.endswith(b"\n"):
            raise DatasetFileError(name, "is too long a line", line=number)
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        try:
            yield line.decode()
        except UnicodeDecodeError as error:
            raise DatasetFileError(name, "is not UTF-8", line=number) from error


def _guarded(name: str, reader: Iterator[list[str]]) -> Iterator[list[str]]:
    """Rows of a csv reader, its own complaints turned into ours."""
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            number = getattr(reader, "line_num", None)
            reason = "is not CSV: a quote left open, or a cell too long"
            raise DatasetFileError(name, reason, line=number) from error
        yield cells


def _header(name: str, reader: Iterator[list[str]]) -> tuple[str, ...]:
    first = next(_guarded(name, reader), None)
    if not first:
        raise DatasetFileError(name, "is empty", line=1)
    header = tuple(cell.strip() for cell in first)
    for place, column in enumerate(header):
        if column and column in header[:place]:
            raise DatasetFileError(name, "stands twice", line=1, column=column)
    return header
