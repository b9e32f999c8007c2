"""Image and note in one space: the frame that three published methods share.

Two towers on the frozen encoders' tokens (one transformer layer, attention pooling, a
projection) are trained so that what belongs together lies together; *what* belongs
together is each method's own loss. Two scores come out: a linear classifier on the
embeddings of image and note, fitted on the training labels, and a zero-shot score of
the image against prompts, which has seen no label.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from model.baselines.scored import Floats, Scored
from model.baselines.shared import Part, Shared
from model.network.blocks import AttentionPool, SelfAttention
from model.network.fusion import Tokens
from model.training.optimise import in_batches, optimise
from model.training.stages import pick

PAIR, IMAGE_ONLY = "image+text", "image"
MAX_LOG_SCALE = math.log(100.0)
_FIRST_SCALE = math.log(1 / 0.07)
_BATCH = 256
_RANKED = 500


@dataclass(frozen=True, slots=True)
class Embedded:
    """A batch in the shared space; every vector has unit length."""

    whole: Tensor  # (B, P)
    parts: Tensor  # (B, N, P)
    mask: Tensor  # (B, N) bool


class Tower(nn.Module):
    """Tokens of one modality to the shared space of P dimensions."""

    def __init__(self, width: int, heads: int, joint: int | None = None) -> None:
        super().__init__()
        joint = joint or width
        self.layer = SelfAttention(width, heads)
        self.pool = AttentionPool(width)
        self.to_whole = nn.Linear(width, joint)
        self.to_parts = nn.Linear(width, joint)

    def forward(self, tokens: Tensor, mask: Tensor) -> Embedded:
        """(B, N, D), (B, N) -> the embedding of the whole and of every token."""
        x = self.layer(tokens, mask)  # (B, N, D)
        whole = F.normalize(self.to_whole(self.pool(x, mask)), dim=-1)  # (B, P)
        parts = F.normalize(self.to_parts(x), dim=-1)  # (B, N, P)
        return Embedded(whole, parts, mask)


class DualEncoder(nn.Module):
    """An image tower, a note tower and one learnt scale; the loss is the method's."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.image = self.image_tower(width, heads)
        self.text = Tower(width, heads)
        self.log_scale = nn.Parameter(torch.tensor(_FIRST_SCALE))

    def image_tower(self, width: int, heads: int) -> nn.Module:
        """The tower for films; a method with a prior film has another one."""
        return Tower(width, heads)

    @property
    def scale(self) -> Tensor:
        """Inverse temperature, at most 100 (Radford et al., 2021)."""
        return self.log_scale.clamp(0.0, MAX_LOG_SCALE).exp()

    def embed(self, tokens: Tokens) -> tuple[Embedded, Embedded]:
        """Films and notes of a batch in the shared space."""
        films: Embedded = self.image(tokens.image, tokens.image_mask)
        notes: Embedded = self.text(tokens.text, tokens.text_mask)
        return films, notes

    def loss(self, films: Embedded, notes: Embedded) -> Tensor:
        """Scalar loss of a batch whose rows belong together."""
        return info_nce(self.scale * films.whole @ notes.whole.T)


def info_nce(similarity: Tensor) -> Tensor:
    """Symmetric InfoNCE of a square matrix (B, B) whose diagonal are the pairs."""
    wanted = torch.arange(len(similarity), device=similarity.device)  # (B,)
    both = (similarity, similarity.T)
    return torch.stack([F.cross_entropy(s, wanted) for s in both]).mean()


def align(
    shared: Shared,
    model: DualEncoder,
    batch_loss: Callable[[Tensor], Tensor],
    name: str,
) -> list[float]:
    """Train the towers on the cached tokens of the training cases.

    Args:
        shared: Cases and encoders of one seed.
        model: Changes.
        batch_loss: Rows (b,) of the training cases to a scalar.
        name: Shown beside the progress bar.

    Returns:
        Loss per epoch.
    """
    model.train()
    losses = optimise(
        name,
        model.parameters(),
        len(shared.training.cases),
        batch_loss,
        shared.settings.contrastive,
        seed=shared.recipe.seed,
        progress=shared.recipe.progress,
    )
    model.eval()
    return losses


@torch.no_grad()
def embeddings(model: DualEncoder, part: Part) -> tuple[Tensor, Tensor]:
    """Films and notes of all cases in the shared space: 2 x (n, P)."""
    films, notes = [], []
    for rows in in_batches(torch.arange(len(part.cases)), _BATCH):
        film, note = model.embed(pick(part.tokens, rows))
        films.append(film.whole)
        notes.append(note.whole)
    return torch.cat(films), torch.cat(notes)


def pair_features(films: Tensor, notes: Tensor) -> NDArray[np.float64]:
    """What the linear classifier reads: both embeddings and their product, (n, 3P)."""
    joined = torch.cat([films, notes, films * notes], dim=1)  # (n, 3P)
    features: NDArray[np.float64] = joined.double().numpy()
    return features * math.sqrt(films.shape[1])


def scored(
    shared: Shared, model: DualEncoder, zero_shot: Callable[[Tensor], Floats]
) -> Scored:
    """Both scores of a trained dual encoder, and how well it finds the true note.

    Args:
        shared: Cases and encoders of one seed.
        model: Trained.
        zero_shot: Film embeddings (n, P) to scores (n,), higher is more likely.
    """
    classifier = LogisticRegression(C=1.0, max_iter=2_000)
    seen = embeddings(model, shared.training)
    classifier.fit(pair_features(*seen), shared.training.truth)
    held_out = embeddings(model, shared.held_out)
    tested = embeddings(model, shared.tested)
    parameters = sum(p.numel() for p in model.parameters())

    def both(found: tuple[Tensor, Tensor]) -> dict[str, Floats]:
        return {
            PAIR: classifier.decision_function(pair_features(*found)),
            IMAGE_ONLY: zero_shot(found[0]),
        }

    return Scored(
        both(held_out),
        both(tested),
        {
            "parameters": float(parameters + classifier.coef_.size + 1),
            "true_pair_rank": true_pair_rank(*tested),
        },
    )


def true_pair_rank(films: Tensor, notes: Tensor, most: int = _RANKED) -> float:
    """Mean share of other notes that are closer to a film than its own; .5 is chance.

    Args:
        films: (n, P).
        notes: (n, P), same order.
        most: Cases to rank among.
    """
    similarity = films[:most] @ notes[:most].T  # (k, k)
    own = similarity.diagonal().unsqueeze(1)  # (k, 1)
    others = max(1, len(similarity) - 1)
    return float(((similarity > own).float().sum(1) / others).mean())
