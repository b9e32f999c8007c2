"""What the benchmarks share: one entry's form and the printing of a list."""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from typing import Any


def entry(
    name: str,
    value: float,
    unit: str,
    module: str,
    *,
    bar: str | None = None,
    holds: bool | None = None,
) -> dict[str, Any]:
    """One measured figure with the command that measures it again."""
    return {
        "name": name,
        "value": round(value, 4),
        "unit": unit,
        "bar": bar,
        "holds": holds,
        "command": f"python -m tests.benchmarks.{module} --json",
    }


def median(values: list[float]) -> float:
    """The middle one: a shared machine's slowest runs say nothing."""
    return statistics.median(values)


def show(run: Callable[[], list[dict[str, Any]]], description: str | None) -> None:
    """Run and print, as text or as JSON."""
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print a JSON list")
    options = parser.parse_args()
    entries = run()
    if options.json:
        print(json.dumps(entries))
        return
    for one in entries:
        print(f"{one['name']:44s} {one['value']:>12} {one['unit']}")
