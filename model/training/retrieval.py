"""Does the shared space find a patient's own modality among those of others?

For each record a query modality (or two) ranks the target modality of all records; the
rank of the own one is given as the share of other patients' that lie below it: 1 is
first place, 0.5 is chance. Studies of the query's patient do not compete.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import permutations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from model.network.fusion import Tokens, TriModalModel
from model.network.inputs import MODALITIES
from model.training.contrastive import Alignment

#: Of these many candidates the own one is "found" when it is among the first.
FOUND_WITHIN = 10


@torch.no_grad()
def embedded(
    model: TriModalModel,
    alignment: Alignment | None,
    tokens: Tokens,
    present: Tensor,
) -> tuple[Tensor, Tensor]:
    """Points (n, 3, d) and which there are (n, 3).

    Without an alignment the encoders' pooled states stand in for the points: what
    similarity the space has when nothing was aligned.
    """
    if alignment is not None:
        return alignment.eval().embed(tokens, present)
    model.eval()
    parts = zip(model.pools, tokens.content(), tokens.masks())
    pooled = [pool(x, mask) for pool, x, mask in parts]  # 3 x (n, D)
    there = torch.stack([mask.any(1) for mask in tokens.masks()], 1) & present
    return F.normalize(torch.stack(pooled, 1), dim=-1), there


def ranks(
    points: Tensor, there: Tensor, patient: Tensor, query: tuple[int, ...], target: int
) -> NDArray[np.float64]:
    """Share of other patients' candidates below the own one, ties counted half.

    Args:
        points: (n, 3, d) of unit length.
        there: (n, 3).
        patient: (n,).
        query: One modality, or two: then their scores add up, and the product of all
            three points counts too.
        target: The modality that is looked for.

    Returns:
        (k,) in [0, 1] for the k records that have all of them; empty when fewer
        than two have.
    """
    rows = there[:, [*query, target]].all(1).nonzero().squeeze(1)
    points, patient = points[rows].double(), patient[rows]
    wanted = points[:, target]  # (k, d)
    score = sum((points[:, m] @ wanted.T for m in query), wanted.new_zeros(()))
    if len(query) == 2:
        both = points[:, query[0]] * points[:, query[1]]  # (k, d)
        score = score + (both @ wanted.T) * points.shape[-1] ** 0.5
    if len(rows) < 2:
        return np.zeros(0)
    own = score.diagonal().unsqueeze(1)  # (k, 1)
    rival = patient.unsqueeze(0) != patient.unsqueeze(1)  # (k, k)
    below = (score < own).double() + 0.5 * (score == own).double()
    share = (below * rival).sum(1) / rival.sum(1).clamp(min=1)  # (k,)
    result: NDArray[np.float64] = share.cpu().numpy()
    return result


def retrieval_report(
    points: Tensor, there: Tensor, patient: Tensor
) -> dict[str, dict[str, float]]:
    """Mean rank and share found, from each modality to each other and from pairs.

    Returns:
        By direction ("image->text", "image+text->values"): ``rank`` (chance .5),
        ``standard_error`` of it, ``found`` (own one among the first 10) and ``n``.
    """
    report = {}
    for query, target in _directions():
        rank = ranks(points, there, patient, query, target)
        if not len(rank):
            continue
        limit = 1.0 - (FOUND_WITHIN - 1) / max(1, len(rank) - 1)
        asked = "+".join(MODALITIES[m] for m in query)
        report[f"{asked}->{MODALITIES[target]}"] = {
            "rank": float(rank.mean()),
            "standard_error": float(rank.std() / len(rank) ** 0.5),
            "found": float((rank >= limit - 1e-9).mean()),
            "n": len(rank),
        }
    return report


def mean_rank(report: Mapping[str, Mapping[str, float]]) -> float:
    """The mean over all directions; NaN without any."""
    return float(np.mean([row["rank"] for row in report.values()] or [np.nan]))


def _directions() -> list[tuple[tuple[int, ...], int]]:
    pairs = [((a,), b) for a, b in permutations(range(3), 2)]
    return [*pairs, ((0, 1), 2), ((0, 2), 1), ((1, 2), 0)]
