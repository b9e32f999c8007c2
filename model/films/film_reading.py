"""How well an encoder reads films that taught it, and films of other patients."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from model.evaluation.resampling import bootstrap
from model.evaluation.scores import auroc
from model.films.case_sets import CaseSet
from model.films.scoring import chance_of
from model.network.fusion import TriModalModel
from model.network.inputs import IMAGE

_DRAWS = 200


@torch.no_grad()
def film_reading(
    model: TriModalModel, trained: tuple[Tensor, CaseSet], other: tuple[Tensor, CaseSet]
) -> dict[str, float]:
    """How well real films are read that taught the encoder, and how well others are.

    A linear reader of the pooled state is fitted on training films and scored on both.
    Where even the upper end of the interval on other patients lies below the figure on
    training films, ``shuffled`` is the share of training cases that must get another
    film for the two to be equal: a film drawn at random tells 0.5.

    Args:
        model: With its pool.
        trained: Tokens (m, N, D) and their cases.
        other: The same for other patients, real films only.

    Returns:
        ``trained``, ``other``, ``other_high`` (AUROC) and ``shuffled`` (a share).
    """
    model.eval()
    tables, truths, groups = [], [], []
    for tokens, cases in (trained, other):
        one = cases.subset(cases.one_of_each_film())
        mask = torch.ones(tokens.shape[:2], dtype=torch.bool)
        state = model.pools[IMAGE](tokens, mask).numpy()  # (m, D)
        tables.append(state[one.real])
        truths.append(one.shows[one.real].astype(np.float64))
        groups.append(one.patients[one.real])
    reader = LogisticRegression(C=0.01, max_iter=3000).fit(tables[0], truths[0])
    own, others = (
        chance_of(np.asarray(reader.decision_function(table))) for table in tables
    )
    fresh = bootstrap(auroc, others, truths[1], groups[1], _DRAWS)
    known = auroc(own, truths[0])
    gap = max(0.0, known - fresh.high) / max(1e-6, known - 0.5)
    return {
        "trained": float(known),
        "other": fresh.value,
        "other_high": fresh.high,
        "shuffled": round(min(1.0, gap), 4),
    }
