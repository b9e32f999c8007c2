"""``trivium-model datasets check LAYOUT FOLDER``: is the folder what we take it for?"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Parser = argparse.ArgumentParser
Arguments = argparse.Namespace

# Named here so that --help needs no loader; a test holds the two lists together.
LAYOUT_NAMES = (
    *("mimic-iv", "mimic-cxr-jpg", "chexpert", "medqa", "mimic-cdm", "vqa-rad"),
    "trimodal",
)


def add_datasets_options(parser: Parser) -> None:
    """Options of ``trivium-model datasets``."""
    parser.description = (
        "Read a local copy of a data set through its loader and print what is in it: "
        "rows, patients, what is used and what is skipped, by reason. A folder that "
        "breaks its layout ends in one line with file, line and column, exit code 2. "
        "No content of a patient's record is printed."
    )
    parser.add_argument("action", choices=("check",), help="what to do")
    parser.add_argument("layout", choices=LAYOUT_NAMES, help="layout of the folder")
    parser.add_argument("folder", type=Path, help="the data set's own folder")
    parser.add_argument("--json", action="store_true", help="JSON instead of a table")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def datasets(arguments: Arguments) -> int:
    """Check one folder; prints a table or JSON."""
    from model.datasets.checks import check

    counts = check(arguments.layout, arguments.folder, progress=not arguments.quiet)
    if arguments.json:
        print(json.dumps(counts, indent=2))
        return 0
    rows = list(_flat(counts))
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {value}")
    return 0


def _flat(counts: dict[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """Lines of a table: the path of each number, and the number."""
    for name, value in counts.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{name} / ")
        else:
            yield f"{before}{name}", str(value)
