"""One explanation as a picture: film with its map, words, values, modalities."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from model.explain.asked import Asked
from model.explain.attention import NOT_ATTRIBUTION, token_attention
from model.explain.native_pixels import on_pixels
from model.explain.scoring import Floats
from model.jobs.explanation import Explanation, HeatMap
from model.network.inputs import IMAGE, TEXT

RAISES, LOWERS = "#b2452f", "#2f6db2"
MAX_BARS = 10
#: Inputs that are no measurement of the record, by LOINC.
NOT_MEASURED = {"30525-0": "Age", "46098-0": "Sex"}


def draw(
    asked: Asked, explanation: Explanation, path: Path, *, attention: bool = False
) -> None:
    """Write the picture; its format follows from the name.

    Args:
        asked: The estimate and its record.
        explanation: Of that estimate.
        path: For example ``explanation.png``.
        attention: Also where the label's query looked, under that name.
    """
    figure = Figure(figsize=(19 if attention else 13, 9), layout="constrained")
    axes = figure.subplots(2, 3 if attention else 2)
    (film, words), (values, modalities) = axes[:, :2]
    if attention:
        _attended_film(axes[0, 2], asked)
        _bars(axes[1, 2], f"Words ({NOT_ATTRIBUTION})", _attended_words(asked))
    _film(film, asked, explanation)
    _bars(words, "Phrases (share of the logit)", _phrases(asked, explanation))
    names = NOT_MEASURED | {v.loinc: v.name for v in asked.record.values}
    _bars(
        values,
        "Values (weight, logit)",
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
    if not _shown(axes, asked):
        return
    axes.set_title("film: no region marked")
    for heat_map in explanation.heat_maps[:1]:
        if not heat_map.blank:
            _overlaid(axes, on_pixels(heat_map, *_shape(asked)) / heat_map.peak)
            axes.set_title("film: what raised the estimate")


def _attended_film(axes: Axes, asked: Asked) -> None:
    """The film with the label's attention to its patches."""
    if not _shown(axes, asked):
        return
    columns = asked.question.model.image_encoder.grid[1]
    grid = token_attention(asked.question, IMAGE).grid(columns)
    rows = asked.question.model.image_encoder.grid[0]
    box = asked.question.inputs.box[0, 0].tolist()
    peak = max(max(row) for row in grid[:rows])
    looked = HeatMap("", grid[:rows], (box[0], box[1], box[2], box[3]), peak, False)
    _overlaid(axes, on_pixels(looked, *_shape(asked)) / peak)
    axes.set_title(f"film: {NOT_ATTRIBUTION}")


def _attended_words(asked: Asked) -> list[tuple[str, float]]:
    """Each word's attention, its pieces added up."""
    inputs = asked.question.inputs
    text = [note.text for note in asked.record.notes]
    total: dict[tuple[int, int, int], float] = {}
    columns = zip(
        token_attention(asked.question, TEXT).weights,
        inputs.word[0].tolist(),
        inputs.note[0].tolist(),
        inputs.word_start[0].tolist(),
        inputs.word_end[0].tolist(),
    )
    for weight, word, note, start, end in columns:
        if word >= 0:
            place = (note, start, end)
            total[place] = total.get(place, 0.0) + weight
    return [(text[note][a:b], weight) for (note, a, b), weight in total.items()]


def _shown(axes: Axes, asked: Asked) -> bool:
    """Draw the first film, grey; False, and a title, where there is none."""
    axes.set_axis_off()
    if not asked.record.images:
        axes.set_title("no film")
        return False
    axes.imshow(asked.record.images[0].pixels, cmap="gray", vmin=0, vmax=1)
    return True


def _shape(asked: Asked) -> tuple[int, int]:
    rows, columns = asked.record.images[0].pixels.shape
    return int(rows), int(columns)


def _overlaid(axes: Axes, heat: Floats) -> None:
    """A map from 0 to 1 over the film, seen through where it is low."""
    axes.imshow(heat, cmap="inferno", vmin=0, vmax=1, alpha=np.clip(heat, 0, 0.6))


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
