"""The small parts that the encoders and the fusion module share.

Attention runs through ``scaled_dot_product_attention`` with a boolean key mask; a row
without any valid key keeps its first one, so that no softmax is empty, and its output
is discarded by the caller.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(B, N, D) -> (B, heads, N, D / heads)."""
    batch, length, width = x.shape
    return x.view(batch, length, heads, width // heads).transpose(1, 2)


def join_heads(x: Tensor) -> Tensor:
    """(B, heads, N, d) -> (B, N, heads * d)."""
    return x.transpose(1, 2).flatten(2)


def blank_invalid(x: Tensor, mask: Tensor) -> Tensor:
    """Zero the tokens (B, N, D) that ``mask`` (B, N) marks as not there.

    A selection, not a product: a NaN in an absent token stays out.
    """
    return torch.where(mask.unsqueeze(-1), x, x.new_zeros(()))


def never_empty(mask: Tensor) -> Tensor:
    """The mask (B, N) with its first key valid wherever a row has none."""
    first = torch.zeros_like(mask)
    first[:, 0] = True
    return mask | (first & ~mask.any(1, keepdim=True))


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Attention of (B, h, Nq, d) over (B, h, Nk, d) with key mask (B, Nk)."""
    keys = mask[:, None, None, :]  # (B, 1, 1, Nk)
    mixed: Tensor = F.scaled_dot_product_attention(q, k, v, attn_mask=keys)
    return mixed  # (B, h, Nq, d)


class FeedForward(nn.Module):
    """Pre-norm residual feed-forward: x + W2 gelu(W1 LN(x))."""

    def __init__(self, width: int, multiple: int = 2, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, multiple * width)
        self.down = nn.Linear(multiple * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        hidden = F.gelu(self.up(self.norm(x)))  # (B, N, multiple * D)
        result: Tensor = x + self.dropout(self.down(hidden))  # (B, N, D)
        return result


class SelfAttention(nn.Module):
    """Pre-norm residual self-attention over valid tokens, then a feed-forward."""

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.feed_forward = FeedForward(width, dropout=dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, N, D), (B, N) -> (B, N, D)."""
        q, k, v = self.qkv(self.norm(x)).chunk(3, dim=-1)  # 3 x (B, N, D)
        q, k, v = (split_heads(part, self.heads) for part in (q, k, v))
        mixed = join_heads(attend(q, k, v, mask))  # (B, N, D)
        result: Tensor = self.feed_forward(x + self.out(mixed))  # (B, N, D)
        return result


class AttentionPool(nn.Module):
    """One learnt query that weighs the valid tokens of one modality."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.score = nn.Linear(width, 1)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, N, D), (B, N) -> (B, D)."""
        score = self.score(x).squeeze(-1)  # (B, N)
        score = score.masked_fill(~never_empty(mask), float("-inf"))
        weight = score.softmax(-1)  # (B, N)
        pooled: Tensor = self.norm((weight.unsqueeze(1) @ x).squeeze(1))  # (B, D)
        return pooled
