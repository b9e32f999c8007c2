"""One film's map against the planted lesion, random maps and attention.

The lesion covers about a twentieth of the pixels and the map has one number a patch.
So beside each figure of the map stands what the best map on that grid would reach: the
share of each patch that the lesion covers. No map can be better than its grid.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from model.explain.asked import Asked
from model.explain.attention import token_attention
from model.explain.perturbation import film_curves
from model.explain.road import road_curves
from model.explain.scoring import (
    Floats,
    mass_inside,
    pointing_hit,
    top_overlap,
    upsampled,
)
from model.explain.tally import Tally
from model.jobs.explanation import Explanation
from model.network.inputs import IMAGE
from model.synthetic.case import SynthCase

PATCH_COVER = 0.05  # of a patch: less does not make it a patch of the lesion
MAP, RANDOM, ATTENTION, BEST = "map", "random", "attention", "best"

Grid = Sequence[Sequence[float]]


def measure_film(
    tally: Tally,
    case: SynthCase,
    asked: Asked,
    explanation: Explanation,
    random: np.random.Generator,
) -> None:
    """Localisation of the map as drawn, and what removing pixels by it does.

    Args:
        tally: Where the numbers go.
        case: With a lesion on its film.
        asked: The estimate.
        explanation: With a map of that film.
        random: Of the random maps and of ROAD's noise.
    """
    heat_map = explanation.heat_maps[0]
    across = len(heat_map.grid[0])
    covered = _by_patch(case, len(heat_map.grid), across)
    maps: dict[str, Grid] = {
        MAP: heat_map.grid,
        RANDOM: random.random(covered.shape).tolist(),
        ATTENTION: token_attention(asked.question, IMAGE).grid(across)[: len(covered)],
        BEST: covered.tolist(),
    }
    tally.add("drawn", not heat_map.blank)
    tally.add("lesion_area", float(case.mask.mean()))
    cells = covered > PATCH_COVER
    grid = np.asarray(heat_map.grid)
    tally.add("mass_patches", mass_inside(grid, cells))
    tally.add("lesion_patches", float(cells.mean()))
    for name, one in maps.items():
        heat = upsampled(one, case.mask.shape)
        tally.add(f"pointing_{name}", pointing_hit(heat, case.mask))
        tally.add(f"mass_{name}", mass_inside(_spread(one, case), case.mask))
        tally.add(f"overlap_{name}", top_overlap(heat, case.mask))
        if name in (MAP, RANDOM):
            _removed(tally, name, asked, heat, random)


def _removed(
    tally: Tally,
    name: str,
    asked: Asked,
    heat: Floats,
    random: np.random.Generator,
) -> None:
    """Deletion, insertion and ROAD in the order of one map."""
    curves = film_curves(asked.question, heat)
    tally.curves[f"deletion_{name}"].append(curves.deletion)
    tally.curves[f"insertion_{name}"].append(curves.insertion)
    tally.add(f"road_{name}", road_curves(asked.question, heat, random).gap)


def _by_patch(case: SynthCase, rows: int, columns: int) -> Floats:
    """Share of each patch that the lesion covers: (rows, columns)."""
    height, width = case.mask.shape
    parts = case.mask.reshape(rows, height // rows, columns, width // columns)
    shares: Floats = parts.mean((1, 3))
    return shares


def _spread(grid: Grid, case: SynthCase) -> Floats:
    """Each patch's relevance spread evenly over its own pixels: (H, W)."""
    small = np.asarray(grid, dtype=np.float64)
    height, width = case.mask.shape
    tall = np.repeat(small, height // small.shape[0], axis=0)
    return np.repeat(tall, width // small.shape[1], axis=1)
