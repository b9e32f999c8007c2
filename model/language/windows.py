"""A text as words and as windows that fit the encoder; offsets into the original.

Windows end where a sentence ends, so that no window starts in the middle of one unless
a single sentence is longer than the encoder can read. Every word is in one window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import torch
from tokenizers import Tokenizer
from torch import Tensor

from model.inference.vocabulary import CLS, PAD, SEP

#: Words that end a sentence.
_ENDS = frozenset(".!?")


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
    ``first`` the place in ``ids`` of each word's first piece.
    """

    document: int
    ids: tuple[int, ...]
    first: tuple[int, ...]
    words: tuple[tuple[int, int], ...]
    shapes: tuple[Shape, ...]


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
    windows: list[Window] = []
    current: list[_Word] = []
    pending: list[_Word] = []
    for word in _words(text, tokenizer, room):
        pending.append(word)
        if _size(pending) > room:  # a sentence too long to be kept whole
            pending.pop()
            windows += _closed(text, document, current, pending)
            current, pending = [], [word]
        if word.last:
            if _size(current) + _size(pending) > room:
                windows += _closed(text, document, current)
                current = []
            current, pending = [*current, *pending], []
    if _size(current) + _size(pending) > room:
        windows += _closed(text, document, current, pending)
    else:
        windows += _closed(text, document, [*current, *pending])
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


def _closed(text: str, document: int, *groups: Sequence[_Word]) -> list[Window]:
    """Each group that is not empty as a window."""
    windows = []
    for words in groups:
        if not words:
            continue
        ids, first = [CLS], []
        for word in words:
            first.append(len(ids))
            ids += word.ids
        windows.append(
            Window(
                document,
                (*ids, SEP),
                tuple(first),
                tuple((word.start, word.end) for word in words),
                tuple(shape_of(text[word.start : word.end]) for word in words),
            )
        )
    return windows


def padded(rows: Sequence[Sequence[int]], value: int = PAD) -> Tensor:
    """(B, L) numbers of the rows, filled up with ``value``."""
    longest = max(len(row) for row in rows)
    return torch.tensor([[*row, *[value] * (longest - len(row))] for row in rows])
