"""``python -m fhir_adapters FOLDER [--report|--json]``: read a folder of FHIR data.

Every patient becomes one record at the time of the last Observation, and the table
says what was used and why the rest was not.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from fhir_adapters.errors import AdapterError
from fhir_adapters.folder import read_folder
from fhir_adapters.folder_report import FolderReport, as_json, as_table, measure


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m fhir_adapters",
        description="Turn a folder of FHIR R4 data into patient records and say what "
        "was used. Reads transaction or collection Bundles (*.json, *.json.gz) and "
        "NDJSON (*.ndjson, *.ndjson.gz).",
    )
    parser.add_argument("folder", type=Path, help="folder with FHIR files")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--report", action="store_true", help="print a table (default)")
    form.add_argument("--json", action="store_true", help="print one JSON object")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status (0 read, 2 could not read)."""
    arguments = _arguments(argv)
    try:
        report: FolderReport = measure(read_folder(arguments.folder))
    except AdapterError as error:
        print(f"cannot read the folder: {error}", file=sys.stderr)
        return 2
    print(as_json(report) if arguments.json else as_table(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
