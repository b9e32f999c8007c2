"""Films of our own generator as a third source of the encoder: a lesion with its box.

The demonstration serves rendered films, so the encoder that ships must read them too.
They have a head of their own, like every source: a rendered shadow is no finding of a
real film. What is asked: is there an opacity (a lesion of high severity; one of low
severity is a shadow that counts as none, the one between is not asked), and which of
the generator's shapes it has.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from model.films.film_model import FilmConfig
from model.films.folder import (
    OPACITY,
    RENDERED,
    RETICULAR,
    RING,
    Box,
    FilmRow,
    answers,
)
from model.films.pixels import Bytes
from model.films.training_set import FilmSet
from model.synthetic.case import SynthCase
from model.synthetic.generate import generate
from model.synthetic.latents import ImagePattern, Severity, Split

#: Sides at which films are rendered before they are stretched: a served film may have
#: any, and one that was small is soft.
SIDES = (64, 96, 128, 192, 224)
_SPLITS = {"train": Split.TRAIN, "val": Split.VALIDATION, "test": Split.TEST}
#: Added to the seed, so that no case of the tri-modal sets is met again.
_SEED = 50_000

Table = NDArray[np.int64]


def rendered_set(
    count: int,
    config: FilmConfig,
    split: str,
    *,
    seed: int = 7,
    cache: Path | None = None,
    progress: bool = True,
) -> FilmSet:
    """Render films with their answers and boxes.

    Args:
        count: How many films.
        config: Of the network that reads them.
        split: "train", "val" or "test": the generator's seed namespace.
        seed: Zero or positive.
        cache: Folder of rendered films.
        progress: Draw a bar.
    """
    size = config.image.size
    path = None
    if cache is not None:
        path = cache / f"rendered-{size}-{split}-{seed}-{count}.npz"
    if path is not None and path.is_file():
        with np.load(path, allow_pickle=False) as kept:
            films, table = kept["films"], kept["table"]
    else:
        films, table = _render(count, size, split, seed, progress)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savez(path, films=films, table=table)
    rows = tuple(
        _row(number, line, split, size) for number, line in enumerate(table.tolist())
    )
    return FilmSet(rows, films, tuple(answers(rows, s) for s in config.sources))


def joined(first: FilmSet, second: FilmSet) -> FilmSet:
    """Both sets as one, the first's films first."""
    return FilmSet(
        (*first.rows, *second.rows),
        np.concatenate([first.films, second.films]),
        tuple(np.concatenate(pair) for pair in zip(first.targets, second.targets)),
    )


def _render(
    count: int, size: int, split: str, seed: int, progress: bool
) -> tuple[Bytes, Table]:
    """Films (n, S, S), and per film severity, pattern, box: (n, 6)."""
    films = np.zeros((count, size, size), dtype=np.uint8)
    table = np.zeros((count, 6), dtype=np.int64)
    cases = tqdm(
        _cases(count, split, seed), "rendered", total=count, disable=not progress
    )
    for number, case in enumerate(cases):
        picture = Image.fromarray((case.image * 255).round().astype(np.uint8))
        shrinks = picture.height > size
        method = Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR
        films[number] = np.asarray(picture.resize((size, size), method))
        severity, pattern = case.latents.seen_severity, case.latents.seen_pattern
        table[number] = (severity[0], pattern[0], *_box(case.mask, size))
    return films, table


def _cases(count: int, split: str, seed: int) -> Iterator[SynthCase]:
    """Cases of every side in turn, each side with a seed of its own."""
    per_side = -(-count // len(SIDES))
    streams = [
        generate(per_side, seed + _SEED + k, image_size=side, split=_SPLITS[split])
        for k, side in enumerate(SIDES)
    ]
    for number in range(count):
        yield next(streams[number % len(SIDES)])


def _box(mask: NDArray[np.bool_], size: int) -> tuple[int, int, int, int]:
    """Left, top, width, height of the lesion in pixels of the stretched film."""
    down, across = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    stretch = size / len(mask)
    left, right = round(across[0] * stretch), round((across[-1] + 1) * stretch)
    top, bottom = round(down[0] * stretch), round((down[-1] + 1) * stretch)
    return left, top, max(1, right - left), max(1, bottom - top)


def _row(number: int, line: list[int], split: str, size: int) -> FilmRow:
    severity, pattern, *place = line
    asked = {Severity.HIGH: 1.0, Severity.LOW: 0.0}
    name = f"rendered-{split}-{number:06d}"
    row = FilmRow(
        image=name,
        patient=name,
        split=split,
        source=RENDERED,
        age=None,
        sex="",
        view="",
        findings={
            OPACITY: asked.get(Severity(severity), float("nan")),
            RING: float(pattern == ImagePattern.RING),
            RETICULAR: float(pattern == ImagePattern.RETICULAR),
        },
        size=(size, size),
    )
    return replace(row, boxes=(Box(OPACITY, *(float(x) for x in place)),))
