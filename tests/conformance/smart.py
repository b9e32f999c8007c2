"""Which tests hold us to the SMART checklist and to the list of attacks, and do they.

    python -m tests.conformance.smart [--json] [--markdown FILE] [PATH ...]

Runs every test with ``@pytest.mark.smart("S9")`` or ``@pytest.mark.ssrf("X16")``. A
line holds when at least one test with its id passes and none fails; a skipped test
proves nothing. Exit codes: 0 everything holds, 1 something does not, a mark is no id of
the tables, or a test file does not load.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.conformance.components import (
    PASSED,
    ROOT,
    Recorder,
    by_module,
    named,
    proved,
    read_table,
    run,
)

HERE = Path(__file__).parent
TABLES = {"smart": HERE / "smart.csv", "ssrf": HERE / "ssrf.csv"}
PATHS = ("tests/fhir_adapters", "tests/cds_hooks")
TITLES = {
    "smart": "The SMART App Launch 2.2 checklist",
    "ssrf": "Attacks that must fail",
}


def report_of(recorder: Recorder) -> dict[str, Any]:
    """The outcome: the SMART lines at the top, the attacks below ``ssrf``."""
    parts = {kind: _part(TABLES[kind], recorder) for kind in TABLES}
    known = {row["id"] for part in parts.values() for row in part["lines"]}
    marked = set().union(*recorder.marks.values()) if recorder.marks else set()
    return {
        **parts["smart"],
        "ssrf": parts["ssrf"],
        "unknown": sorted(marked - known),
        "broken": sorted(recorder.broken),
    }


def _part(table: Path, recorder: Recorder) -> dict[str, Any]:
    rows = proved(read_table(table), recorder)["components"]
    failing = [row["id"] for row in rows if not row["proved"]]
    return {
        "total": len(rows),
        "passed": len(rows) - len(failing),
        "failing": failing,
        "tests": {row["id"]: row[PASSED] for row in rows},
        "lines": rows,
    }


def table_text(report: dict[str, Any]) -> str:
    """The outcome for a reader at a terminal."""
    lines = []
    for part in (report, report["ssrf"]):
        for row in part["lines"]:
            state = "yes" if row["proved"] else "NO"
            count = len(row[PASSED])
            lines.append(f"{row['id']:<4} {state:<4} {count:>4}  {row['works']}")
            lines += [f"          failed: {test}" for test in row["failed"]]
        lines.append(f"{part['passed']} of {part['total']} hold")
    for name in ("unknown", "broken"):
        lines.append(f"{name}: {', '.join(report[name]) or 'none'}")
    return "\n".join(lines)


def page(report: dict[str, Any]) -> str:
    """The outcome as a Markdown document."""
    lines = [
        "# SMART App Launch, and the attacks that must fail",
        "",
        "Written by `python -m tests.conformance.smart --markdown FILE`, which runs "
        "every marked test. A line holds when at least one test with its id passes "
        "and none fails.",
    ]
    for kind, part in (("smart", report), ("ssrf", report["ssrf"])):
        lines += [
            "",
            f"## {TITLES[kind]}",
            "",
            f"{part['passed']} of {part['total']} lines hold. "
            f"Not held: {', '.join(part['failing']) or 'none'}.",
            "",
            "| id | about | rule, in our words | holds | tests that pass |",
            "|---|---|---|---|---|",
        ]
        for row in part["lines"]:
            tests = "<br>".join(named(module) for module in by_module(row[PASSED]))
            state = "yes" if row["proved"] else "**no**"
            lines.append(
                f"| {row['id']} | {row['name']} | {row['works']} | {state} | {tests} |"
            )
    return "\n".join([*lines, ""])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print, and say by the exit code whether every line holds."""
    parser = argparse.ArgumentParser(
        "python -m tests.conformance.smart",
        description="Run the tests of the SMART checklist and of the attack list.",
    )
    parser.add_argument("paths", nargs="*", default=list(PATHS), help="where to look")
    parser.add_argument("--json", action="store_true", help="JSON instead of a table")
    parser.add_argument(
        "--markdown", type=Path, metavar="FILE", help="also write the page there"
    )
    chosen = parser.parse_args(arguments)
    report = report_of(run(chosen.paths, ROOT, tuple(TABLES)))
    if chosen.markdown:
        chosen.markdown.write_text(page(report), encoding="utf-8")
    print(json.dumps(report, indent=2) if chosen.json else table_text(report))
    bad = (
        report["failing"] + report["ssrf"]["failing"],
        report["unknown"],
        report["broken"],
    )
    return 1 if any(bad) else 0


if __name__ == "__main__":
    sys.exit(main())
