"""Where a label's query looked in the fusion module: attention, not attribution.

Attention says which tokens were mixed, not which of them moved the estimate (Jain and
Wallace, 2019). It is here as what an attribution must beat, and to be looked at under
its own name; no sentence is ever made from it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from model.explain.attribution import Question
from model.network.fusions.contract import FIRST
from model.network.inputs import MODALITIES

NOT_ATTRIBUTION = "attention, not attribution"


@dataclass(frozen=True, slots=True)
class Attention:
    """Weight of each token of one modality; ``kind`` travels with the numbers."""

    modality: str
    weights: tuple[float, ...]
    kind: str = NOT_ATTRIBUTION

    def grid(self, columns: int) -> tuple[tuple[float, ...], ...]:
        """The weights of one film in rows of ``columns`` patches."""
        rows = range(0, len(self.weights), columns)
        return tuple(self.weights[start : start + columns] for start in rows)


def token_attention(question: Question, modality: int) -> Attention:
    """Attention of the question's label to the tokens of one modality.

    Args:
        question: The case.
        modality: IMAGE, TEXT or VALUES.

    Returns:
        No weight at all where the modality is absent.
    """
    name = MODALITIES[modality]
    with torch.no_grad():
        output = question.model.fuse(question.tokens, question.present)
    row = output.attention[0, question.column].double()  # (6 + N,)
    # A modality without a single valid token was dropped, and its summary with it.
    kept = [
        bool((mask & question.present[:, m : m + 1]).any())
        for m, mask in enumerate(question.tokens.masks())
    ]
    widths = [
        1 + content.shape[1] if there else 0
        for content, there in zip(question.tokens.content(), kept)
    ]
    start = FIRST + sum(widths[:modality])
    weights = row[start : start + widths[modality]][1:]  # without the summary
    return Attention(name, tuple(weights.tolist()))
