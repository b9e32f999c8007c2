"""Run every benchmark, print one table, write one file: ``make bench``.

Fails when a benchmark fails or an entry that a bar names is absent; a bar that does not
hold is printed as such, and fails the run with ``--strict``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm

HERE = Path(__file__).resolve().parent
FIELDS = ("name", "value", "unit", "bar", "holds", "command")
# Entries that must be there, whatever a benchmark chooses to print.
BARS = frozenset(
    {
        "audit.single_commit_ratio",
        "audit.group_commit_ratio",
        "audit.group_to_single_plain_ratio",
        "audit.verify_cpu_ratio",
        "audit.cpu_per_record_ratio",
        "queue.filesystem_round_trip_ms",
        "dicom.load_ratio",
        "hook.web_memory_has_torch",
        "fhir.bundle_ratio",
    }
)


def modules() -> list[str]:
    """Names of the benchmark modules, in order."""
    return sorted(path.stem for path in HERE.glob("bench_*.py"))


def run_one(name: str) -> list[dict[str, Any]]:
    """Entries of one benchmark.

    Raises:
        RuntimeError: it failed, or printed something else than its entries.
    """
    command = [sys.executable, "-m", f"tests.benchmarks.{name}", "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{name} ended with {done.returncode}")
    entries: list[dict[str, Any]] = json.loads(done.stdout)
    for entry in entries:
        if set(entry) != set(FIELDS):
            raise RuntimeError(f"{name}: an entry has {sorted(entry)}")
    return entries


def absent(entries: list[dict[str, Any]]) -> list[str]:
    """Entries that a bar names and that nobody measured."""
    return sorted(BARS - {entry["name"] for entry in entries})


def missed(entries: list[dict[str, Any]]) -> list[str]:
    """Bars that do not hold, with their figures."""
    return [
        f"{e['name']} = {e['value']} {e['unit']}, bar {e['bar']}"
        for e in entries
        if e["bar"] is not None and not e["holds"]
    ]


def table(entries: list[dict[str, Any]]) -> str:
    """The entries as aligned text."""
    lines = [f"{'benchmark':44s} {'value':>12s} {'unit':10s} {'bar':12s} holds"]
    for entry in entries:
        bar = "" if entry["bar"] is None else str(entry["bar"])
        holds = "" if entry["bar"] is None else ("yes" if entry["holds"] else "NO")
        value = f"{entry['value']:.4g}"
        lines.append(
            f"{entry['name']:44s} {value:>12s} {entry['unit']:10s} {bar:12s} {holds}"
        )
    return "\n".join(lines)


def markdown(entries: list[dict[str, Any]]) -> str:
    """The same table as a page of the documentation."""
    lines = [
        "# Benchmarks",
        "",
        "Written by `python -m tests.benchmarks --markdown docs/benchmarks.md`; `make "
        "bench` measures again and",
        "writes `build/bench.json`. Medians of one run on a shared machine with "
        f"{os.cpu_count()} cores and no GPU:",
        "read ratios and rough sizes, not milliseconds.",
        "",
        "| figure | value | unit | bar | holds |",
        "|---|---|---|---|---|",
    ]
    for entry in entries:
        bar = "" if entry["bar"] is None else entry["bar"]
        holds = "" if entry["bar"] is None else ("yes" if entry["holds"] else "**no**")
        lines.append(
            f"| {entry['name']} | {entry['value']:.4g} | {entry['unit']} "
            f"| {bar} | {holds} |"
        )
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run, print, write; 1 when something is amiss."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("build/bench.json"))
    parser.add_argument("--strict", action="store_true", help="fail on a missed bar")
    parser.add_argument("--markdown", type=Path, help="also write a page here")
    options = parser.parse_args()
    entries: list[dict[str, Any]] = []
    for name in tqdm(modules(), desc="benchmarks", file=sys.stderr):
        entries += run_one(name)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(entries, indent=2) + "\n")
    if options.markdown:
        options.markdown.write_text(markdown(entries))
    print(table(entries))
    for name in absent(entries):
        print(f"absent: {name}", file=sys.stderr)
    for line in missed(entries):
        print(f"bar missed: {line}", file=sys.stderr)
    failed = absent(entries) or (options.strict and missed(entries))
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
