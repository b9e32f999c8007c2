"""Where does relevance lie: its share inside what truly carries the label.

The measure of the guard on the explainability loss. Film masks of patients that nobody
trained on show whether the loss generalises; passages and values, of which no mask was
trained on at all, show whether it only learnt to draw.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.inference.vocabulary import InputVocabulary
from model.network.fusion import Tokens, TriModalModel
from model.network.inputs import IMAGE, MODALITIES, TriModalInputs
from model.training.cached_tokens import Prepared, pick
from model.training.explanation_loss import normalised, relevance
from model.training.objective import fitted
from model.training.optimise import in_batches
from model.training.training_set import Evidence

Floats = NDArray[np.float64]
_BATCH = 64
_DRAWS = 1_000


@dataclass(frozen=True, slots=True)
class Truth:
    """Which tokens carry the label: film, words, values (n, Nm), None where unknown."""

    masks: tuple[Tensor | None, Tensor | None, Tensor | None]


@dataclass(frozen=True, slots=True)
class Gain:
    """A mean on the same cases without and with something, and its 95 % interval."""

    without: float
    with_it: float
    difference: float
    low: float
    high: float
    n: int

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types; null where there was no case."""
        numbers = asdict(self)
        return {k: None if v != v else v for k, v in numbers.items()}


def evidence_masks(
    evidence: Sequence[Evidence],
    inputs: TriModalInputs,
    vocabulary: InputVocabulary,
) -> tuple[Tensor, Tensor]:
    """Words (n, Nt) of the first note and values (n, Ns) that carry the label."""
    start, end = inputs.word_start, inputs.word_end  # (n, Nt)
    words = torch.zeros_like(inputs.attn)
    values = torch.zeros_like(inputs.obs_mask)
    first = inputs.attn & (inputs.word >= 0) & (inputs.note == 0)
    for n, item in enumerate(evidence):
        for low, high in item.spans:
            words[n] |= (start[n] < high) & (end[n] > low)
        rows = [
            vocabulary.code_rows[c] for c in item.codes if c in vocabulary.code_rows
        ]
        known = torch.tensor(rows, dtype=torch.long, device=values.device)
        values[n] = torch.isin(inputs.code[n], known)
    return words & first, values & inputs.obs_mask


def truth_of(
    data: Prepared, evidence: Sequence[Evidence] | None, vocabulary: InputVocabulary
) -> Truth:
    """Everything that is known of a set's evidence."""
    if evidence is None:
        return Truth((data.lesion, None, None))
    return Truth((data.lesion, *evidence_masks(evidence, data.inputs, vocabulary)))


def masses(
    model: TriModalModel, tokens: Tokens, data: Prepared, truth: Truth
) -> Floats:
    """Share of relevance on the evidence of each positive record and modality.

    Args:
        model: In whatever mode; it is put into evaluation mode.
        tokens: Cached, of all records of ``data``.
        data: n records; those with a positive label are explained by their first one.
        truth: Their evidence.

    Returns:
        (n, 3), NaN where there is no positive label, no evidence or no relevance.
    """
    model.eval()
    found = np.full((len(data.targets), len(MODALITIES)), np.nan)
    positive = (data.targets > 0.5) & data.known  # (n, C)
    for rows in in_batches(positive.any(1).nonzero().squeeze(1), _BATCH):
        part = pick(tokens, rows)
        present = data.inputs.present[rows]
        r, _ = relevance(model, part, present, positive[rows].long().argmax(1))
        for m, mask in enumerate(truth.masks):
            if mask is None or not r[m].shape[1]:
                continue
            share, any_relevance = normalised(r[m].detach())
            inside = fitted(mask[rows].to(share.dtype), share.shape[1])  # (b, Nm)
            usable = any_relevance & (inside > 0).any(1)
            mass = (share * inside).sum(1).masked_fill(~usable, float("nan"))
            found[rows.cpu().numpy(), m] = mass.double().cpu().numpy()
    return found


def kinds(masses_of: Floats) -> tuple[Floats, Floats]:
    """(n, 3) masses to film masses (n,) and the mean of words and values (n,)."""
    rest = masses_of[:, IMAGE + 1 :]
    count = (~np.isnan(rest)).sum(1)
    mean = np.nansum(rest, axis=1) / np.where(count > 0, count, 1)
    return masses_of[:, IMAGE], np.where(count > 0, mean, np.nan)


def paired_gain(without: Floats, with_it: Floats, seed: int = 0) -> Gain:
    """Means of two columns (n,) over the cases that have both, resampled in pairs."""
    both = ~(np.isnan(without) | np.isnan(with_it))
    a, b = without[both], with_it[both]
    if not len(a):
        nothing = float("nan")
        return Gain(nothing, nothing, nothing, nothing, nothing, 0)
    change = b - a
    random = np.random.default_rng(seed)
    draws = [
        change[random.integers(0, len(change), len(change))].mean()
        for _ in range(_DRAWS)
    ]
    low, high = np.quantile(draws, [0.025, 0.975])
    return Gain(
        float(a.mean()),
        float(b.mean()),
        float(change.mean()),
        float(low),
        float(high),
        len(a),
    )
