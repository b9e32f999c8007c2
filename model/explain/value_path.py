"""Integrated gradients per value: each measurement's share of what the values say.

Leave-one-out asks what would change without one value, and finds little where several
values say the same. The path from an absent token to the value's own divides the whole
among them (Sundararajan et al. 2017); what the 32 steps leave unexplained is reported
as the completeness gap, never spread over the values.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from model.explain.attribution import Question
from model.network.inputs import ABSENT, VALUES

STEPS = 32


@dataclass(frozen=True, slots=True)
class ValuePath:
    """``shares`` of each measurement in logits, ``total`` to be explained, ``gap``."""

    shares: tuple[float, ...]
    total: float
    gap: float


def value_path(question: Question) -> ValuePath | None:
    """Integrated gradients of the raw logit at the values' tokens.

    The baseline is the token of an expected item that was not measured, where the
    network has one, else a zeroed token.

    Returns:
        None where there are no values.
    """
    count = len(question.inputs.value_ids[0])
    if not count or not bool(question.present[0, VALUES]):
        return None
    tokens = question.tokens
    start = _absent_tokens(question)  # (1, Ns, D)
    along = (torch.arange(STEPS, device=start.device) + 0.5) / STEPS  # (R,)
    way = tokens.values - start  # (1, Ns, D)
    leaf = (start + way * along[:, None, None]).detach().requires_grad_()  # (R, Ns, D)
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(
            _logits(question, leaf).sum(), leaf, materialize_grads=True
        )
    shares = (gradient.mean(0) * way[0]).sum(-1)[:count].double()  # (Ns,)
    with torch.no_grad():
        ends = _logits(question, torch.cat([start, tokens.values])).double()  # (2,)
    total = float(ends[1] - ends[0])
    return ValuePath(
        shares=tuple(shares.tolist()),
        total=total,
        gap=total - float(shares.sum()),
    )


def _logits(question: Question, values: Tensor) -> Tensor:
    """Raw logits (R,) with these value tokens (R, Ns, D) beside the rest."""
    rows = values.shape[0]
    repeated = question.tokens.repeat(rows)
    mixed = repeated.with_content(repeated.image, repeated.text, values)
    present = question.present.repeat(rows, 1)  # (R, 3)
    logits: Tensor = question.model.fuse(mixed, present).logits[:, question.column]
    return logits


def _absent_tokens(question: Question) -> Tensor:
    """What the value tokens are when nothing was measured: (1, Ns, D)."""
    if not question.model.config.values.absent:
        return torch.zeros_like(question.tokens.values)
    inputs = question.inputs
    unmeasured = replace(inputs, flag=torch.full_like(inputs.flag, ABSENT))
    with torch.no_grad():
        tokens, _ = question.model.encode_modality(unmeasured, VALUES)
    return tokens.float()
