"""Packed sequences of word pieces, and which of them to hide.

Whole words are hidden, all their pieces at once: the rest of a word would give the
hidden piece away (whole-word masking; the rule 80 % [MASK], 10 % another piece, 10 %
unchanged is that of Devlin et al., 2019).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from model.inference.vocabulary import CLS, PAD, SEP, SPECIAL

MASK = SPECIAL.index("[MASK]")
Ids = NDArray[np.int32]


def pack(documents: Iterable[str], tokenizer: Tokenizer, length: int) -> Ids:
    """Documents one after another, cut into full sequences.

    Each document ends in [SEP], each sequence begins with [CLS]; the rest that does
    not fill a sequence is dropped, so nothing is padded.

    Args:
        documents: Texts, in the order in which they are packed.
        tokenizer: Without special tokens.
        length: Pieces of one sequence, [CLS] included.

    Returns:
        (n, length) piece numbers.
    """
    stream: list[int] = []
    for document in documents:
        stream += tokenizer.encode(document, add_special_tokens=False).ids
        stream.append(SEP)
    body = length - 1
    rows = len(stream) // body
    packed = np.full((rows, length), CLS, dtype=np.int32)
    packed[:, 1:] = np.asarray(stream[: rows * body]).reshape(rows, body)
    return packed


def continuations(pieces: Sequence[str]) -> Tensor:
    """(V,) True for pieces that continue a word."""
    return torch.tensor([piece.startswith("##") for piece in pieces])


def mask_words(
    ids: Tensor, continues: Tensor, rate: float, random: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Hide whole words.

    Args:
        ids: (B, L) piece numbers.
        continues: (V,) from :func:`continuations`.
        rate: Share of words to hide.
        random: Source of the choice; the same state hides the same words.

    Returns:
        Pieces to read (B, L) and which places to predict (B, L). At least one place is
        chosen when any word is there.
    """
    special = (ids == PAD) | (ids == CLS) | (ids == SEP)  # (B, L)
    word = (~continues[ids] | special).cumsum(1)  # (B, L) number of the word
    draw = torch.rand(ids.shape[0], ids.shape[1] + 1, generator=random)
    chance = draw.gather(1, word)  # (B, L) one draw a word
    hidden = (chance < rate) & ~special
    if not hidden.any():
        least = chance.masked_fill(special, 2.0).amin()
        hidden = (chance == least) & ~special
    shown = ids.clone()
    way = torch.rand(ids.shape, generator=random)
    other = torch.randint(
        len(SPECIAL), len(continues), ids.shape, generator=random, dtype=ids.dtype
    )
    shown[hidden & (way < 0.8)] = MASK
    swapped = hidden & (way >= 0.8) & (way < 0.9)
    shown[swapped] = other[swapped]
    return shown, hidden
