"""The estimate of one case with some of its measurements only.

The value encoder runs again for every choice, because its tokens know of each other;
image and text tokens are used again. Where no measurement is left the modality is
absent, and that pattern's calibration applies.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from model.explain.attribution import Question
from model.inference.calibration import PATTERNS
from model.network.fusion import Tokens
from model.network.inputs import VALUES

Pattern = tuple[bool, bool, bool]

#: Coalitions that the values can join; the last one holds everything.
JOINED = tuple(pattern for pattern in PATTERNS if pattern[VALUES])


def tokens_of(question: Question, kept: Tensor) -> Tokens:
    """The case's tokens with each choice of measurements (R, Ns) encoded anew."""
    inputs, rows = question.inputs, len(kept)
    columns = (inputs.code, inputs.value, inputs.dt_hours, inputs.flag, inputs.kind)
    with torch.no_grad():
        encoded = question.model.values_encoder(
            *(column.expand(rows, *column.shape[1:]) for column in columns), kept
        )  # (R, Ns, D)
    return replace(question.tokens.repeat(rows), values=encoded, values_mask=kept)


def logits_of(question: Question, tokens: Tokens, pattern: Pattern) -> list[float]:
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
