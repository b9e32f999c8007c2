"""Which region of the film: gradient x token on the projected patch tokens.

The leaves are the tokens that enter the fusion module, and the gradient comes from
``torch.autograd.grad`` through that module alone: no hooks, no shared state.

Two choices were made by measurement, on 400 synthetic test cases with the demonstration
checkpoint (lesions cover .11 of the patches; ``tests/model/test_explain_quality.py``
holds bounds below the figures):

- *Each patch keeps its own gradient.* Classic Grad-CAM weighs a channel by the mean of
  its gradient over all patches. For called positives the share of the map inside the
  lesion is .93 against .61, and the strongest patch lies on the lesion in .99 against
  .69 of the films (.23 and .44 for the label query's attention). The mean assumes that
  a channel means the same everywhere; after a transformer it does not.
- *A map is blank when the film as a whole did not raise the estimate*, by its exact
  Shapley value. The raw peak cannot tell, because gradients shrink where the model is
  sure: only .08 of the films with a clear finding exceed the 95th percentile of those
  without one. With the Shapley value .99 of the films without a finding are blank and
  none of those with a clear one.

A map is never stretched to its own maximum, since that would make noise on a normal
film look like evidence; its raw peak is published.
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
