"""The picture of the film report: bars and points, never a film."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib.axes import Axes  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

_OTHERS = (("pixels", "o"), ("rim", "s"), ("person", "^"))


def draw(path: Path, report: Mapping[str, Any]) -> None:
    """AUROC per finding with intervals beside baselines; pointing beside chance.

    Args:
        path: PNG to write.
        report: Of ``film_report``.
    """
    figure = Figure(figsize=(10, 7), dpi=90, layout="constrained")
    grid = figure.add_gridspec(1, 2, width_ratios=(2, 1))
    _findings(figure.add_subplot(grid[0, 0]), report["sources"])
    _pointing(figure.add_subplot(grid[0, 1]), report["pointing"])
    figure.savefig(path)


def _findings(axes: Axes, sources: Mapping[str, Any]) -> None:
    names, rows = [], []
    for source, found in sources.items():
        words = source.split()
        short = words[-1] if words[0] == "NLM" else words[0]
        for name, row in found["findings"].items():
            names.append(f"{name.replace('_', ' ')} ({short})")
            rows.append(row)
    places = list(range(len(names)))[::-1]
    values = [row["auroc"]["value"] for row in rows]
    below = [_reach(row["auroc"], "low") for row in rows]
    above = [_reach(row["auroc"], "high") for row in rows]
    axes.barh(places, values, xerr=[below, above], color="#9ecae1", label="encoder")
    for other, marker in _OTHERS:
        found_at = [
            (row["baselines"][other], place)
            for row, place in zip(rows, places)
            if row["baselines"].get(other) is not None
        ]
        if found_at:
            x, y = zip(*found_at)
            axes.plot(x, y, marker, color="#333333", markersize=4, label=other)
    axes.axvline(0.5, color="#999999", linewidth=0.8)
    axes.set_yticks(places, names, fontsize=8)
    axes.set_xlim(0.4, 1.0)
    axes.set_xlabel("AUROC on test patients")
    axes.legend(fontsize=8, loc="lower right")


def _reach(figure: Mapping[str, Any], side: str) -> float:
    """From the value to one end of its interval; 0 where few draws left no end."""
    if figure[side] is None:
        return 0.0
    distance = float(figure["value"]) - float(figure[side])
    return max(0.0, distance if side == "low" else -distance)


def _pointing(axes: Axes, found: Mapping[str, Any]) -> None:
    if not found["n"]:
        axes.set_axis_off()
        return
    labels = list(found["per_finding"])
    places = list(range(len(labels)))[::-1]
    rows = [found["per_finding"][label] for label in labels]
    axes.barh(places, [row["hit"] for row in rows], color="#fdae6b", label="map")
    chance = [row["lung_share"] for row in rows]
    if None not in chance:
        axes.plot(
            chance, places, "o", color="#333333", markersize=4, label="lung share"
        )
    axes.set_yticks(places, labels, fontsize=8)
    axes.set_xlim(0, 1)
    axes.set_xlabel("pointing game: hit rate")
    axes.legend(fontsize=8, loc="lower right")
