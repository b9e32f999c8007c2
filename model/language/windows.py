"""A text as words and as windows that fit the encoder; offsets into the original.

Windows end where a sentence ends, so that no window starts in the middle of one unless
a single sentence is longer than the encoder can read. Every word is in one window.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache

import torch
from tokenizers import Tokenizer
from torch import Tensor

from model.errors import CheckpointError
from model.inference.vocabulary import PAD

#: Words that end a sentence.
_ENDS = frozenset(".!?")
#: Numbers that spellings are folded into; two spellings may share one.
SPELLINGS = 16_384


class Shape(IntEnum):
    """How a word is written: what a lower-case vocabulary cannot see."""

    LOWER = 0
    CAPITAL = 1
    ALL_CAPITALS = 2
    MIXED = 3
    NUMBER = 4
    WITH_DIGIT = 5
    OTHER = 6


@dataclass(frozen=True, slots=True)
class Window:
    """Some words of one document, ready to be read.

    ``ids`` with [CLS] and [SEP]; ``words`` are character bounds in the document,
    ``first`` and ``last`` the places in ``ids`` of each word's first and last piece.
    """

    document: int
    ids: tuple[int, ...]
    first: tuple[int, ...]
    last: tuple[int, ...]
    words: tuple[tuple[int, int], ...]
    shapes: tuple[Shape, ...]
    spellings: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class _Word:
    start: int
    end: int
    ids: tuple[int, ...]
    last: bool  # ends a sentence


def shape_of(word: str) -> Shape:
    """How the word is written."""
    if word.isdigit():
        return Shape.NUMBER
    if any(letter.isdigit() for letter in word):
        return Shape.WITH_DIGIT
    if not word.isalpha():
        return Shape.OTHER
    if word.islower():
        return Shape.LOWER
    if word.isupper():
        return Shape.ALL_CAPITALS if len(word) > 1 else Shape.CAPITAL
    return Shape.CAPITAL if word[1:].islower() else Shape.MIXED


@lru_cache(maxsize=100_000)
def spellings_of(word: str) -> tuple[int, ...]:
    """Six numbers below :data:`SPELLINGS`: the word, how it begins, how it ends.

    A rare drug is cut into pieces that tell little; its ending tells what it is. The
    numbers are a checksum, so they need no list and are the same on every machine
    (the hashing trick, Weinberger et al., ICML 2009).
    """
    low = word.lower()
    marks = (f"w{low}", *(f"a{low[:n]}" for n in (3, 4)))
    marks += tuple(f"z{low[-n:]}" for n in (2, 3, 4))
    return tuple(zlib.crc32(mark.encode()) % SPELLINGS for mark in marks)


def windows_of(
    text: str, tokenizer: Tokenizer, longest: int, document: int = 0
) -> list[Window]:
    """Cut a text.

    Args:
        text: The original text.
        tokenizer: Without special tokens.
        longest: Most pieces of a window, [CLS] and [SEP] included.
        document: Number that the windows carry.

    Returns:
        Windows in order of the text; none for a text without words.
    """
    room = longest - 2
    ends = ends_of(tokenizer)
    windows: list[Window] = []
    current: list[_Word] = []
    pending: list[_Word] = []
    for word in _words(text, tokenizer, room):
        pending.append(word)
        if _size(pending) > room:  # a sentence too long to be kept whole
            pending.pop()
            windows += _closed(text, document, ends, current, pending)
            current, pending = [], [word]
        if word.last:
            if _size(current) + _size(pending) > room:
                windows += _closed(text, document, ends, current)
                current = []
            current, pending = [*current, *pending], []
    if _size(current) + _size(pending) > room:
        windows += _closed(text, document, ends, current, pending)
    else:
        windows += _closed(text, document, ends, [*current, *pending])
    return windows


def _size(words: Sequence[_Word]) -> int:
    return sum(len(word.ids) for word in words)


def _words(text: str, tokenizer: Tokenizer, room: int) -> list[_Word]:
    """Words with their pieces; a word of more pieces than fit keeps the first."""
    encoding = tokenizer.encode(text, add_special_tokens=False)
    found: list[tuple[int, int, list[int]]] = []
    before = None
    for number, (start, end), word in zip(
        encoding.ids, encoding.offsets, encoding.word_ids
    ):
        if word == before and found:
            found[-1] = (found[-1][0], end, [*found[-1][2], number])
        else:
            found.append((start, end, [number]))
        before = word
    words = []
    for place, (start, end, ids) in enumerate(found):
        after = found[place + 1][0] if place + 1 < len(found) else len(text)
        gap = text[end:after]
        stop = text[start:end] in _ENDS and (gap != "" or after == len(text))
        words.append(_Word(start, end, tuple(ids[:room]), stop or "\n" in gap))
    return words


def ends_of(tokenizer: Tokenizer) -> tuple[int, int]:
    """Numbers of [CLS] and [SEP]: those of a published folder are not ours.

    Raises:
        CheckpointError: the vocabulary lacks them.
    """
    begin, end = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")
    if begin is None or end is None:
        raise CheckpointError("the vocabulary lacks [CLS] or [SEP]")
    return begin, end


def _closed(
    text: str, document: int, ends: tuple[int, int], *groups: Sequence[_Word]
) -> list[Window]:
    """Each group that is not empty as a window."""
    windows = []
    for words in groups:
        if not words:
            continue
        ids, first, last = [ends[0]], [], []
        for word in words:
            first.append(len(ids))
            ids += word.ids
            last.append(len(ids) - 1)
        written = [text[word.start : word.end] for word in words]
        windows.append(
            Window(
                document,
                (*ids, ends[1]),
                tuple(first),
                tuple(last),
                tuple((word.start, word.end) for word in words),
                tuple(shape_of(word) for word in written),
                tuple(spellings_of(word) for word in written),
            )
        )
    return windows


def padded(rows: Sequence[Sequence[int]], value: int = PAD) -> Tensor:
    """(B, L) numbers of the rows, filled up with ``value``."""
    longest = max(len(row) for row in rows)
    return torch.tensor([[*row, *[value] * (longest - len(row))] for row in rows])
