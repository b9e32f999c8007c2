"""Where masked-word training starts: from counts, not from noise.

Counts of neighbouring pieces already tell what a piece is like; a training run of an
hour would spend most of its steps to find them out again. Word embeddings start as the
leading factors of the positive pointwise mutual information of neighbours (Levy and
Goldberg, NeurIPS 2014), places as sines (Vaswani et al., 2017), the output bias as the
logarithm of each piece's frequency. All of it is trained on afterwards.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse  # type: ignore[import-untyped]
from sklearn.utils.extmath import randomized_svd
from torch import Tensor

from model.inference.vocabulary import SPECIAL
from model.language.masking import Ids

#: Neighbours within so many pieces count, nearer ones more (1 / distance).
WINDOW = 5
#: Spread of the starting embeddings; that of BERT's own noise is 0.02.
SPREAD = 0.04
Floats = NDArray[np.float32]


def neighbour_counts(ids: Ids, vocabulary: int) -> Any:
    """(V, V) sparse symmetric counts of neighbours, special pieces left out."""
    total = sparse.csr_matrix((vocabulary, vocabulary), dtype=np.float64)
    for distance in range(1, WINDOW + 1):
        left, right = ids[:, :-distance].ravel(), ids[:, distance:].ravel()
        real = (left >= len(SPECIAL)) & (right >= len(SPECIAL))
        weights = np.full(int(real.sum()), 1.0 / distance)
        total = total + sparse.coo_matrix(
            (weights, (left[real], right[real])), shape=total.shape
        )
    return (total + total.T).tocsr()


def embeddings(ids: Ids, vocabulary: int, width: int, seed: int) -> Floats:
    """(V, width) starting embeddings of spread :data:`SPREAD`; zeros for the unseen."""
    counts = neighbour_counts(ids, vocabulary).tocoo()
    sums = np.bincount(counts.row, counts.data, minlength=vocabulary)
    # Contexts to the power .75: rare neighbours would dominate otherwise.
    context = sums**0.75
    expected = sums[counts.row] * context[counts.col] / max(context.sum(), 1e-9)
    strength = np.log(counts.data / expected)
    kept = strength > 0
    matrix = sparse.csr_matrix(
        (strength[kept], (counts.row[kept], counts.col[kept])),
        shape=(vocabulary, vocabulary),
    )
    factors = min(width, vocabulary - 1)
    left, values, _ = randomized_svd(matrix, factors, n_iter=4, random_state=seed)
    found = np.zeros((vocabulary, width), dtype=np.float32)
    found[:, :factors] = left * np.sqrt(values)
    told = np.zeros(vocabulary, dtype=np.bool_)
    told[counts.row[kept]] = True
    found[~told] = 0.0  # the factors leave rounding noise in empty rows
    spread = found[np.any(found, axis=1)].std() if found.any() else 1.0
    scaled: Floats = (found * (SPREAD / spread)).astype(np.float32)
    return scaled


def log_frequency(ids: Ids, vocabulary: int) -> Floats:
    """(V,) logarithm of each piece's share, one added to every count."""
    counts = np.bincount(ids.ravel(), minlength=vocabulary).astype(np.float64)
    counts[: len(SPECIAL)] = 0
    counts += 1
    shares: Floats = np.log(counts / counts.sum()).astype(np.float32)
    return shares


def sines(places: int, width: int) -> Tensor:
    """(places, width) sines and cosines of falling frequency."""
    place = torch.arange(places).unsqueeze(1)  # (P, 1)
    half = width // 2
    speed = torch.exp(-torch.arange(half) / half * np.log(10_000.0))  # (W/2,)
    angle = place * speed  # (P, W/2)
    return torch.cat([angle.sin(), angle.cos()], dim=1)[:, :width]


@torch.no_grad()
def initialise(model: Any, ids: Ids, seed: int) -> None:
    """Put the starting weights into a BertForMaskedLM.

    Args:
        model: Changed in place; its width must be even.
        ids: (n, L) the training sequences.
        seed: Of the factorisation.
    """
    table = model.bert.embeddings.word_embeddings.weight  # (V, W)
    found = torch.from_numpy(embeddings(ids, table.shape[0], table.shape[1], seed))
    seen = found.any(dim=1, keepdim=True)
    table.copy_(torch.where(seen, found, table))
    places = model.bert.embeddings.position_embeddings.weight  # (P, W)
    places.copy_(SPREAD * sines(*places.shape))
    bias = torch.from_numpy(log_frequency(ids, table.shape[0]))
    model.cls.predictions.decoder.bias.copy_(bias)
    model.cls.predictions.bias.copy_(bias)
