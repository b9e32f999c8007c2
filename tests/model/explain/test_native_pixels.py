"""A map in the pixels of the film as the archive holds it."""

from __future__ import annotations

import numpy as np
import pytest

from model.explain.native_pixels import on_pixels, peak_pixel
from model.jobs.explanation import HeatMap


def drawn(cell: tuple[int, int], box: tuple[float, float, float, float]) -> HeatMap:
    grid = np.zeros((8, 8))
    grid[cell] = 2.0
    return HeatMap("ImagingStudy/i", tuple(map(tuple, grid.tolist())), box, 2.0, False)


@pytest.mark.parametrize(
    ("rows", "columns", "cell", "box"),
    [
        (512, 512, (2, 5), (0.0, 0.0, 1.0, 1.0)),
        (200, 400, (3, 6), (0.0, -0.5, 1.0, 2.0)),  # wide: padded above and below
        (600, 300, (1, 4), (-0.5, 0.0, 2.0, 1.0)),  # tall: padded at the sides
    ],
)
def test_the_letterbox_is_undone(
    rows: int, columns: int, cell: tuple[int, int], box: tuple[float, ...]
) -> None:
    heat_map = drawn(cell, box)  # type: ignore[arg-type]
    assert on_pixels(heat_map, rows, columns).shape == (rows, columns)
    row, column = peak_pixel(heat_map, rows, columns)
    # The patch's centre, from the box as the zones read it.
    y = (box[1] + box[3] * (cell[0] + 0.5) / 8) * rows
    x = (box[0] + box[2] * (cell[1] + 0.5) / 8) * columns
    assert abs(row + 0.5 - y) <= 2 and abs(column + 0.5 - x) <= 2


def test_what_lies_on_the_padding_is_cut_away() -> None:
    padding = drawn((0, 3), (0.0, -0.5, 1.0, 2.0))
    assert on_pixels(padding, 200, 400).max() == 0
    film = drawn((3, 3), (0.0, -0.5, 1.0, 2.0))
    assert on_pixels(film, 200, 400).max() == pytest.approx(2.0, rel=0.02)
