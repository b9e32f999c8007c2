"""What every fusion module reads and gives: one small contract, so that they compare.

A fusion module never sees what an absent modality holds: :class:`Readable` is blanked
before it arrives. B records, C labels, D width, Nm tokens of modality m, N their sum.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.network.config import TriModalConfig

FIRST = 3  # columns of the missing tokens, before those of the modalities


@dataclass(frozen=True, slots=True)
class Readable:
    """The present evidence; whatever is absent is zero and masked.

    A modality that no record of the batch has is dropped: its stream has no column.
    """

    streams: tuple[Tensor, ...]  # 3 x (B, 1+Nm, D), summary first
    masks: tuple[Tensor, ...]  # 3 x (B, 1+Nm) bool
    summaries: Tensor  # (B, 3, D), zero where absent

    @property
    def there(self) -> Tensor:
        """(B, 3), which modalities have anything to read."""
        return torch.stack([mask.any(1) for mask in self.masks], dim=1)


@dataclass(frozen=True, slots=True)
class Fused:
    """What a fusion module makes of :class:`Readable`.

    ``steps`` holds the logits before any modality and after each one, in MODALITIES
    order, for the fusions that read them one after the other.
    """

    logits: Tensor  # (B, C)
    attention: Tensor  # (B, C, 6+N), rows sum to 1
    state: Tensor  # (B, C, D)
    steps: Tensor | None = None  # (B, 4, C)


@dataclass(frozen=True, slots=True)
class FusionOutput:
    """What one pass through the fusion module gives.

    ``attention`` is where the label queries looked in the last layer, over [3 missing
    tokens, then of each modality its summary and its tokens]: attention, not
    attribution. It is uniform over what could be read where a fusion has no label
    queries over tokens (late, concat, sequential, bottleneck), hence says nothing.
    """

    logits: Tensor  # (B, C)
    unimodal: Tensor  # (B, 3, C), each modality's own head; meaningless where absent
    attention: Tensor  # (B, C, 6 + N), rows sum to 1
    state: Tensor  # (B, C, D), one state per label
    steps: Tensor | None = None  # (B, 4, C), see :class:`Fused`

    @property
    def pooled(self) -> Tensor:
        """(B, D) of unit length: one state per record, to retrieve similar cases by."""
        return F.normalize(self.state.mean(1), dim=-1)


def uniform_attention(readable: Readable, labels: int) -> Tensor:
    """(B, C, 6+N): the same weight on everything that can be read."""
    batch = readable.summaries.shape[0]
    first = readable.masks[0].new_ones(batch, FIRST)  # (B, 3)
    valid = torch.cat([first, *readable.masks], dim=1).float()  # (B, 6+N)
    row = valid / valid.sum(1, keepdim=True)
    return row.unsqueeze(1).expand(-1, labels, -1)  # (B, C, 6+N)


def learnt_tokens(count: int, width: int) -> nn.Parameter:
    """(count, D) free tokens, as large as normalised ones."""
    return nn.Parameter(torch.randn(count, width) * 0.5)


class FusionModule(nn.Module, ABC):
    """The contract itself; every entry of the registry keeps it.

    Takes any presence pattern, the empty one among them; must not depend on the order
    of the tokens of a stream, nor on the other records of the batch.
    """

    def __init__(self, config: TriModalConfig) -> None:
        super().__init__()
        self.labels = len(config.labels)
        self.width = config.width

    @abstractmethod
    def forward(self, readable: Readable) -> Fused:
        """Fuse the present evidence."""
