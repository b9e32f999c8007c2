"""Which measured value: what leaving it out changes, exactly.

Three numbers for each value. ``left_out`` is the change of the estimate as it stands,
with its sign. ``weight`` says how much the value matters at all: the size of that
change in each of the four coalitions that the values can join, weighted as in their
Shapley value. ``share`` says which way it points, see :mod:`.value_shares`; its sign on
the weight is what is shown. The change alone misses values: where film and note already
decide, nothing that is left out changes much, and a cell count that only tells
something beside the other two modalities moves nothing where the values stand alone.
Sizes are averaged and not
changes, because one value may raise the estimate in one coalition and lower it in
another, and would seem to say nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import copysign

import torch

from model.explain.attribution import SHAPLEY_WEIGHTS, Question
from model.explain.value_shares import value_shares
from model.explain.value_subsets import JOINED, logits_of, tokens_of
from model.jobs.explanation import ValueScore
from model.network.inputs import VALUES


def value_scores(question: Question, loincs: Sequence[str]) -> tuple[ValueScore, ...]:
    """Weight, direction and exact leave-one-out of each value, on the calibrated logit.

    Args:
        question: The case.
        loincs: LOINC code of each measurement token.

    Returns:
        Positive ``logit`` raises the estimate; in the order of the inputs.
    """
    count = len(loincs)
    if not count or not bool(question.present[0, VALUES]):
        return ()
    kept = question.inputs.obs_mask.expand(count + 1, -1).clone()  # (R, Ns)
    kept[torch.arange(count), torch.arange(count)] = False  # the last row keeps all
    tokens = tokens_of(question, kept)
    changes = []
    for pattern in JOINED:
        logits = logits_of(question, tokens, pattern)
        changes.append([logits[count] - logits[row] for row in range(count)])
    coalition = [SHAPLEY_WEIGHTS[sum(pattern) - 1] for pattern in JOINED]
    weights = [
        sum(w * abs(change[row]) for w, change in zip(coalition, changes))
        for row in range(count)
    ]
    return tuple(
        ValueScore(
            reference=reference,
            loinc=loinc,
            logit=copysign(weight, share),
            weight=weight,
            left_out=left_out,
            share=share,
        )
        for reference, loinc, weight, left_out, share in zip(
            question.inputs.value_ids[0],
            loincs,
            weights,
            changes[-1],
            value_shares(question),
        )
    )


def changes_without(question: Question, groups: Sequence[set[int]]) -> list[float]:
    """Fall of the calibrated logit when each group of measurements is left out.

    Args:
        question: A case with values.
        groups: Token numbers of each group.
    """
    kept = question.inputs.obs_mask.expand(len(groups) + 1, -1).clone()  # (R, Ns)
    for row, group in enumerate(groups):
        kept[row, list(group)] = False
    logits = logits_of(question, tokens_of(question, kept), JOINED[-1])
    return [logits[-1] - logit for logit in logits[:-1]]
