"""Plots of a report as inline SVG: the same report gives the same bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from io import StringIO
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

BLUE, GREY, RED, GREEN = "#1f5a94", "#8a8f98", "#b3261e", "#2e7d4f"
_COLOURS = ("#7a5195", "#ef8b2c", "#2e7d4f", "#8a8f98", "#4c9bd6", "#c2577c", "#1f5a94")
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def svg(figure: Figure, name: str) -> str:
    """The figure as an SVG element whose ids carry its name."""
    file = StringIO()
    with rc_context({**_STYLE, "svg.hashsalt": name}):
        figure.savefig(file, format="svg", bbox_inches="tight", metadata={"Date": None})
    text = file.getvalue()
    return text[text.index("<svg") :]


def _plot(name: str, width: float, height: float, draw: Callable[[Axes], None]) -> str:
    with rc_context(_STYLE):
        figure = Figure(figsize=(width, height))
        draw(figure.subplots())
    return svg(figure, name)


def roc(report: Mapping[str, Any]) -> str:
    """ROC curve of every coalition, with the ceiling of the full input."""

    def draw(axes: Axes) -> None:
        for colour, (name, lines) in zip(_COLOURS, report["curves"].items()):
            score = report["table"][name]["model"]["auroc"]
            wide = 2.2 if name == "all" else 1.0
            label = f"{name} {score:.3f}"
            axes.plot(*lines["roc_model"], color=colour, lw=wide, label=label)
        best = report["curves"]["all"]["roc_ceiling"]
        axes.plot(*best, color="black", lw=0.9, ls=":", label="ceiling, all")
        axes.plot([0, 1], [0, 1], color="#cccccc", lw=0.8)
        axes.set(xlabel="1 \u2212 specificity", ylabel="sensitivity", title="ROC")
        axes.legend(frameon=False, loc="lower right", fontsize=8)

    return _plot("roc", 4.6, 4.0, draw)


def precision_recall(report: Mapping[str, Any]) -> str:
    """Precision over recall of every coalition."""

    def draw(axes: Axes) -> None:
        for colour, (name, lines) in zip(_COLOURS, report["curves"].items()):
            score = report["table"][name]["model"]["auprc"]
            wide = 2.2 if name == "all" else 1.0
            label = f"{name} {score:.3f}"
            axes.plot(*lines["pr_model"], color=colour, lw=wide, label=label)
        axes.axhline(report["data"]["prevalence"], color="#cccccc", lw=0.8)
        axes.set(xlabel="recall", ylabel="precision", ylim=(0, 1.03))
        axes.set_title("Precision and recall")
        axes.legend(frameon=False, loc="lower left", fontsize=8)

    return _plot("pr", 4.6, 4.0, draw)


def reliability(report: Mapping[str, Any]) -> str:
    """Reliability of the full input and each single modality, beside the ceiling's."""

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color="#cccccc", lw=0.8)
        for colour, (name, lines) in zip(_COLOURS, report["curves"].items()):
            if "+" not in name:
                x, y, _ = lines["reliability_model"]
                error = report["table"][name]["model"]["ece"]
                label = f"{name}, ECE {error:.3f}"
                axes.plot(x, y, "o-", ms=3, lw=1, color=colour, label=label)
        x, y, _ = report["curves"]["all"]["reliability_ceiling"]
        axes.plot(x, y, "k:", lw=0.9, label="exact posterior, all")
        axes.set(xlabel="mean estimate", ylabel="share of positives")
        axes.set_title("Reliability (15 bins of equal mass)")
        axes.legend(frameon=False, loc="upper left", fontsize=8)

    return _plot("reliability", 4.6, 4.0, draw)


def coalition_bars(report: Mapping[str, Any]) -> str:
    """AUROC of each coalition with its interval; the ceiling as a tick."""

    def draw(axes: Axes) -> None:
        names = list(report["table"])
        for at, name in enumerate(names):
            row = report["table"][name]
            found = row["intervals"]["auroc"]
            error = [
                [found["value"] - found["low"]], [found["high"] - found["value"]]
            ]  # fmt: skip
            axes.bar(at, found["value"], 0.6, color=BLUE, yerr=error, capsize=3)
            best = row["ceiling"]["auroc"]
            axes.plot([at - 0.38, at + 0.38], [best, best], color=RED, lw=2)
        axes.plot([], [], color=RED, lw=2, label="exact ceiling, same cases")
        axes.set_xticks(range(len(names)), names, rotation=20, ha="right")
        axes.set(ylim=(0.7, 1.0), ylabel="AUROC", title="Coalitions and ceiling")
        axes.legend(frameon=False, loc="upper left")

    return _plot("coalitions", 6.4, 3.4, draw)


def subgroup_plot(report: Mapping[str, Any]) -> str:
    """AUROC of each subgroup with its interval; the ceiling as a mark."""

    def draw(axes: Axes) -> None:
        rows = report["subgroups"]
        for at, row in enumerate(reversed(rows)):
            found = row["auroc"]
            if found["value"] is None or found["low"] is None:
                continue
            axes.plot([found["low"], found["high"]], [at, at], color=BLUE, lw=1.5)
            axes.plot(found["value"], at, "o", color=BLUE, ms=5)
            axes.plot(row["ceiling"], at, "|", color=RED, ms=12, mew=2)
        names = [f"{row['attribute']}: {row['group']}" for row in reversed(rows)]
        axes.set_yticks(range(len(names)), names)
        axes.set_xlabel("AUROC (95 %); red: exact ceiling")
        axes.set_title("Subgroups")
        axes.grid(axis="x", color="#eeeeee")

    return _plot("subgroups", 6.4, 3.6, draw)


def robustness_bars(report: Mapping[str, Any]) -> str:
    """AUROC lost by each shift, with its interval."""
    prefix = "AUROC lost: "

    def draw(axes: Axes) -> None:
        sections = {s["title"]: s["rows"] for s in report["sections"]}
        rows = [r for r in sections["Robustness"] if r["name"].startswith(prefix)]
        colours = {True: GREEN, False: RED, None: GREY}
        for at, row in enumerate(reversed(rows)):
            low, high = row["low"] or row["value"], row["high"] or row["value"]
            error = [[row["value"] - low], [high - row["value"]]]
            colour = colours[row["holds"]]
            axes.barh(at, row["value"], 0.6, color=colour, xerr=np.abs(error))
        names = [row["name"].removeprefix(prefix) for row in reversed(rows)]
        axes.set_yticks(range(len(names)), names)
        axes.axvline(0.03, color="black", lw=0.8, ls=":")
        axes.set_xlabel("AUROC lost; dotted: .03, the most that a mild shift may cost")
        axes.set_title("Robustness (grey: not mild, no target)")

    return _plot("robustness", 6.4, 3.8, draw)


def film(example: Mapping[str, Any], number: int) -> str:
    """The film, and beside it the film under its map."""
    pixels = np.array(example["film"])
    side = pixels.shape[0]
    with rc_context(_STYLE):
        figure = Figure(figsize=(4.4, 2.3))
        plain, mapped = figure.subplots(1, 2)
        for axes, title in ((plain, "film"), (mapped, "map")):
            axes.imshow(pixels, cmap="gray", vmin=0, vmax=1)
            axes.set_axis_off()
            axes.set_title(title, fontsize=9)
        for one in example["maps"]:
            if one["blank"]:
                mapped.set_title("map: blank", fontsize=9)
                continue
            left, top, width, height = (x * side for x in one["box"])
            grid = np.array(one["grid"])
            mapped.imshow(
                np.ma.masked_less_equal(grid, 0.0), cmap="inferno", alpha=0.55,
                vmin=0, vmax=max(float(grid.max()), 1e-9), interpolation="nearest",
                extent=(left, left + width, top + height, top),
            )  # fmt: skip
            mapped.set(xlim=(0, side), ylim=(side, 0))
    return svg(figure, f"film-{number}")


def value_bars(example: Mapping[str, Any], number: int) -> str:
    """How each value moved the logit, strongest at the top."""

    def draw(axes: Axes) -> None:
        rows = list(reversed(example["values"]))
        for at, row in enumerate(rows):
            colour = RED if row["logit"] > 0 else BLUE
            axes.barh(at, row["logit"], 0.6, color=colour)
        names = [f"{row['name']}  {row['value']}" for row in rows]
        axes.set_yticks(range(len(names)), names)
        axes.axvline(0, color="black", lw=0.8)
        axes.set_xlabel("change of the logit by this value")

    return _plot(f"values-{number}", 4.2, 2.3, draw)
