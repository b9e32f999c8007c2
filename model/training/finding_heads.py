"""What an encoder is asked in its own stage; none of it is part of the model."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.network.config import ImageConfig
from model.network.image_backbone import build_backbone, grid_of
from model.network.losses import UNKNOWN_CLASS, masked_cross_entropy
from model.training.training_set import Finding

#: A patch belongs to the lesion when this share of it is covered.
LESION_SHARE = 0.15


class FindingHeads(nn.Module):
    """One linear head per finding on a modality's pooled state; training only."""

    def __init__(self, width: int, findings: Sequence[Finding]) -> None:
        super().__init__()
        self.heads = nn.ModuleList(nn.Linear(width, f.classes) for f in findings)
        self.ask(findings)

    def ask(self, findings: Sequence[Finding]) -> None:
        """Put the same questions about other records."""
        self.targets = [torch.from_numpy(f.target) for f in findings]

    def loss(self, pooled: Tensor, rows: Tensor) -> Tensor:
        """Mean cross-entropy over the findings; (b, D), (b,) -> scalar."""
        losses = [pooled.sum() * 0.0]
        for head, target in zip(self.heads, self.targets):
            wanted = target.to(rows.device)[rows].to(pooled.device)
            if bool((wanted != UNKNOWN_CLASS).any()):
                losses.append(masked_cross_entropy(head(pooled), wanted))
        return torch.stack(losses).sum() / max(1, len(losses) - 1)

    def hits(self, pooled: Tensor, rows: Tensor) -> Tensor:
        """Correct answers (findings, b) as 0/1; NaN where the answer is unknown."""
        answers = []
        for head, target in zip(self.heads, self.targets):
            wanted = target.to(rows.device)[rows].to(pooled.device)
            right = (head(pooled).argmax(-1) == wanted).float()
            answers.append(right.masked_fill(wanted == UNKNOWN_CLASS, float("nan")))
        return torch.stack(answers)


class PatchHeads(nn.Module):
    """What each image patch shows: a finding inside the lesion, nothing outside.

    An auxiliary loss of the image encoder, where lesion masks exist. Without it a
    vision transformer may keep what it has found in any patch it likes, and a map over
    patches would point there.
    """

    def __init__(self, width: int, findings: Sequence[Finding], lesion: Tensor) -> None:
        super().__init__()
        self.heads = nn.ModuleList(nn.Linear(width, f.classes + 1) for f in findings)
        self.targets = [torch.from_numpy(f.target) for f in findings]
        self.lesion = lesion  # (n, Ni)

    def loss(self, x: Tensor, score: Tensor, rows: Tensor) -> Tensor:
        """Patches (b, Ni, D), pooling scores (b, Ni), rows (b,) -> scalar."""
        inside = self.lesion[rows] > 0.5  # (b, Ni), patches of the first view
        x, score = x[:, : inside.shape[1]], score[:, : inside.shape[1]]
        total = F.binary_cross_entropy_with_logits(score, inside.to(score.dtype))
        for head, target in zip(self.heads, self.targets):
            nothing = head.get_parameter("bias").shape[0] - 1  # the extra class
            shown = target.to(rows.device)[rows].to(x.device).unsqueeze(1)  # (b, 1)
            wanted = shown.where(inside, torch.full_like(shown, nothing))  # (b, Ni)
            loss = F.cross_entropy(
                head(x).flatten(0, 1),
                wanted.flatten(),
                reduction="none",
                ignore_index=UNKNOWN_CLASS,
            )  # (b * Ni,)
            for part in (inside.flatten(), ~inside.flatten()):
                total = total + 0.5 * (loss * part).sum() / part.sum().clamp(min=1)
        return total


def lesion_patches(masks: Tensor, grid: tuple[int, int]) -> Tensor:
    """Lesion masks to per-patch targets: 1 where a patch is covered.

    Args:
        masks: (n, H, W) bool.
        grid: Rows and columns of the encoder's patches, see :func:`patch_grid`.

    Returns:
        (n, rows * columns), row-major.
    """
    cover = F.adaptive_avg_pool2d(masks.float().unsqueeze(1), grid)  # (n, 1, r, c)
    return (cover.flatten(1) >= LESION_SHARE).float()  # (n, Ni)


@lru_cache(maxsize=8)
def patch_grid(config: ImageConfig) -> tuple[int, int]:
    """Rows and columns of the patches that an image encoder of this config gives.

    A named backbone cuts films its own way, whatever ``config.patch`` says, so it is
    asked; building one must not move the caller's random numbers.

    Raises:
        ConfigurationError: the backbone cannot be built for this image size.
    """
    if not config.backbone:
        return config.grid, config.grid
    with torch.random.fork_rng(devices=[]):
        return grid_of(build_backbone(config), config.size)
