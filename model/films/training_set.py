"""Films with the answers of every source: what a film model learns from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.films.film_model import FilmConfig
from model.films.folder import FilmFolder, FilmRow, answers
from model.films.pixels import Bytes, film_bytes


@dataclass(frozen=True)
class FilmSet:
    """Films as bytes (n, S, S) with the targets (n, questions) of every source."""

    rows: Sequence[FilmRow]
    films: Bytes
    targets: tuple[NDArray[np.float32], ...]

    def __len__(self) -> int:
        return len(self.rows)


def film_set(
    folder: FilmFolder,
    rows: Sequence[FilmRow],
    config: FilmConfig,
    *,
    cache: Path | None = None,
    progress: bool = True,
) -> FilmSet:
    """Decode films and look their answers up.

    Args:
        folder: Where the films are.
        rows: The films.
        config: Of the network that reads them.
        cache: Folder of decoded films.
        progress: Draw a bar.
    """
    size = config.image.size
    films = film_bytes(folder, rows, size, cache=cache, progress=progress)
    return FilmSet(rows, films, tuple(answers(rows, s) for s in config.sources))
