"""What training minimises: masked cross-entropy, plus each modality's own share."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from model.network.fusion import FusionOutput

UNIMODAL_WEIGHT = 0.15


def masked_bce(logits: Tensor, targets: Tensor, known: Tensor) -> Tensor:
    """Binary cross-entropy over the labels that are known.

    Args:
        logits: (B, C).
        targets: (B, C) in [0, 1]; anything where unknown.
        known: (B, C) bool; False for a label nobody determined.

    Returns:
        Scalar mean over the known entries; 0 when there are none.
    """
    weight = known.to(logits.dtype)
    clean = targets.where(known, targets.new_zeros(()))
    loss = F.binary_cross_entropy_with_logits(logits, clean, reduction="none")
    return (loss * weight).sum() / weight.sum().clamp(min=1.0)


def tri_modal_loss(
    output: FusionOutput, targets: Tensor, known: Tensor, present: Tensor
) -> Tensor:
    """Fused cross-entropy plus 0.15 of the unimodal heads' cross-entropy.

    Args:
        output: Of the fusion module.
        targets: (B, C) in [0, 1].
        known: (B, C) bool.
        present: (B, 3); the head of an absent modality is not trained.

    Returns:
        Scalar.
    """
    fused = masked_bce(output.logits, targets, known)
    shape = output.unimodal.shape  # (B, 3, C)
    own = masked_bce(
        output.unimodal.flatten(1),
        targets.unsqueeze(1).expand(shape).flatten(1),
        (known.unsqueeze(1) & present.unsqueeze(-1)).flatten(1),
    )
    return fused + UNIMODAL_WEIGHT * own
