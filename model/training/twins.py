"""The same records seen otherwise, for the consistency part of the explanation loss.

The film is mirrored and moved by one patch; the sentences of a note come in the
opposite order. Where every token of the twin comes from is known, so that two maps can
be compared token by token. Nothing here is random.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from model.inference.vocabulary import SEP, InputVocabulary
from model.network.fusion import TriModalModel
from model.network.inputs import TriModalInputs
from model.training.cached_tokens import cache_tokens, pick
from model.training.explanation_loss import Twin, TwinOf

_STOPS = (".", ";", "!", "?")


@dataclass(frozen=True, slots=True)
class Twins:
    """Twin inputs of a whole set; ``word_source`` (n, Nt), ``film_source`` (n, Ni)."""

    inputs: TriModalInputs
    film_source: Tensor
    word_source: Tensor

    def encoded_now(self, model: TriModalModel) -> TwinOf:
        """Twins of a batch through the encoders as they are at that moment."""

        def of(rows: Tensor) -> Twin:
            with torch.no_grad():
                tokens = model.encode(self.inputs.select(rows))
            words = tokens.text.shape[1]
            return Twin(
                tokens, self.film_source[rows], self.word_source[rows][:, :words]
            )

        return of

    def cached(self, model: TriModalModel) -> TwinOf:
        """Twins of a batch from tokens that are computed once."""
        kept = cache_tokens(model, self.inputs)

        def of(rows: Tensor) -> Twin:
            tokens = pick(kept, rows)
            films, words = tokens.image.shape[1], tokens.text.shape[1]
            return Twin(
                tokens,
                self.film_source[rows][:, :films],
                self.word_source[rows][:, :words],
            )

        return of


def make_twins(
    model: TriModalModel, inputs: TriModalInputs, vocabulary: InputVocabulary
) -> Twins:
    """Twins of every record.

    Args:
        model: Whose image encoder says how films are cut into patches.
        inputs: n records.
        vocabulary: Which pieces end a sentence.
    """
    rows, columns = model.image_encoder.grid
    film = mirrored_and_moved(inputs.pixels, inputs.pixels.shape[-1] // columns)
    views = inputs.pixels.shape[1]
    one = film_source(rows, columns)  # (N,)
    source = torch.cat(
        [torch.where(one >= 0, one + v * rows * columns, -1) for v in range(views)]
    )
    if model.config.image.global_token:  # a view's global state has no place
        source = torch.cat([source, torch.full((views,), -1)])
    stops = [n for n, piece in enumerate(vocabulary.pieces) if piece in _STOPS]
    words = word_source(inputs, stops)  # (n, Nt)
    device = inputs.pixels.device
    return Twins(
        replace(
            inputs,
            pixels=film,
            input_ids=inputs.input_ids.gather(1, words),
            section=inputs.section.gather(1, words),
        ),
        source.to(device).expand(len(inputs), -1),
        words,
    )


def mirrored_and_moved(pixels: Tensor, by: int) -> Tensor:
    """Left and right exchanged, then moved right by ``by`` pixels, 0 moved in.

    Args:
        pixels: (..., H, W) standardised.
        by: Width of a patch.
    """
    moved = torch.zeros_like(pixels)
    moved[..., by:] = pixels.flip(-1)[..., :-by]
    return moved


def film_source(rows: int, columns: int) -> Tensor:
    """(rows * columns,): the patch of the original that each patch of the twin shows.

    The first column was moved in and shows nothing: -1.
    """
    column = torch.arange(columns)
    origin = torch.where(column > 0, columns - column, -1)  # (columns,)
    first = torch.arange(rows).unsqueeze(1) * columns  # (rows, 1)
    return torch.where(origin >= 0, first + origin, -1).flatten()


def word_source(inputs: TriModalInputs, stops: Sequence[int]) -> Tensor:
    """(n, Nt): the piece that stands at each place once sentences are reversed.

    A sentence ends at a stop; special pieces, padding and the bounds of notes and
    windows stay where they are.
    """
    order = torch.arange(inputs.input_ids.shape[1]).repeat(len(inputs), 1)
    ends = set(stops)
    pieces, words = inputs.input_ids.tolist(), inputs.word.tolist()
    lengths, windows = inputs.attn.sum(1).tolist(), inputs.window.tolist()
    for n, length in enumerate(lengths):
        places = _reversed(pieces[n][:length], words[n], windows[n], ends)
        order[n, :length] = torch.tensor(places, dtype=torch.long)
    return order.to(inputs.input_ids.device)


def _reversed(
    pieces: Sequence[int], words: Sequence[int], windows: Sequence[int], ends: set[int]
) -> list[int]:
    """Places of one note's pieces, the sentences of each stretch in reverse."""
    places: list[int] = []
    stretch: list[list[int]] = [[]]
    for at, piece in enumerate(pieces):
        special = words[at] < 0 or piece == SEP
        if special or (at and windows[at] != windows[at - 1]):
            places += [place for part in reversed(stretch) for place in part]
            stretch = [[]]
        if special:
            places.append(at)
            continue
        stretch[-1].append(at)
        if piece in ends:
            stretch.append([])
    return places + [place for part in reversed(stretch) for place in part]
