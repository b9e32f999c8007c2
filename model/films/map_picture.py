"""A picture of maps on real films, with the boxes; to look at, never to publish."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")

from matplotlib.figure import Figure  # noqa: E402
from matplotlib.patches import Rectangle  # noqa: E402

from model.errors import ConfigurationError  # noqa: E402
from model.films.film_model import FilmRun  # noqa: E402
from model.films.folder import NIH, QUESTIONS, FilmFolder  # noqa: E402
from model.films.pointing import boxed_findings, maps, peak  # noqa: E402

_COLUMNS = 4


def draw_maps(path: Path, folder: FilmFolder, run: FilmRun, count: int = 12) -> None:
    """Draw boxed test films with their maps; evenly over the films, none chosen.

    Args:
        path: PNG to write. Films are not ours: keep it out of what is published.
        folder: The films.
        run: Whose maps.
        count: How many at most.

    Raises:
        ConfigurationError: no boxed test film.
    """
    asked = boxed_findings(folder.select(NIH, "test"))
    if not asked:
        raise ConfigurationError("no boxed test films to draw")
    steps = np.unique(np.linspace(0, len(asked) - 1, count).round().astype(int))
    shown = [asked[k] for k in steps]
    questions = [(a.row, QUESTIONS[NIH].index(a.label)) for a in shown]
    rows = -(-len(shown) // _COLUMNS)
    figure = Figure(figsize=(2.6 * _COLUMNS, 2.8 * rows), dpi=90, layout="constrained")
    panels = figure.subplots(rows, _COLUMNS, squeeze=False).ravel()
    for axes, a, drawn in zip(panels, shown, maps(run.model, folder, questions)):
        height, width = a.row.size
        place = (0, width, height, 0)
        axes.imshow(folder.pixels(a.row), cmap="gray", extent=place)
        axes.imshow(
            drawn, cmap="hot", alpha=0.35, extent=place, interpolation="bilinear"
        )
        down, across = peak(drawn)
        axes.plot(across * width, down * height, "c+", markersize=9)
        for box in a.row.boxes:
            if box.label == a.label:
                corner = (box.left, box.top)
                frame = Rectangle(
                    corner, box.width, box.height, fill=False, edgecolor="lime"
                )
                axes.add_patch(frame)
        axes.set_title(f"{a.label}: {'hit' if a.hit(down, across) else 'miss'}", size=8)
    for axes in panels:
        axes.set_axis_off()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
