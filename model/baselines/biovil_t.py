"""BioViL-T style: local and global alignment, and a place for the prior film.

After Bannur et al. 2023, "Learning to exploit temporal structure for biomedical
vision-language processing" (CVPR; arXiv 2301.04558), whose local term follows Huang et
al. 2021, "GLoRIA" (ICCV). Kept: a film's tokens beside the difference to the prior
film, found by a transformer over both with time embeddings, and a learnt vector where
there is no prior film; InfoNCE between films and notes; InfoNCE of words against the
patches they attend to. Left out: image-guided word masking, because the shared text
encoder is frozen. Written from the description; no weights or code of that work.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.baselines.contrastive import (
    DualEncoder,
    Embedded,
    Tower,
    align,
    info_nce,
    scored,
)
from model.baselines.prompts import embed_prompts, finding_prompts, prompt_margin
from model.baselines.scored import Floats, Scored
from model.baselines.shared import Shared
from model.network.blocks import SelfAttention
from model.training.stages import pick

#: Pairs of a batch that the local term compares, all with all.
LOCAL_PAIRS = 24
LOCAL_WEIGHT = 0.5
_ATTENTION_SCALE = 10.0


class TemporalTower(nn.Module):
    """Current film and, where there is one, the prior film to the shared space."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.time = nn.Parameter(torch.randn(2, width) * 0.02)  # current, prior
        self.missing = nn.Parameter(torch.randn(width) * 0.02)
        self.compare = SelfAttention(width, heads)
        self.join = nn.Linear(2 * width, width)
        self.tower = Tower(width, heads)

    def forward(
        self,
        current: Tensor,
        mask: Tensor,
        prior: Tensor | None = None,
        prior_mask: Tensor | None = None,
    ) -> Embedded:
        """Embed films.

        Args:
            current: (B, N, D) patch tokens.
            mask: (B, N).
            prior: (B, K, D) patch tokens of the prior film, None without any.
            prior_mask: (B, K); a row without True has no prior film.
        """
        change = self.missing.expand_as(current)  # (B, N, D)
        if prior is not None and prior_mask is not None:
            both = torch.cat([current + self.time[0], prior + self.time[1]], dim=1)
            valid = torch.cat([mask, prior_mask], dim=1)  # (B, N + K)
            seen = self.compare(both, valid)[:, : current.shape[1]]  # (B, N, D)
            has_prior = prior_mask.any(1)[:, None, None]  # (B, 1, 1)
            change = torch.where(has_prior, seen, change)  # (B, N, D)
        joined = self.join(torch.cat([current, change], dim=-1))  # (B, N, D)
        embedded: Embedded = self.tower(joined, mask)
        return embedded


class BioViLT(DualEncoder):
    """Global and local InfoNCE."""

    def image_tower(self, width: int, heads: int) -> nn.Module:
        """Films with a place for the prior one."""
        return TemporalTower(width, heads)

    def loss(self, films: Embedded, notes: Embedded) -> Tensor:
        """Whole films with whole notes, and words with patches."""
        whole = super().loss(films, notes)
        similarity = local_similarity(
            _first(films, LOCAL_PAIRS), _first(notes, LOCAL_PAIRS)
        )  # (b, b)
        return whole + LOCAL_WEIGHT * info_nce(self.scale * similarity)


def _first(embedded: Embedded, count: int) -> Embedded:
    return Embedded(
        embedded.whole[:count], embedded.parts[:count], embedded.mask[:count]
    )


def local_similarity(films: Embedded, notes: Embedded) -> Tensor:
    """How well each note's words are found on each film: (films, notes).

    Every word attends to the patches of a film; its cosine with what it attended to is
    averaged over the words of the note.
    """
    score = torch.einsum("bwp,aip->abwi", notes.parts, films.parts) * _ATTENTION_SCALE
    score = score.masked_fill(~films.mask[:, None, None, :], float("-inf"))
    found = torch.einsum("abwi,aip->abwp", score.softmax(-1), films.parts)
    cosine = (F.normalize(found, dim=-1) * notes.parts).sum(-1)  # (A, B, W)
    words = notes.mask.to(cosine.dtype)  # (B, W)
    mean: Tensor = (cosine * words).sum(-1) / words.sum(-1).clamp(min=1.0)  # (A, B)
    return mean


def biovil_t(shared: Shared) -> Scored:
    """Align films and notes globally and locally, then score."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(shared.recipe.seed)
        config = shared.model.config
        model = BioViLT(config.width, config.heads)
        tokens = shared.training.tokens
        align(
            shared,
            model,
            lambda rows: model.loss(*model.embed(pick(tokens, rows))),
            "BioViL-T style",
        )
    ill = embed_prompts(shared, model, finding_prompts("high"))
    well = embed_prompts(shared, model, finding_prompts("low"))

    def zero_shot(films: Tensor) -> Floats:
        margin: Floats = prompt_margin(films, ill, well).double().numpy()
        return margin

    return scored(shared, model, zero_shot)
