"""ROAD: what the film says when pixels are replaced by what their neighbours suggest.

Remove and debias (Rong et al., 2022): a removed pixel becomes the weighted mean of its
neighbours (direct ones 1/6, diagonal ones 1/12), removed neighbours included, which is
one sparse linear system, plus a little noise. A smooth fill gives less away of *where*
pixels were removed than a blur or a constant, so that a curve cannot be won by the
shape of the hole.

Pixels are removed twice: the most relevant first, and the least relevant first. A map
that knows what the model looks at gains from the second what it loses in the first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse  # type: ignore[import-untyped]
from scipy.sparse.linalg import spsolve  # type: ignore[import-untyped]

from model.explain.attribution import Question
from model.explain.perturbation import films_alone
from model.explain.scoring import Flags, Floats

SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)
NOISE = 0.01
DIRECT, DIAGONAL = 1 / 6, 1 / 12
_NEIGHBOURS = tuple(
    (down, across, DIRECT if 0 in (down, across) else DIAGONAL)
    for down in (-1, 0, 1)
    for across in (-1, 0, 1)
    if (down, across) != (0, 0)
)


@dataclass(frozen=True, slots=True)
class RoadCurves:
    """The film's own estimate at SHARES removed, by falling and by rising relevance."""

    most_first: tuple[float, ...]
    least_first: tuple[float, ...]

    @property
    def gap(self) -> float:
        """Mean of least first minus most first; 0 for an order that knows nothing."""
        return float(np.mean(self.least_first) - np.mean(self.most_first))


def imputed(film: Floats, gone: Flags, noise: Floats) -> Floats:
    """The film with its removed pixels solved from their neighbours.

    Args:
        film: (H, W).
        gone: (H, W), which pixels are removed; not all of them.
        noise: (H, W), added where a pixel was removed.

    Returns:
        (H, W), untouched where nothing was removed.
    """
    height, width = film.shape
    rows, columns = np.nonzero(gone)
    number = np.full(film.shape, -1, dtype=np.int64)
    number[rows, columns] = np.arange(len(rows))
    known = np.zeros(len(rows))
    total = np.zeros(len(rows))
    entries: list[tuple[NDArray[np.int64], NDArray[np.int64], Floats]] = []
    for down, across, weight in _NEIGHBOURS:
        r, c = rows + down, columns + across
        there = (r >= 0) & (r < height) & (c >= 0) & (c < width)
        mine = np.nonzero(there)[0]
        r, c = r[there], c[there]
        total[mine] += weight
        open_ = number[r, c] >= 0
        known[mine[~open_]] += weight * film[r[~open_], c[~open_]]
        other = number[r[open_], c[open_]]
        entries.append((mine[open_], other, np.full(len(other), -weight)))
    whole = np.arange(len(rows))
    entries.append((whole, whole, total))
    at, to, values = (np.concatenate(parts) for parts in zip(*entries))
    matrix = sparse.csc_matrix((values, (at, to)), shape=(len(rows), len(rows)))
    filled = film.copy()
    filled[rows, columns] = spsolve(matrix, known) + noise[rows, columns]
    return filled


def road_curves(
    question: Question, heat: Floats, random: np.random.Generator
) -> RoadCurves:
    """Remove the first film's pixels in both orders of ``heat`` and read it again.

    Args:
        question: A case with a film.
        heat: (H, W) at the size that the model reads; ties in reading order.
        random: Of the noise.
    """
    film = question.inputs.pixels[0, 0, 0].double().cpu().numpy()  # (H, W)
    order = np.argsort(-heat, axis=None, kind="stable")
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    place = rank.reshape(heat.shape)
    changed = []
    for one in (place, len(order) - 1 - place):
        for share in SHARES:
            noise = NOISE * random.standard_normal(film.shape)
            changed.append(imputed(film, one < round(share * len(order)), noise))
    pixels = torch.from_numpy(np.stack(changed)).to(question.inputs.pixels)
    chances = films_alone(question, pixels.unsqueeze(1))  # (R, 1, H, W)
    return RoadCurves(tuple(chances[: len(SHARES)]), tuple(chances[len(SHARES) :]))
