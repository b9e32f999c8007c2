"""Which measured value: what leaving it out changes, exactly.

The value encoder runs once for all rows, because its tokens know of each other; image
and text tokens are used again.

Two numbers for each value. ``logit`` is the change of the estimate as it stands, with
its sign. ``weight`` says how much the value matters at all: the size of that change in
each of the four coalitions that the values can join, weighted as in their Shapley
value. The first alone misses values: where film and note already decide, nothing that
is left out changes much, and a cell count that only tells something beside the other
two modalities moves nothing where the values stand alone. Sizes are averaged and not
changes, because one value may raise the estimate in one coalition and lower it in
another, and would seem to say nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

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
    """Exact leave-one-out of each value, on the calibrated logit.

    Where the last value is left out the modality is absent, and that pattern's
    calibration applies. A coalition is cut down to what is present.

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
    tokens = _encoded(question, kept)
    changes = []
    for pattern in JOINED:
        logits = _logits(question, tokens, pattern)
        changes.append([logits[count] - logits[row] for row in range(count)])
    shares = [SHAPLEY_WEIGHTS[sum(pattern) - 1] for pattern in JOINED]
    return tuple(
        ValueScore(
            reference=reference,
            loinc=loinc,
            logit=changes[-1][row],
            weight=sum(w * abs(change[row]) for w, change in zip(shares, changes)),
        )
        for row, (reference, loinc) in enumerate(
            zip(question.inputs.value_ids[0], loincs)
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
    logits = _logits(question, _encoded(question, kept), JOINED[-1])
    return [logits[-1] - logit for logit in logits[:-1]]


def _encoded(question: Question, kept: Tensor) -> Tokens:
    """The case's tokens with each choice of measurements (R, Ns) encoded anew."""
    inputs, rows = question.inputs, len(kept)
    columns = (inputs.code, inputs.value, inputs.dt_hours, inputs.flag, inputs.kind)
    with torch.no_grad():
        encoded = question.model.values_encoder(
            *(column.expand(rows, *column.shape[1:]) for column in columns), kept
        )  # (R, Ns, D)
    return replace(question.tokens.repeat(rows), values=encoded, values_mask=kept)


def _logits(
    question: Question, tokens: Tokens, pattern: tuple[bool, bool, bool]
) -> list[float]:
    """Calibrated logit of each row in one coalition."""
    allowed = torch.tensor(pattern, device=question.present.device)  # (3,)
    present = (question.present & allowed).repeat(len(tokens.values), 1)  # (R, 3)
    present[:, VALUES] = tokens.values_mask.any(1)
    with torch.no_grad():
        raw = question.model.fuse(tokens, present).logits[:, question.column]  # (R,)
    return [
        question.calibration.of(row, question.label).logit(value)
        for row, value in zip(present.tolist(), raw.double().tolist())
    ]
