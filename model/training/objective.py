"""What one stage minimises: the losses that are on, put together.

L = L_cls + 0.1 L_con + 0.05 L_exp + 0.15 L_uni; see :mod:`.loss_weights`. A loss that
is off is not computed, and draws no random number.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from model.network.fusion import FusionOutput, Tokens, TriModalModel
from model.network.losses import tri_modal_loss
from model.training.cached_tokens import Prepared, padded_to
from model.training.contrastive import Alignment
from model.training.explanation_loss import (
    MOST_EXPLAINED,
    TwinOf,
    explanation_loss,
)
from model.training.loss_weights import LossWeights
from model.training.twins import Twins


@dataclass(frozen=True)
class Objective:
    """The losses of a stage.

    ``positive`` (C,) weighs positives, ``alignment`` are the projection heads of L_con,
    ``twins`` the records seen otherwise for L_exp, ``twin_of`` their tokens by row in
    the stage at hand.
    """

    weights: LossWeights = LossWeights()
    positive: Tensor | None = None
    alignment: Alignment | None = None
    twins: Twins | None = None
    twin_of: TwinOf | None = None

    def classification_only(self) -> Objective:
        """Without what needs single tokens or trainable encoders."""
        weights = replace(self.weights, contrastive=0.0, explanation=0.0)
        return Objective(weights, self.positive)

    def on_cached(self, model: TriModalModel) -> Objective:
        """For frozen encoders: explanations on cached tokens, no alignment."""
        goal = replace(self, weights=replace(self.weights, contrastive=0.0))
        return replace(goal, alignment=None, twin_of=self._twins(model, cached=True))

    def on_encoders(self, model: TriModalModel) -> Objective:
        """For trainable encoders: alignment, and twins encoded as it goes."""
        alignment = self.alignment if self.weights.contrastive else None
        twin_of = self._twins(model, cached=False)
        return replace(self, alignment=alignment, twin_of=twin_of)

    def _twins(self, model: TriModalModel, *, cached: bool) -> TwinOf | None:
        wanted = self.weights.explanation and self.weights.consistent
        if self.twins is None or not wanted:
            return None
        if cached:
            return self.twins.cached(model)
        return self.twins.encoded_now(model)

    def labels(
        self, output: FusionOutput, targets: Tensor, known: Tensor, present: Tensor
    ) -> Tensor:
        """L_cls and L_uni; see :func:`model.network.losses.tri_modal_loss`."""
        return tri_modal_loss(
            output,
            targets,
            known,
            present,
            classification=self.weights.classification,
            unimodal=self.weights.unimodal,
            positive=self.positive,
        )

    def and_more(
        self,
        total: Tensor,
        model: TriModalModel,
        data: Prepared,
        rows: Tensor,
        tokens: Tokens,
    ) -> Tensor:
        """The total plus the weighted L_con and L_exp of a batch, where they are on.

        Args:
            total: Of the label losses.
            model: Whose fusion is explained.
            data: The records that ``rows`` (b,) number.
            rows: The batch.
            tokens: Its encoder outputs, with nothing hidden.
        """
        if self.alignment is not None and self.weights.contrastive:
            present = data.inputs.present[rows]
            patient, answers = data.patients()[rows], data.answers()[rows]
            loss = self.alignment.loss(tokens, present, patient, answers)
            total = total + self.weights.contrastive * loss
        if self.weights.explanation:
            loss = self._explanation(model, data, rows, tokens)
            total = total + self.weights.explanation * loss
        return total

    def _explanation(
        self, model: TriModalModel, data: Prepared, rows: Tensor, tokens: Tokens
    ) -> Tensor:
        """L_exp of the batch's first positive records, each by its first label."""
        positive = (data.targets[rows] > 0.5) & data.known[rows]  # (b, C)
        chosen = positive.any(1).nonzero().squeeze(1)[:MOST_EXPLAINED]
        if not len(chosen):
            return data.targets.new_zeros(())
        here = rows.to(chosen.device)[chosen]
        inside = None
        if data.lesion is not None:
            inside = fitted(data.lesion[here], tokens.image.shape[1])
        return explanation_loss(
            model,
            tokens_at(tokens, chosen),
            data.inputs.present[here],
            positive[chosen].long().argmax(1),
            inside,
            self.weights,
            None if self.twin_of is None else self.twin_of(here),
        )


def tokens_at(tokens: Tokens, rows: Tensor) -> Tokens:
    """Some records of a batch, not trimmed."""
    return Tokens(*(x[rows] for x in (*tokens.content(), *tokens.masks())))


def fitted(mask: Tensor, width: int) -> Tensor:
    """A mask of the first view (b, N) over all tokens of the films (b, width)."""
    if mask.shape[1] >= width:
        return mask[:, :width]
    return padded_to(mask, width)


def positive_weights(targets: Tensor, known: Tensor, most: float = 20.0) -> Tensor:
    """Negatives per positive of each label, so that both count alike.

    Args:
        targets: (n, C) in {0, 1}.
        known: (n, C).
        most: Largest weight: a very rare label must not drown the others.

    Returns:
        (C,) between 1 / most and most; 1 for a label without positives or negatives.
    """
    positives = ((targets > 0.5) & known).sum(0).float()  # (C,)
    negatives = ((targets <= 0.5) & known).sum(0).float()
    both = (positives > 0) & (negatives > 0)
    ratio = negatives / positives.clamp(min=1.0)
    return torch.where(both, ratio.clamp(1 / most, most), torch.ones_like(ratio))
