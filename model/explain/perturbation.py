"""What happens to the estimate when what an explanation names is taken away.

The film's pixels are replaced by their own 7 x 7 mean, not by a constant: a grey square
in a dark lung would be a finding of its own. Words are taken out of the note before it
is encoded. Every change is judged by the one modality alone, because where film, note
and values say the same the others would hold the estimate up, whatever is explained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from model.explain.attribution import Question
from model.explain.scoring import WORD_SHARES, Floats
from model.network.fusion import Tokens
from model.network.inputs import IMAGE, TEXT, TriModalInputs

#: (note, start, end) of one word.
Place = tuple[int, int, int]

BLUR = 7
FILM_SHARES = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


@dataclass(frozen=True, slots=True)
class FilmCurves:
    """Estimates of the film alone at FILM_SHARES, pixels in falling order of a map."""

    deletion: tuple[float, ...]
    insertion: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class NoteDrops:
    """Fall of the note's own estimate at WORD_SHARES, and the note's own estimate.

    ``without`` the top words (comprehensiveness), with ``only`` them (sufficiency).
    """

    whole: float
    without: tuple[float, ...]
    only: tuple[float, ...]


def raw_alone(question: Question, tokens: Tokens, modality: int) -> list[float]:
    """Raw logit of each row by one modality on its own."""
    pattern = [m == modality for m in range(3)]
    used = torch.tensor([pattern] * len(tokens.image))  # (R, 3)
    with torch.no_grad():
        logits = question.model.fuse(tokens, used.to(question.present.device)).logits
    found: list[float] = logits[:, question.column].double().tolist()
    return found


def alone(question: Question, tokens: Tokens, modality: int) -> list[float]:
    """Calibrated probability of each row by one modality on its own."""
    pattern = [m == modality for m in range(3)]
    platt = question.calibration.of(pattern, question.label)
    return [platt.probability(x) for x in raw_alone(question, tokens, modality)]


def blurred(pixels: Tensor, size: int = BLUR) -> Tensor:
    """Mean over size x size neighbours, edges repeated: (N, 1, H, W), same shape."""
    half = size // 2
    return F.avg_pool2d(F.pad(pixels, (half,) * 4, mode="replicate"), size, 1)


def film_curves(question: Question, heat: Floats) -> FilmCurves:
    """Deletion and insertion of the first film's pixels in the order of ``heat``.

    Args:
        question: A case with a film.
        heat: (H, W) at the size that the model reads; ties in reading order.
    """
    order = torch.from_numpy(np.argsort(-heat, axis=None, kind="stable"))  # (H*W,)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order))
    rank = rank.view(heat.shape).to(question.present.device)  # (H, W)
    taken = torch.stack([rank < round(s * rank.numel()) for s in FILM_SHARES])
    whole = question.inputs.pixels[0, :1]  # (1, 1, H, W)
    smooth = blurred(whole)  # (1, 1, H, W)
    gone = torch.where(taken[:, None], smooth, whole)  # (R, 1, H, W)
    back = torch.where(taken[:, None], whole, smooth)  # (R, 1, H, W)
    chances = films_alone(question, torch.cat([gone, back]))
    steps = len(FILM_SHARES)
    return FilmCurves(tuple(chances[:steps]), tuple(chances[steps:]))


def films_alone(question: Question, pixels: Tensor) -> list[float]:
    """The film's own calibrated probability with other pixels.

    Args:
        question: A case with a film.
        pixels: (R, 1, H, W), each in place of the first film.
    """
    inputs = question.inputs.select([0] * len(pixels))
    changed = inputs.pixels.clone()
    changed[:, 0] = pixels
    with torch.no_grad():
        fresh, mask = question.model.encode_modality(
            replace(inputs, pixels=changed), IMAGE
        )
    rows = question.tokens.repeat(len(pixels))
    return alone(question, replace(rows, image=fresh, image_mask=mask), IMAGE)


def note_drops(question: Question, order: Sequence[Place]) -> NoteDrops:
    """Take the first words of ``order`` out, or everything else, and read again.

    Args:
        question: A case with a note.
        order: Places of all words, the most important first.
    """
    counts = [max(1, round(share * len(order))) for share in WORD_SHARES]
    top = [_is_among(question.inputs, set(order[:count])) for count in counts]
    words = question.inputs.word[0] >= 0  # (Nt,)
    gone = [*top, *(words & ~part for part in top), torch.zeros_like(words)]
    tokens = _notes_without(question, torch.stack(gone))
    chances = alone(question, tokens, TEXT)
    whole, steps = chances[-1], len(counts)
    return NoteDrops(
        whole=whole,
        without=tuple(whole - p for p in chances[:steps]),
        only=tuple(whole - p for p in chances[steps : 2 * steps]),
    )


def note_changes(question: Question, groups: Sequence[set[Place]]) -> list[float]:
    """Fall of the note's own raw logit when each group of words is taken out.

    Args:
        question: A case with a note.
        groups: Places of the words of each group.
    """
    gone = [_is_among(question.inputs, group) for group in (*groups, set())]
    logits = raw_alone(question, _notes_without(question, torch.stack(gone)), TEXT)
    return [logits[-1] - logit for logit in logits[:-1]]


def _notes_without(question: Question, gone: Tensor) -> Tokens:
    """Tokens of the case with other word pieces (R, Nt) taken out of the note."""
    inputs = question.inputs.select([0] * len(gone))
    with torch.no_grad():
        fresh, mask = question.model.encode_modality(
            replace(inputs, attn=inputs.attn & ~gone), TEXT
        )
    return replace(question.tokens.repeat(len(gone)), text=fresh, text_mask=mask)


def _is_among(inputs: TriModalInputs, places: set[Place]) -> Tensor:
    """Which tokens spell one of the words: (Nt,)."""
    columns = zip(
        inputs.note[0].tolist(),
        inputs.word_start[0].tolist(),
        inputs.word_end[0].tolist(),
        (inputs.word[0] >= 0).tolist(),
    )
    found = [word and (n, start, end) in places for n, start, end, word in columns]
    return torch.tensor(found, device=inputs.word.device)
