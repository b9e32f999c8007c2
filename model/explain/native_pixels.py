"""From the patch grid of a map to the pixels of the film as the archive holds it.

The model reads a square; the film was scaled into it and padded (letterbox). A map's
box says where the square lies on the film, so both are undone here: what is returned
has the Rows and Columns of the DICOM image, and padding is cut away.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from model.explain.scoring import Floats
from model.jobs.explanation import HeatMap


def on_pixels(heat_map: HeatMap, rows: int, columns: int) -> Floats:
    """The map on the film's own pixels, bilinear between the patches.

    Args:
        heat_map: With its grid and its box on the film.
        rows: DICOM Rows (0028,0010).
        columns: DICOM Columns (0028,0011).

    Returns:
        (rows, columns), row 0 at the top; on the scale of the map.
    """
    grid = np.asarray(heat_map.grid, dtype=np.float32)
    left, top, width, height = heat_map.box
    down, across = grid.shape
    # The corners of the film, in patches: where the film's frame cuts the grid.
    frame = (
        -left / width * across,
        -top / height * down,
        (1.0 - left) / width * across,
        (1.0 - top) / height * down,
    )
    inside = (
        max(0.0, frame[0]),
        max(0.0, frame[1]),
        min(float(across), frame[2]),
        min(float(down), frame[3]),
    )
    drawn = Image.fromarray(grid).resize(
        (columns, rows), Image.Resampling.BILINEAR, box=inside
    )
    return np.asarray(drawn, dtype=np.float64)


def peak_pixel(heat_map: HeatMap, rows: int, columns: int) -> tuple[int, int]:
    """(row, column) of the map's highest point on the film, counted from 0."""
    row, column = np.unravel_index(
        int(on_pixels(heat_map, rows, columns).argmax()), (rows, columns)
    )
    return int(row), int(column)
