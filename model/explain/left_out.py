"""Which measured value: what leaving it out changes, and which way it points.

The value encoder runs once for all rows, because its tokens know of each other; image
and text tokens are used again. Three numbers for each value:

- ``left_out``, the change of the estimate as it stands, with its sign;
- ``weight``, how much the value matters at all: the size of that change in each of the
  four coalitions that the values can join, weighted as in their Shapley value;
- ``direction``, what the value adds in the same coalitions, averaged over coming last
  and coming first. Its sign on the weight is what is shown.

The change alone misses values: where film and note already decide, nothing that is left
out changes much, and a cell count that only tells something beside the other two
modalities moves nothing where the values stand alone. Sizes are averaged and not
changes, because one value may raise the estimate in one coalition and lower it in
another, and would seem to say nothing. Nor does the change tell the way: without either
leukocytes or saturation the other still says that the patient is ill, the change is
next to nothing, and its sign is chance. The value that comes first says it alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import copysign

import numpy as np
import torch
from torch import Tensor

from model.explain.attribution import SHAPLEY_WEIGHTS, Question
from model.inference.calibration import PATTERNS
from model.jobs.explanation import ValueScore
from model.network.fusion import Tokens
from model.network.inputs import VALUES

#: Coalitions that the values can join; the last one holds everything.
JOINED = tuple(pattern for pattern in PATTERNS if pattern[VALUES])


def value_scores(question: Question, loincs: Sequence[str]) -> tuple[ValueScore, ...]:
    """Weight, direction and exact leave-one-out of each value, on the calibrated logit.

    Where no value is left the modality is absent, and that pattern's calibration
    applies. A coalition is cut down to what is present.

    Args:
        question: The case.
        loincs: LOINC code of each measurement token.

    Returns:
        Positive ``logit`` raises the estimate; in the order of the inputs.
    """
    count = len(loincs)
    if not count or not bool(question.present[0, VALUES]):
        return ()
    valid = question.inputs.obs_mask  # (1, Ns)
    alone = torch.eye(count, valid.shape[1], dtype=torch.bool, device=valid.device)
    # (R, Ns): all but one value, one value alone, all, none
    kept = torch.cat([valid & ~alone, alone, valid, torch.zeros_like(valid)])
    tokens = _tokens_of(question, kept)
    logits = np.array([_logits_of(question, tokens, each) for each in JOINED])  # (4, R)
    last = logits[:, -2:-1] - logits[:, :count]  # (4, count)
    first = logits[:, count : 2 * count] - logits[:, -1:]  # (4, count)
    shares = np.array([SHAPLEY_WEIGHTS[sum(pattern) - 1] for pattern in JOINED])  # (4,)
    rows = zip(
        question.inputs.value_ids[0],
        loincs,
        (shares @ np.abs(last)).tolist(),
        (shares @ (first + last) / 2).tolist(),
        last[-1].tolist(),
    )
    return tuple(
        ValueScore(
            reference=reference,
            loinc=loinc,
            logit=copysign(weight, direction),
            weight=weight,
            left_out=left_out,
            direction=direction,
        )
        for reference, loinc, weight, direction, left_out in rows
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
    logits = _logits_of(question, _tokens_of(question, kept), JOINED[-1])
    return [logits[-1] - logit for logit in logits[:-1]]


def _tokens_of(question: Question, kept: Tensor) -> Tokens:
    """The case's tokens with each choice of measurements (R, Ns) encoded anew."""
    inputs, rows = question.inputs, len(kept)
    columns = (inputs.code, inputs.value, inputs.dt_hours, inputs.flag, inputs.kind)
    with torch.no_grad():
        encoded = question.model.values_encoder(
            *(column.expand(rows, *column.shape[1:]) for column in columns), kept
        )  # (R, Ns, D)
    return replace(question.tokens.repeat(rows), values=encoded, values_mask=kept)


def _logits_of(
    question: Question, tokens: Tokens, pattern: tuple[bool, bool, bool]
) -> list[float]:
    """Calibrated logit of each row of tokens in one coalition.

    A coalition is cut down to what is present.
    """
    allowed = torch.tensor(pattern, device=question.present.device)  # (3,)
    present = (question.present & allowed).repeat(len(tokens.values), 1)  # (R, 3)
    present[:, VALUES] = tokens.values_mask.any(1)
    with torch.no_grad():
        raw = question.model.fuse(tokens, present).logits[:, question.column]  # (R,)
    return [
        question.calibration.of(row, question.label).logit(value)
        for row, value in zip(present.tolist(), raw.double().tolist())
    ]
