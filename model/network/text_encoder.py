"""Note to tokens: a BERT stack without pooler, every word piece projected to D.

Tokens, not a bag of words, so that a negation keeps its scope.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from model.inference.torchvision_ops import declare_missing_operators
from model.network.blocks import never_empty
from model.network.config import TextConfig


def _bert(config: TextConfig) -> Any:
    """A randomly initialised BertModel; weights come from the checkpoint folder."""
    declare_missing_operators()
    from transformers import BertConfig, BertModel  # after the operators exist

    sizes = BertConfig(
        vocab_size=config.vocabulary,
        hidden_size=config.width,
        num_hidden_layers=config.depth,
        num_attention_heads=config.heads,
        intermediate_size=config.feed_forward,
        max_position_embeddings=config.max_tokens,
        attention_probs_dropout_prob=0.0,
        hidden_dropout_prob=0.1,
    )
    return BertModel(sizes, add_pooling_layer=False)


class TextEncoder(nn.Module):
    """(B, Nt) word pieces to (B, Nt, D) tokens."""

    def __init__(self, config: TextConfig, width: int) -> None:
        super().__init__()
        self.bert = _bert(config)
        self.project = nn.Linear(config.width, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, input_ids: Tensor, attn: Tensor) -> Tensor:
        """Encode the notes.

        Args:
            input_ids: (B, Nt) word pieces.
            attn: (B, Nt), which tokens exist.

        Returns:
            (B, Nt, D); rows of padding are arbitrary.
        """
        hidden = self.bert(
            input_ids=input_ids, attention_mask=never_empty(attn).long()
        ).last_hidden_state  # (B, Nt, W)
        tokens: Tensor = self.norm(self.project(hidden))  # (B, Nt, D)
        return tokens
