"""One explanation as a picture: film with its map, words, values, modalities."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from model.explain.asked import Asked
from model.explain.scoring import upsampled
from model.jobs.explanation import Explanation

RAISES, LOWERS = "#b2452f", "#2f6db2"
MAX_BARS = 10


def draw(asked: Asked, explanation: Explanation, path: Path) -> None:
    """Write the picture; its format follows from the name.

    Args:
        asked: The estimate and its record.
        explanation: Of that estimate.
        path: For example ``explanation.png``.
    """
    figure = Figure(figsize=(13, 9), layout="constrained")
    film, words, values, modalities = figure.subplots(2, 2).ravel()
    _film(film, asked, explanation)
    _bars(words, "Phrases (share of the logit)", _phrases(asked, explanation))
    names = {value.loinc: value.name for value in asked.record.values}
    _bars(
        values,
        "Values (leave-one-out, logit)",
        [(names.get(v.loinc, v.loinc), v.logit) for v in explanation.values],
    )
    shares = [(share.modality, share.logit) for share in explanation.modalities]
    shares += [(" x ".join(d.modalities), d.logit) for d in explanation.dividends]
    _bars(modalities, "Shapley values, dividends (logit)", shares)
    estimate = asked.estimate
    figure.suptitle(
        f"{estimate.display}: {estimate.probability:.0%}, threshold "
        f"{estimate.threshold:.0%} (investigational)"
    )
    figure.savefig(path, dpi=110)


def _film(axes: Axes, asked: Asked, explanation: Explanation) -> None:
    """The film, with its map where one may be drawn."""
    axes.set_axis_off()
    if not asked.record.images:
        axes.set_title("no film")
        return
    pixels = asked.record.images[0].pixels
    height, width = pixels.shape
    axes.imshow(pixels, cmap="gray", vmin=0, vmax=1)
    axes.set_title("film: no region marked")
    for heat_map in explanation.heat_maps[:1]:
        if heat_map.blank:
            return
        left, top, wide, high = heat_map.box
        heat = upsampled(heat_map.grid, (height, width)) / heat_map.peak
        axes.imshow(
            heat,
            cmap="inferno",
            alpha=np.clip(heat, 0, 0.6),
            extent=(
                left * width - 0.5,
                (left + wide) * width - 0.5,
                (top + high) * height - 0.5,
                top * height - 0.5,
            ),
        )
        axes.set_xlim(-0.5, width - 0.5)
        axes.set_ylim(height - 0.5, -0.5)
        axes.set_title("film: what raised the estimate")


def _phrases(asked: Asked, explanation: Explanation) -> list[tuple[str, float]]:
    text = {note.provenance.reference: note.text for note in asked.record.notes}
    return [
        (" ".join(text[p.reference][p.start : p.end].split())[:46], p.score)
        for p in explanation.phrases
    ]


def _bars(axes: Axes, title: str, rows: Sequence[tuple[str, float]]) -> None:
    """The longest bars, longest on top."""
    chosen = sorted(rows, key=lambda row: -abs(row[1]))[:MAX_BARS][::-1]
    places = range(len(chosen))
    lengths = [value for _, value in chosen]
    colours = [RAISES if value > 0 else LOWERS for value in lengths]
    axes.barh(places, lengths, color=colours)
    axes.set_yticks(places, [name for name, _ in chosen], fontsize=8)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_title(title)
