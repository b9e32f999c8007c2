"""The benchmark runner fails when a figure that a bar names was not measured."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.benchmarks.__main__ import BARS, absent, markdown, missed, table
from tests.benchmarks.measure import entry, median


def figure(name: str, value: float = 1.0, **more: Any) -> dict[str, Any]:
    return entry(name, value, "x", "bench_none", **more)


def test_every_named_bar_must_have_been_measured() -> None:
    entries = [figure(name) for name in BARS]
    assert absent(entries) == []
    assert absent(entries[1:]) == [entries[0]["name"]]


def test_a_bar_that_does_not_hold_is_named_with_its_figure() -> None:
    fine = figure("a", bar=">= 1", holds=True)
    short = figure("b", 0.5, bar=">= 1", holds=False)
    assert missed([fine, short, figure("c")]) == ["b = 0.5 x, bar >= 1"]
    assert "NO" in table([short]) and "**no**" in markdown([short])


def test_the_middle_of_an_even_number_is_between_two() -> None:
    assert median([4.0, 1.0, 2.0, 3.0]) == 2.5


def test_a_benchmark_prints_a_list_of_entries(repository: Path) -> None:
    run = "from tests.benchmarks.measure import entry, show;"
    run += "show(lambda: [entry('n', 1.5, 'ms', 'm')], 'Words.')"
    done = subprocess.run(
        [sys.executable, "-c", run, "--json"],
        cwd=repository,
        capture_output=True,
        text=True,
        check=True,
    )
    (only,) = json.loads(done.stdout)
    assert set(only) == {"name", "value", "unit", "bar", "holds", "command"}
