"""Which region of the film: gradient x token on the projected patch tokens.

The leaves are the tokens that enter the fusion module. The gradient is the one of
``attribution.image_path_gradient``: averaged over the path from zeroed tokens to the
film's, in each coalition that the film can join, weighted as in its Shapley value. It
comes from ``torch.autograd.grad`` through the fusion module alone: no hooks, no shared
state, safe for threads.

Three choices differ from Grad-CAM as it is known (Selvaraju et al., 2017):

- *Each patch keeps its own gradient.* Grad-CAM weighs a channel by the mean of its
  gradient over all places, which assumes that a channel means the same everywhere;
  after a transformer it does not.
- *The gradient is that of a path, not of one point.* Where film, note and values say
  the same the model is sure, and every gradient at the full input vanishes.
- *A map is blank when the film as a whole did not raise the estimate*, by its exact
  Shapley value against the checkpoint's floor. A raw peak cannot tell.

A map is never stretched to its own maximum, since that would make noise on a normal
film look like evidence; its raw peak is published. ``native_pixels.py`` draws it on the
film's own pixels. What all this is worth is printed by ``trivium-model explain-report``
(pointing, mass, deletion, blank maps on films without a finding, attention beside it)
and kept in docs/explanations.md; ``tests/model/test_explain_quality.py`` holds bounds.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from model.explain.attribution import CoalitionValues, Question, shapley
from model.inference.calibration import PATTERNS
from model.jobs.explanation import HeatMap
from model.network.fusion import Tokens, TriModalModel
from model.network.inputs import IMAGE

FLOOR_QUANTILE = 0.95


def relevance_map(tokens: Tensor, gradient: Tensor, mask: Tensor) -> Tensor:
    """relu(sum over channels of gradient x token) of each patch.

    Args:
        tokens: (B, N, D) patch tokens of one view.
        gradient: (B, N, D) gradient of the logit at them.
        mask: (B, N), which patches exist.

    Returns:
        (B, N), not negative, 0 where there is no patch.
    """
    activation = (gradient * tokens).sum(-1).clamp(min=0)  # (B, N)
    return torch.where(mask, activation, activation.new_zeros(()))


def film_shares(
    model: TriModalModel, tokens: Tokens, present: Tensor, column: int
) -> Tensor:
    """The film's Shapley value on the raw logit, for fitting the evidence floor.

    Args:
        model: In evaluation mode.
        tokens: Of B records.
        present: (B, 3).
        column: The label's place among the logits.

    Returns:
        (B,), 0 where there is no film.
    """
    values = []
    for pattern in PATTERNS:
        used = present & torch.tensor(pattern, device=present.device)  # (B, 3)
        with torch.no_grad():
            values.append(model.fuse(tokens, used).logits[:, column])  # (B,)
    games = torch.stack(values, dim=1).double().tolist()  # (B, 8)
    return torch.tensor([shapley(game)[IMAGE] for game in games])


def evidence_floor(shares: Sequence[float] | Tensor) -> float:
    """The 95th percentile of :func:`film_shares` on films without the finding.

    Stored with the checkpoint per label: a film that raised the estimate by no more
    gets a blank map, because films without the finding reach as much. Never below 0.
    """
    values = torch.as_tensor(shares, dtype=torch.float64).flatten()
    if not len(values):
        return 0.0
    return max(0.0, float(torch.quantile(values, FLOOR_QUANTILE)))


def film_raised(question: Question, values: CoalitionValues) -> bool:
    """True when the film raised the estimate by more than the evidence floor.

    On the raw logit, on which the floor was fitted; and on the calibrated one, so that
    a map is never shown beside a share that says the opposite.
    """
    floor = question.calibration.map_floor.get(question.label, 0.0)
    return (
        shapley(values.raw)[IMAGE] > max(0.0, floor)
        and shapley(values.logit)[IMAGE] > 0
    )


def heat_maps(
    question: Question, image_gradient: Tensor, *, blank: bool
) -> tuple[HeatMap, ...]:
    """One map per film that the model read.

    Args:
        question: The case.
        image_gradient: (1, Ni, D) from the module ``attribution``.
        blank: Nothing may be drawn, see :func:`film_raised`.
    """
    tokens = question.tokens
    rows, columns = question.model.image_encoder.grid
    maps = []
    for view, reference in enumerate(question.inputs.image_ids[0]):
        part = slice(view * rows * columns, (view + 1) * rows * columns)
        activation = relevance_map(
            tokens.image[:, part], image_gradient[:, part], tokens.image_mask[:, part]
        )[0]
        peak = float(activation.max())
        grid = activation.view(rows, columns).tolist()
        left, top, width, height = question.inputs.box[0, view].tolist()
        maps.append(
            HeatMap(
                reference=reference,
                grid=tuple(tuple(round(cell, 6) for cell in row) for row in grid),
                box=(left, top, width, height),
                peak=peak,
                blank=blank or peak <= 0,
            )
        )
    return tuple(maps)
