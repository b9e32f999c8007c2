"""What training minimises first: masked classification, and each modality's own share.

The other terms of the sum (alignment, explainability) need more than one forward pass
and live in :mod:`model.training.contrastive` and
:mod:`model.training.explanation_loss`.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from model.network.fusion import FusionOutput

UNIMODAL_WEIGHT = 0.15
UNKNOWN_CLASS = -1


def masked_bce(
    logits: Tensor, targets: Tensor, known: Tensor, positive: Tensor | None = None
) -> Tensor:
    """Binary cross-entropy over the labels that are known.

    Args:
        logits: (B, C).
        targets: (B, C) in [0, 1]; anything where unknown.
        known: (B, C) bool; False for a label nobody determined.
        positive: (C,) weight of a positive beside a negative; None weighs them alike.

    Returns:
        Scalar mean over the known entries; 0 when there are none.
    """
    weight = known.to(logits.dtype)
    clean = targets.where(known, targets.new_zeros(()))
    loss = F.binary_cross_entropy_with_logits(
        logits, clean, reduction="none", pos_weight=positive
    )
    return (loss * weight).sum() / weight.sum().clamp(min=1.0)


def masked_cross_entropy(logits: Tensor, wanted: Tensor) -> Tensor:
    """Cross-entropy of single-label questions, over the records with an answer.

    Args:
        logits: (B, K), one per class.
        wanted: (B,) long in 0..K-1, or UNKNOWN_CLASS where nobody knows.

    Returns:
        Scalar mean over the known answers; 0 when there are none.
    """
    if not bool((wanted != UNKNOWN_CLASS).any()):
        return logits.sum() * 0.0
    return F.cross_entropy(logits, wanted, ignore_index=UNKNOWN_CLASS)


def tri_modal_loss(
    output: FusionOutput,
    targets: Tensor,
    known: Tensor,
    present: Tensor,
    *,
    classification: float = 1.0,
    unimodal: float = UNIMODAL_WEIGHT,
    positive: Tensor | None = None,
) -> Tensor:
    """Fused cross-entropy plus a share of the unimodal heads' cross-entropy.

    Args:
        output: Of the fusion module.
        targets: (B, C) in [0, 1].
        known: (B, C) bool.
        present: (B, 3); the head of an absent modality is not trained.
        classification: Weight of the fused term.
        unimodal: Weight of the heads' term.
        positive: (C,) weight of positives in both terms, or None.

    Returns:
        Scalar.
    """
    fused = masked_bce(output.logits, targets, known, positive)
    shape = output.unimodal.shape  # (B, 3, C)
    own = masked_bce(
        output.unimodal.flatten(1),
        targets.unsqueeze(1).expand(shape).flatten(1),
        (known.unsqueeze(1) & present.unsqueeze(-1)).flatten(1),
        None if positive is None else positive.repeat(shape[1]),
    )
    return classification * fused + unimodal * own
