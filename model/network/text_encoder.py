"""Note to tokens: a BERT stack without pooler, every word piece projected to D.

Tokens, not a bag of words, so that a negation keeps its scope. A long note comes in
overlapping windows; each runs through the stack alone, and its tokens go back to the
places they came from.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.errors import ConfigurationError
from model.inference.torchvision_ops import declare_missing_operators
from model.network.blocks import never_empty
from model.network.config import ARCHITECTURES, TextConfig
from model.network.inputs import SECTION_KINDS


def build_bert(config: TextConfig) -> Any:
    """A randomly initialised BERT or MegatronBERT without pooler.

    Raises:
        ConfigurationError: neither of the two architectures, or an unknown activation.
    """
    declare_missing_operators()
    import transformers  # after the operators exist

    if config.architecture not in ARCHITECTURES:
        raise ConfigurationError(f"text architecture must be one of {ARCHITECTURES}")
    family = "Bert" if config.architecture == "bert" else "MegatronBert"
    sizes = getattr(transformers, f"{family}Config")(
        vocab_size=config.vocabulary,
        hidden_size=config.width,
        num_hidden_layers=config.depth,
        num_attention_heads=config.heads,
        intermediate_size=config.feed_forward,
        max_position_embeddings=config.positions or config.max_tokens,
        attention_probs_dropout_prob=0.0,
        hidden_dropout_prob=0.1,
        hidden_act=config.activation,
        type_vocab_size=config.types,
        layer_norm_eps=config.epsilon,
        pad_token_id=config.padding,
    )
    try:
        stack = getattr(transformers, f"{family}Model")
        return stack(sizes, add_pooling_layer=False)
    except (KeyError, ValueError) as error:
        raise ConfigurationError("the text stack cannot be built so") from error


class TextEncoder(nn.Module):
    """(B, Nt) word pieces to (B, Nt, D) tokens."""

    def __init__(self, config: TextConfig, width: int) -> None:
        super().__init__()
        self.config = config
        self.bert = build_bert(config)
        self.project = nn.Linear(config.width, width)
        self.norm = nn.LayerNorm(width)
        if config.sections:
            # From zero: a kind that training never showed must not add noise.
            self.section = nn.Embedding(len(SECTION_KINDS), width)
            nn.init.zeros_(self.section.weight)

    def forward(
        self,
        input_ids: Tensor,
        attn: Tensor,
        section: Tensor | None = None,
        window: Tensor | None = None,
    ) -> Tensor:
        """Encode the notes.

        Args:
            input_ids: (B, Nt) word pieces, the windows of a record one after another.
            attn: (B, Nt), which tokens exist; those of a record come first.
            section: (B, Nt) index into SECTION_KINDS; no section when not given.
            window: (B, Nt) window of each token, never falling; one when not given.

        Returns:
            (B, Nt, D); rows of padding are arbitrary.
        """
        return self.tokens(self.states(input_ids, attn, window), section)

    def states(
        self, input_ids: Tensor, attn: Tensor, window: Tensor | None = None
    ) -> Tensor:
        """The stack's own states (B, Nt, W); arguments as for :meth:`forward`."""
        if window is None or self.config.windows == 1:
            return self._stack(input_ids, attn)
        return self._windowed(input_ids, attn, window)

    def tokens(self, states: Tensor, section: Tensor | None = None) -> Tensor:
        """States (B, Nt, W) of the stack to tokens (B, Nt, D) of the shared space."""
        tokens: Tensor = self.project(states)  # (B, Nt, D)
        if self.config.sections and section is not None:
            tokens = tokens + self.section(section)
        normed: Tensor = self.norm(tokens)
        return normed

    def _stack(self, input_ids: Tensor, attn: Tensor) -> Tensor:
        """(R, L), (R, L) -> (R, L, W)."""
        hidden: Tensor = self.bert(
            input_ids=input_ids, attention_mask=never_empty(attn).long()
        ).last_hidden_state
        return hidden

    def _windowed(self, input_ids: Tensor, attn: Tensor, window: Tensor) -> Tensor:
        """Each window alone through the stack: (B, Nt) -> (B, Nt, W)."""
        batch, length = input_ids.shape
        count, longest = self.config.windows, self.config.max_tokens
        slot, sizes = window_slots(attn, window, count, longest)
        rows = sizes.flatten().nonzero().squeeze(1)  # (R,), windows that hold anything
        if not len(rows):
            return self.project.weight.new_zeros(batch, length, self.config.width)
        used = int(sizes.max())
        ids = input_ids.new_zeros(batch, count * longest + 1)
        ids = ids.scatter(1, slot, input_ids)[:, :-1]  # (B, K * L)
        ids = ids.reshape(batch * count, longest)[rows, :used]  # (R, L')
        there = torch.arange(used, device=attn.device) < sizes.flatten()[rows, None]
        hidden = self._stack(ids, there)  # (R, L', W)
        full = hidden.new_zeros(batch * count, longest, hidden.shape[-1])
        full = full.index_copy(0, rows, F.pad(hidden, (0, 0, 0, longest - used)))
        flat = full.view(batch, count * longest, -1)  # (B, K * L, W)
        back = slot.clamp(max=count * longest - 1)[..., None]  # (B, Nt, 1)
        return flat.gather(1, back.expand(-1, -1, flat.shape[-1]))  # (B, Nt, W)


def window_slots(
    attn: Tensor, window: Tensor, count: int, longest: int
) -> tuple[Tensor, Tensor]:
    """Where each token stands when every window gets ``longest`` places of its own.

    Args:
        attn: (B, Nt), which tokens exist.
        window: (B, Nt), window of each token, never falling.
        count: Windows K of a record.
        longest: Places L of a window; tokens beyond share the last one.

    Returns:
        Slots (B, Nt) in 0 to K * L, where K * L is for padding; and how many tokens
        each window holds (B, K).
    """
    window = window.clamp(max=count - 1)
    numbers = torch.arange(count, device=attn.device)[:, None]  # (K, 1)
    sizes = ((window[:, None, :] == numbers) & attn[:, None, :]).sum(-1)  # (B, K)
    starts = sizes.cumsum(1) - sizes  # (B, K)
    place = torch.arange(attn.shape[1], device=attn.device) - starts.gather(1, window)
    slot = window * longest + place.clamp(0, longest - 1)  # (B, Nt)
    return torch.where(attn, slot, count * longest), sizes.clamp(max=longest)
