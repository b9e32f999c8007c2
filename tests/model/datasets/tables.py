"""Writes small CSV files in a published column order, and damages them on purpose."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path


@dataclass(frozen=True)
class Table:
    """A file: its name below the data set, its header and rows by column name."""

    name: str
    header: tuple[str, ...]
    rows: tuple[dict[str, str], ...]

    def text(self) -> str:
        """The file as CSV, cells quoted where they must be."""
        out = io.StringIO(newline="")
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(self.header)
        for row in self.rows:
            assert row.keys() <= set(self.header), row.keys() - set(self.header)
            writer.writerow([row.get(column, "") for column in self.header])
        return out.getvalue()

    def set(self, row: int, **cells: str) -> Table:
        """The table with other cells in one row."""
        rows = list(self.rows)
        rows[row] = {**rows[row], **cells}
        return replace(self, rows=tuple(rows))

    def without(self, column: str) -> Table:
        """The table without a column."""
        header = tuple(name for name in self.header if name != column)
        rows = tuple({k: v for k, v in row.items() if k != column} for row in self.rows)
        return replace(self, header=header, rows=rows)

    def reordered(self) -> Table:
        """The table with its columns in the opposite order."""
        return replace(self, header=self.header[::-1])

    def plus(self, **cells: str) -> Table:
        """The table with one more row."""
        return replace(self, rows=(*self.rows, cells))


Change = Callable[[Table], Table]


def write(folder: Path, tables: Sequence[Table], *, gz: bool = False) -> Path:
    """Write all tables, plain or as gzip."""
    for table in tables:
        path = folder / (f"{table.name}.gz" if gz else table.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        data = table.text().encode()
        path.write_bytes(gzip.compress(data, mtime=0) if gz else data)
    return folder


def changed(tables: Sequence[Table], name: str, change: Change) -> list[Table]:
    """The tables with one of them changed."""
    assert any(table.name == name for table in tables)
    return [change(table) if table.name == name else table for table in tables]


def columns(text: str) -> tuple[str, ...]:
    """Column names from a comma-separated line."""
    return tuple(text.replace("\n", "").replace(" ", "").split(","))
