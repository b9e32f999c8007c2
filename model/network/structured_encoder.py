"""Measurements to tokens: one token per value, permutation-invariant, gaps left out.

token = LN(E_code + W_code * PLE(z) + T(log1p hours) + E_flag + E_kind). Nothing marks
a position, so the order in which an EHR lists its results cannot matter. Options: an
expected item that was not measured is E_code + E_absent without any value, and a
sensor window is the same token with PLE(mean), slope, minimum and maximum.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.network.blocks import SelfAttention, never_empty
from model.network.config import ValuesConfig
from model.network.inputs import ABSENT, FLAGS, KINDS


class StructuredEncoder(nn.Module):
    """(B, Ns) measurements to (B, Ns, D) tokens."""

    def __init__(self, config: ValuesConfig, width: int) -> None:
        super().__init__()
        self.code = nn.Embedding(config.codes, width)
        self.slope = nn.Embedding(config.codes, config.columns * width)
        self.time = nn.Linear(1, width)
        self.flag = nn.Embedding(len(FLAGS) + config.absent, width)  # ABSENT is last
        self.kind = nn.Embedding(len(KINDS), width)
        self.norm = nn.LayerNorm(width)
        self.layers = nn.ModuleList(
            SelfAttention(width, config.heads) for _ in range(config.depth)
        )
        self.out = nn.LayerNorm(width)
        for table in (self.code, self.slope, self.flag, self.kind):
            nn.init.normal_(table.weight, std=0.3)

    def forward(
        self,
        code: Tensor,
        value: Tensor,
        dt_hours: Tensor,
        flag: Tensor,
        kind: Tensor,
        obs_mask: Tensor,
    ) -> Tensor:
        """Encode the measurements.

        Args:
            code: (B, Ns) rows of the code list.
            value: (B, Ns, K) piecewise-linear encodings, with the columns of a
                sensor window behind them where the configuration has any.
            dt_hours: (B, Ns) age of each value at the cutoff, in hours.
            flag: (B, Ns) interpretation as sent or derived from the range, or ABSENT.
            kind: (B, Ns) laboratory, vital sign, demographic.
            obs_mask: (B, Ns), which measurements exist.

        Returns:
            (B, Ns, D); rows of padding are arbitrary.
        """
        slope = self.slope(code).unflatten(-1, (value.shape[-1], -1))  # (B, Ns, K, D)
        amount = (value.unsqueeze(-2) @ slope).squeeze(-2)  # (B, Ns, D)
        age = self.time(torch.log1p(dt_hours).unsqueeze(-1) / 5.0)  # (B, Ns, D)
        said = (flag != ABSENT).unsqueeze(-1)  # an absent item has no value, no age
        known = torch.where(said, amount + age, amount.new_zeros(()))  # (B, Ns, D)
        tokens = self.code(code) + known  # (B, Ns, D)
        tokens = self.norm(tokens + self.flag(flag) + self.kind(kind))  # (B, Ns, D)
        mask = never_empty(obs_mask)
        for layer in self.layers:
            tokens = layer(tokens, mask)  # (B, Ns, D)
        result: Tensor = self.out(tokens)  # (B, Ns, D)
        return result
