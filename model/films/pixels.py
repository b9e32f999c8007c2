"""Films as one array in memory: decoded once, kept as bytes, standardised per batch.

Sizes: n films, S x S pixels. A film is fitted as ``letterbox`` of the hook path does
it, so that an encoder trained here reads the same pixels there.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from model.errors import DatasetError
from model.films.folder import FilmFolder, FilmRow

Bytes = NDArray[np.uint8]


def film_bytes(
    folder: FilmFolder,
    rows: Sequence[FilmRow],
    size: int,
    *,
    cache: Path | None = None,
    progress: bool = True,
) -> Bytes:
    """Decode films: (n, S, S), each stretched to the square that its carrier used.

    Args:
        folder: Where the films are.
        rows: n films, all square.
        size: S.
        cache: Folder for decoded films, named by what they are; None keeps nothing.
        progress: Draw a bar.

    Raises:
        DatasetError: a film is unreadable or not square.
    """
    names = "\n".join(row.image for row in rows)
    key = hashlib.sha256(f"{folder.folder.resolve()}\n{names}".encode()).hexdigest()
    path = None if cache is None else cache / f"films-{size}-{key[:16]}.npy"
    if path is not None and path.is_file():
        kept: Bytes = np.load(path)
        return kept
    films = np.zeros((len(rows), size, size), dtype=np.uint8)
    for number, row in enumerate(tqdm(rows, desc="films", disable=not progress)):
        films[number] = _square(folder, row, size)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, films)
    return films


def _square(folder: FilmFolder, row: FilmRow, size: int) -> Bytes:
    pixels = folder.pixels(row)
    if pixels.shape[0] != pixels.shape[1]:
        raise DatasetError(f"{row.image} is not square")
    picture = Image.fromarray((pixels * 255).round().astype(np.uint8))
    shrinks = pixels.shape[0] > size
    method = Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR
    return np.asarray(picture.resize((size, size), method), dtype=np.uint8)


def standardised(films: Bytes | Tensor) -> Tensor:
    """Bytes (b, S, S) to (b, 1, S, S) with mean 0 and deviation 1 of each film."""
    x = torch.as_tensor(films).float().unsqueeze(1) / 255.0  # (b, 1, S, S)
    return standardise(x)


def standardise(x: Tensor) -> Tensor:
    """Each film (b, 1, S, S) by its own mean and deviation, as ``letterbox`` does."""
    mean = x.mean((1, 2, 3), keepdim=True)
    spread = x.std((1, 2, 3), keepdim=True, correction=0)
    result: Tensor = (x - mean) / (spread + 1e-3)
    return result


def augmented(
    films: Bytes, random: torch.Generator, *, mirror: bool = False
) -> tuple[Tensor, Tensor]:
    """Films as another exposure and positioning would have shown them.

    Turned by up to 8 degrees, scaled by up to 15 % (each axis its own), moved by up to
    8 %; another exposure (gamma) and a little noise.

    Args:
        films: (b, S, S) bytes.
        random: Source of the changes.
        mirror: Mirror every second film. Off unless asked for: the heart lies on the
            left, and a mirrored film is another patient's anatomy.

    Returns:
        Standardised films (b, 1, S, S), and the (b, 2, 3) matrices that map places of
        the new film to places of the old one, both in [-1, 1].
    """
    x = torch.from_numpy(films).float().unsqueeze(1) / 255.0  # (b, 1, S, S)
    draw = torch.rand(len(x), 6, generator=random) * 2 - 1  # (b, 6)
    angle = draw[:, 0] * math.radians(8)
    wide, high = (draw[:, 1:3] * 0.15).exp().unbind(1)
    cos, sin = angle.cos(), angle.sin()
    across = torch.stack([cos * wide, -sin * high, draw[:, 3] * 0.16], 1)  # (b, 3)
    down = torch.stack([sin * wide, cos * high, draw[:, 4] * 0.16], 1)  # (b, 3)
    place = torch.stack([across, down], dim=1)  # (b, 2, 3)
    if mirror:
        side = torch.rand(len(x), generator=random).round() * 2 - 1  # (b,), -1 or 1
        place[:, :, 0] *= side.unsqueeze(1)
    grid = F.affine_grid(place, list(x.shape), align_corners=False)
    moved = F.grid_sample(x, grid, padding_mode="border", align_corners=False)
    gamma = (draw[:, 5] * 0.3).exp().view(-1, 1, 1, 1)
    seen = standardise(moved.clamp(1e-3, 1.0) ** gamma)  # (b, 1, S, S)
    noise = torch.randn(seen.shape, generator=random) * 0.05
    return seen + noise, place


def views(x: Tensor) -> list[Tensor]:
    """The film, and what it looks like a little nearer and a little farther.

    Args:
        x: (b, 1, S, S) standardised films.

    Returns:
        Three sets of films of the same shape, the first as given.
    """
    shown = [x]
    for zoom in (0.92, 1.08):
        place = torch.tensor([[zoom, 0.0, 0.0], [0.0, zoom, 0.0]])
        grid = F.affine_grid(
            place.expand(len(x), 2, 3), list(x.shape), align_corners=False
        )
        moved = F.grid_sample(x, grid, padding_mode="border", align_corners=False)
        shown.append(standardise(moved))
    return shown
