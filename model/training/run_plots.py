"""Loss curves of a run folder: one picture per stage, and one of all stages.

Dots are the training loss, the line with squares the held-out loss where a stage has
one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

OVERVIEW = "overview.png"
_SERIES = (
    ("loss", "training", "o", "#1b5e9b"),
    ("held_out_loss", "held-out", "s", "#b5482a"),
)
_COLUMNS = 3


def plot_run(folder: Path, metrics: Sequence[Mapping[str, Any]]) -> list[Path]:
    """Draw every stage of a run.

    Args:
        folder: Created when missing; pictures of the same name are replaced.
        metrics: Lines of ``metrics.jsonl``.

    Returns:
        The pictures, the overview last; none when nothing was measured.
    """
    stages: dict[str, list[Mapping[str, Any]]] = {}
    for line in metrics:
        stages.setdefault(line["stage"], []).append(line)
    if not stages:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    pictures = []
    for stage, lines in stages.items():
        figure = Figure(figsize=(4.8, 3.2), layout="constrained")
        _draw(figure.add_subplot(), stage, lines)
        name = re.sub(r"[^A-Za-z0-9]+", "-", stage).strip("-")
        pictures.append(_saved(figure, folder / f"{name}.png"))
    rows = -(-len(stages) // _COLUMNS)
    figure = Figure(figsize=(4 * _COLUMNS, 2.7 * rows), layout="constrained")
    for number, (stage, lines) in enumerate(stages.items(), start=1):
        _draw(figure.add_subplot(rows, _COLUMNS, number), stage, lines)
    pictures.append(_saved(figure, folder / OVERVIEW))
    return pictures


def _draw(axes: Axes, stage: str, lines: Sequence[Mapping[str, Any]]) -> None:
    """The curves of one stage."""
    for key, label, marker, colour in _SERIES:
        points = [(x["epoch"], x[key]) for x in lines if x.get(key) is not None]
        if points:
            epochs, losses = zip(*points)
            axes.plot(
                epochs, losses, marker=marker, markersize=4, color=colour, label=label
            )
    axes.set_title(stage, fontsize=10)
    axes.set_xlabel("epoch")
    axes.set_ylabel("loss")
    axes.set_xlim(0.5, lines[-1]["epoch"] + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)


def _saved(figure: Figure, path: Path) -> Path:
    FigureCanvasAgg(figure).print_png(str(path))  # type: ignore[no-untyped-call]
    return path
