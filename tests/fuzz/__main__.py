"""``python -m tests.fuzz``: hostile bundles and DICOM files, nine to one.

Bundles are read in this process, DICOM files in the limited child that the service
uses. The run holds when nothing escapes the error tree, no input takes above 5 s and
the child stays within its memory. The data folder, where ``TRIVIUM_DATA`` names one,
gives real resources to mutate.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.fuzz.bundles import fuzz_bundles
from tests.fuzz.mutate import real_resources
from tests.fuzz.outcome import Fuzzed
from tests.fuzz.page import markdown

_FOLDERS = ("synthea-r4", "mimic-iv-fhir-demo")


def real_data() -> list[dict[str, Any]]:
    """Real resources, none where no data folder is named."""
    root = os.environ.get("TRIVIUM_DATA")
    folders = [Path(root) / name for name in _FOLDERS] if root else []
    return [item for f in folders if f.is_dir() for item in real_resources(f)]


def run(examples: int, seed: int, *, progress: bool) -> dict[str, Any]:
    """Both kinds of input: ``examples`` bundles and a ninth as many files."""
    # Here, so that a fault in one kind's imports does not hide the other's.
    from tests.fuzz.dicom_files import fuzz_dicom

    real = real_data()
    began = time.monotonic()
    bundles = fuzz_bundles(examples, seed, progress=progress, real=real)
    middle = time.monotonic()
    files: Fuzzed = fuzz_dicom(max(examples // 9, 1), seed, progress)
    ended = time.monotonic()
    return {
        "seed": seed,
        "date": datetime.now(UTC).date().isoformat(),
        "real_resources": len(real),
        "bundles": bundles.as_dict() | {"seconds": round(middle - began, 1)},
        "dicom": files.as_dict() | {"seconds": round(ended - middle, 1)},
        "holds": bundles.holds and files.holds,
    }


def main(argv: list[str] | None = None) -> int:
    """Run and print; 0 when everything held, 1 when something escaped."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--examples", type=int, default=2_000, help="bundles to read")
    parser.add_argument("--seed", type=int, default=1, help="draws all inputs")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--markdown", type=Path, help="also write the page here")
    options = parser.parse_args(argv)
    found = run(options.examples, options.seed, progress=not options.json)
    if options.markdown:
        options.markdown.write_text(markdown(found), encoding="utf-8")
    print(json.dumps(found, indent=2) if options.json else markdown(found))
    return 0 if found["holds"] else 1


if __name__ == "__main__":
    sys.exit(main())
