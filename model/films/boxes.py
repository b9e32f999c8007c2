"""Radiologists' boxes on the patch grid, and the loss that asks maps to respect them.

The loss is "right for the right reason" on gradient x token, the map that is shown:
minus the logarithm of the share of the map's mass inside the boxes, for a finding that
is there and has a box. Its gradient goes through pool, head and encoder.

Source: Ross, Hughes, Doshi-Velez, "Right for the Right Reasons", IJCAI 2017, in the
form of a mass share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from model.films.film_model import FilmConfig, FilmModel
from model.films.folder import QUESTIONS, FilmRow

#: Mass that an empty map is taken to have; keeps the logarithm finite.
_FLOOR = 1e-4
#: Resolution per patch side at which a turned box is laid on the grid.
_FINE = 4


@dataclass(frozen=True, slots=True)
class BoxedBatch:
    """Boxed findings of one batch: film, question, and the grid cells (k, N) in [0, 1]
    that its boxes cover."""

    film: Tensor  # (k,) place in the batch
    question: Tensor  # (k,) place among the answers of all heads, in a row
    cover: Tensor  # (k, N)


@dataclass(frozen=True, slots=True)
class PatchBoxes:
    """All boxed findings of a set on a fine grid."""

    film: NDArray[np.int64]  # (K,) row of the set
    question: NDArray[np.int64]  # (K,)
    fine: Tensor  # (K, rows * 4, columns * 4)
    grid: tuple[int, int]

    def moved(self, batch: NDArray[np.int64], place: Tensor | None) -> BoxedBatch:
        """The boxes of a batch, turned and moved as its films were.

        Args:
            batch: (b,) rows of the set.
            place: (b, 2, 3) of ``augmented``; None for films as they are.
        """
        where = {int(row): number for number, row in enumerate(batch)}
        kept = [k for k, row in enumerate(self.film.tolist()) if row in where]
        film = torch.tensor(
            [where[int(self.film[k])] for k in kept], dtype=torch.long
        )  # (k,)
        fine = self.fine[kept].unsqueeze(1)  # (k, 1, rows * 4, columns * 4)
        if place is not None and kept:
            grid = F.affine_grid(place[film], list(fine.shape), align_corners=False)
            fine = F.grid_sample(fine, grid, align_corners=False)
        cover = F.avg_pool2d(fine, _FINE) if kept else fine.new_zeros(0, 1, *self.grid)
        question = torch.from_numpy(self.question[kept])
        return BoxedBatch(film, question, cover.flatten(1))


def patch_boxes(
    rows: Sequence[FilmRow], config: FilmConfig, grid: tuple[int, int]
) -> PatchBoxes | None:
    """Lay the boxes of a set on the grid; None where there are none.

    Args:
        rows: Films of the set; a box counts where its finding is marked.
        config: Of the model; boxes of a source without a head are not laid.
        grid: Rows and columns of patches.
    """
    asked = [(source, q) for source in config.sources for q in QUESTIONS[source]]
    found = [
        (number, label, row)
        for number, row in enumerate(rows)
        for label in dict.fromkeys(b.label for b in row.boxes)
        if row.findings.get(label) == 1 and (row.source, label) in asked
    ]
    if not found:
        return None
    shape = (grid[0] * _FINE, grid[1] * _FINE)
    fine = np.stack([cover(row, label, shape) for _, label, row in found])
    places = [asked.index((row.source, label)) for _, label, row in found]
    return PatchBoxes(
        np.array([number for number, _, _ in found], dtype=np.int64),
        np.array(places, dtype=np.int64),
        torch.from_numpy(fine.astype(np.float32)),
        grid,
    )


def cover(row: FilmRow, label: str, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Which cells of a (rows, columns) grid the finding's boxes hold the centre of."""
    height, width = row.size
    y = (np.arange(shape[0]) + 0.5) * height / shape[0]
    x = (np.arange(shape[1]) + 0.5) * width / shape[1]
    inside = np.zeros(shape, dtype=np.bool_)
    for box in row.boxes:
        if box.label == label:
            down = (y >= box.top) & (y <= box.top + box.height)
            across = (x >= box.left) & (x <= box.left + box.width)
            inside |= np.outer(down, across)
    return inside


def box_loss(model: FilmModel, tokens: Tensor, boxed: BoxedBatch) -> Tensor:
    """Minus the log share of each boxed finding's map inside its boxes; a scalar.

    Args:
        model: The film model.
        tokens: (b, N, D) of the batch, with their graph.
        boxed: Of the same batch.
    """
    if not len(boxed.film):
        return tokens.sum() * 0.0
    chosen = tokens[boxed.film]  # (k, N, D)
    logits = torch.cat(model.answers(chosen), dim=1)  # (k, questions of all heads)
    asked = logits.gather(1, boxed.question.unsqueeze(1)).sum()
    (gradient,) = torch.autograd.grad(asked, chosen, create_graph=True)
    mass = (gradient * chosen).sum(-1).relu()  # (k, N)
    inside = (mass * boxed.cover).sum(1) + _FLOOR
    share = inside / (mass.sum(1) + _FLOOR)  # (k,)
    return -share.clamp(max=1.0).log().mean()
