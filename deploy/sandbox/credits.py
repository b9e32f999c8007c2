"""CREDITS.tsv of a store: whose work the imported cases are, and under which licence.

It stays beside the resources and never goes into them: where a case was published is
one of the things that predict its label.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import Any

_COLUMNS = ("licence", "credit", "doi", "url")
_HEAD = (
    "# Imported cases, one a line. Changes: image converted to DICOM, note masked, "
    "values coded, all calendar dates made up (import day given).\n"
    "# Keep the terms of each licence; NC means not for commercial use.\n"
    "patient\timport_day\t" + "\t".join(_COLUMNS) + "\n"
)


def add_credits(folder: Path, rows: Iterable[dict[str, Any]], day: date) -> None:
    """Add or replace the lines of these cases in the store's CREDITS.tsv."""
    path = folder / "CREDITS.tsv"
    lines: dict[str, str] = {}
    if path.exists():
        body = path.read_text(encoding="utf-8").removeprefix(_HEAD)
        lines = {line.split("\t")[0]: line for line in body.splitlines()}
    for row in rows:
        cells = [" ".join(str(row.get(name) or "").split()) for name in _COLUMNS]
        lines[row["case_id"]] = "\t".join([row["case_id"], day.isoformat(), *cells])
    body = "".join(f"{lines[name]}\n" for name in sorted(lines))
    path.write_text(_HEAD + body, encoding="utf-8")
