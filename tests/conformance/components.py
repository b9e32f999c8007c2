"""Which tests prove which component, and whether they pass.

    python -m tests.conformance.components [--json] [--markdown FILE] [PATH ...]

Runs every test with ``@pytest.mark.component("A7")`` and lists, for each component of
``components.csv``, its tests and which of them passed. A component fails that has no
passing test or any failing one; a skipped test proves nothing. A mark with the id of a
whole group ("A11" for A11a, A11b and A11c) is shown with each of its parts and counts
against them when it fails, but proves none of them: the part must be named. A mark that
is no id of the table is an error too. Exit codes: 0 all proved, 1 something is not.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

TABLE = Path(__file__).with_name("components.csv")
ROOT = Path(__file__).resolve().parents[2]
PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"
# Several reports of one test: the worst counts.
_RANK = {PASSED: 0, SKIPPED: 1, FAILED: 2}


@dataclass(frozen=True)
class Component:
    """One row of the table."""

    id: str
    name: str
    works: str

    @property
    def group(self) -> str:
        """The id without its letter."""
        return re.sub(r"[a-z]$", "", self.id)


def read_table(path: Path = TABLE) -> list[Component]:
    """The components in the order of the table."""
    with path.open(encoding="utf-8", newline="") as stream:
        return [Component(**row) for row in csv.DictReader(stream)]


@dataclass(eq=False)  # pytest keeps its plugins in sets
class Recorder:
    """A pytest plugin: keeps the marked tests, and how each of them ended.

    ``kinds`` are the names of the marks that it looks for.
    """

    marks: dict[str, set[str]] = field(default_factory=dict)
    outcomes: dict[str, str] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    kinds: tuple[str, ...] = ("component",)

    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        """Keep only marked tests, before any of them runs."""
        kept, left = [], []
        for item in items:
            ids = {
                str(a)
                for kind in self.kinds
                for m in item.iter_markers(kind)
                for a in m.args
            }
            if ids:
                self.marks[item.nodeid] = ids
            (kept if ids else left).append(item)
        config.hook.pytest_deselected(items=left)
        items[:] = kept

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A file that cannot be read may hide a marked test."""
        if report.failed:
            self.broken.append(report.nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Setup, call and teardown count alike; an expected failure is one."""
        known = self.outcomes.get(report.nodeid, PASSED)
        # A failure that the suite knows about is a failure all the same.
        found = FAILED if hasattr(report, "wasxfail") else report.outcome
        worse = max(known, found, key=_RANK.__getitem__)
        self.outcomes[report.nodeid] = worse


def proved(table: Sequence[Component], recorder: Recorder) -> dict[str, Any]:
    """The report: rows, what fails, marks nobody knows, files that do not load."""
    known = {c.id for c in table} | {c.group for c in table}
    rows = []
    for component in table:
        tests = {PASSED: [], FAILED: [], SKIPPED: [], "group": []}
        for test, ids in sorted(recorder.marks.items()):
            # A test that never ran (an interrupted run) proves nothing.
            outcome = recorder.outcomes.get(test, FAILED)
            if component.id in ids:
                tests[outcome].append(test)
            elif component.group in ids:
                tests[FAILED if outcome == FAILED else "group"].append(test)
        rows.append(
            {
                "id": component.id,
                "name": component.name,
                "works": component.works,
                **tests,
                "proved": bool(tests[PASSED]) and not tests[FAILED],
            }
        )
    marked = set().union(*recorder.marks.values()) if recorder.marks else set()
    return {
        "components": rows,
        "failing": [row["id"] for row in rows if not row["proved"]],
        "unknown": sorted(marked - known),
        "broken": sorted(recorder.broken),
    }


def run(
    paths: Sequence[str], root: Path = ROOT, kinds: tuple[str, ...] = ("component",)
) -> Recorder:
    """Run the marked tests below ``paths``; pytest's own output goes to stderr."""
    recorder = Recorder(kinds=kinds)
    arguments = [f"--rootdir={root}", "-q", "-p", "no:cacheprovider", *paths]
    kept, sys.stdout = sys.stdout, sys.stderr
    try:
        pytest.main(arguments, plugins=[recorder])
    finally:
        sys.stdout = kept
    return recorder


def table_text(report: dict[str, Any]) -> str:
    """The report for a reader."""
    lines = [f"{'id':<5} {'proved':<7} {'tests':>5}  name"]
    for row in report["components"]:
        state = "yes" if row["proved"] else "NO"
        lines.append(f"{row['id']:<5} {state:<7} {len(row[PASSED]):>5}  {row['name']}")
        lines += [f"      failed: {test}" for test in row[FAILED]]
    for name in ("failing", "unknown", "broken"):
        lines.append(f"{name}: {', '.join(report[name]) or 'none'}")
    return "\n".join(lines)


def page(report: dict[str, Any]) -> str:
    """The report as a Markdown document: what works means, and what proves it."""
    lines = [
        "# Components and the tests that prove them",
        "",
        "Written by `python -m tests.conformance.components --markdown FILE`, which "
        "runs every marked test and counts only what passed. A component is proved "
        "when at least one test marked with its id passes and none fails.",
        "",
        "| id | component | what works means | proved | passing tests |",
        "|---|---|---|---|---|",
    ]
    for row in report["components"]:
        names = "<br>".join(named(tests) for tests in by_module(row[PASSED]))
        state = "yes" if row["proved"] else "**no**"
        lines.append(
            f"| {row['id']} | {row['name']} | {row['works']} | {state} | {names} |"
        )
    failing = ", ".join(report["failing"]) or "none"
    return "\n".join([*lines, "", f"Not proved: {failing}.", ""])


def by_module(tests: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Names of test functions by their file; the cases of one are one name."""
    found: dict[str, dict[str, None]] = {}
    for test in tests:
        module, _, name = test.partition("::")
        found.setdefault(module, {})[name.partition("[")[0]] = None
    return [(module, list(names)) for module, names in found.items()]


def named(tests: tuple[str, list[str]]) -> str:
    """One file and its tests, as words."""
    module, names = tests
    said = ", ".join(name.removeprefix("test_").replace("_", " ") for name in names)
    return f"`{module.removeprefix('tests/')}`: {said}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print, and say by the exit code whether all is proved."""
    parser = argparse.ArgumentParser(
        "python -m tests.conformance.components",
        description="Run the tests that prove components; list what is not proved.",
    )
    parser.add_argument("paths", nargs="*", default=["tests"], help="tests to look at")
    parser.add_argument("--json", action="store_true", help="JSON instead of a table")
    parser.add_argument(
        "--markdown", type=Path, metavar="FILE", help="also write the page there"
    )
    chosen = parser.parse_args(arguments)
    report = proved(read_table(), run(chosen.paths))
    if chosen.markdown:
        chosen.markdown.write_text(page(report), encoding="utf-8")
    print(json.dumps(report, indent=2) if chosen.json else table_text(report))
    clean = not (report["failing"] or report["unknown"] or report["broken"])
    return 0 if clean else 1


if __name__ == "__main__":
    sys.exit(main())
