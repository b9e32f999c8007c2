"""From a heat map to the words for a place on a chest film.

On a frontal film the image's left is the patient's right. The place is the centre of
the map's strong part (cells of at least half the peak). Upper, middle and lower are
zones of the lung fields, which end above the film's lower edge: their bounds are
fractions of the film's height, and only as exact as its framing. A centre so near to a
bound that the patch grid cannot tell the side is named with both zones.
"""

from __future__ import annotations

from model.jobs.explanation import HeatMap

STRONG_SHARE = 0.5
UPPER_END, LOWER_START = 0.40, 0.56
BOUND_HALF_WIDTH = 0.04
MIDLINE_HALF_WIDTH = 0.04


def mass_centre(heat_map: HeatMap) -> tuple[float, float] | None:
    """Centre of the strong cells as (x, y) fractions of the native image.

    None when the map holds nothing.
    """
    rows, columns = len(heat_map.grid), len(heat_map.grid[0])
    left, top, width, height = heat_map.box
    limit = STRONG_SHARE * max(max(row) for row in heat_map.grid)
    total = x_sum = y_sum = 0.0
    for r, row in enumerate(heat_map.grid):
        for c, cell in enumerate(row):
            if cell > 0 and cell >= limit:
                total += cell
                x_sum += cell * (left + width * (c + 0.5) / columns)
                y_sum += cell * (top + height * (r + 0.5) / rows)
    if total <= 0:
        return None
    return x_sum / total, y_sum / total


def zone_words(heat_map: HeatMap, view: str | None) -> str | None:
    """For example "right lower zone"; without a side unless the view is frontal."""
    centre = mass_centre(heat_map)
    if centre is None:
        return None
    x, y = centre
    level = _level(y)
    if (view or "").upper() not in {"PA", "AP"}:
        return f"{level} zone of the image"
    if abs(x - 0.5) < MIDLINE_HALF_WIDTH:
        return f"{level} zone near the midline"
    side = "right" if x < 0.5 else "left"
    return f"{side} {level} zone"


def _level(y: float) -> str:
    if abs(y - UPPER_END) <= BOUND_HALF_WIDTH:
        return "upper to middle"
    if abs(y - LOWER_START) <= BOUND_HALF_WIDTH:
        return "middle to lower"
    if y < UPPER_END:
        return "upper"
    return "lower" if y > LOWER_START else "middle"
