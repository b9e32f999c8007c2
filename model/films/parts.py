"""Which films of a source teach, choose and test: the folder's split, and NIH's own."""

from __future__ import annotations

from dataclasses import dataclass

from model.films.folder import NIH, FilmFolder, FilmRow

#: One patient in so many of the official train_val part validates.
_FIFTH = 5


@dataclass(frozen=True)
class Parts:
    """Training, validation and test films of one source."""

    source: str
    train: tuple[FilmRow, ...]
    val: tuple[FilmRow, ...]
    test: tuple[FilmRow, ...]


def parts_of(folder: FilmFolder, source: str) -> Parts:
    """The folder's own split of one source."""
    train, val, test = (folder.select(source, s) for s in ("train", "val", "test"))
    return Parts(source, train, val, test)


def official_parts(folder: FilmFolder) -> Parts:
    """The split of the original NIH release; a fifth of its patients validates.

    Which fifth is decided by the patient's number among all, so it never changes.
    """
    rows = folder.select(NIH, official="train_val")
    order = {name: k for k, name in enumerate(sorted({row.patient for row in rows}))}
    val = tuple(row for row in rows if order[row.patient] % _FIFTH == 0)
    train = tuple(row for row in rows if order[row.patient] % _FIFTH != 0)
    return Parts(NIH, train, val, folder.select(NIH, official="test"))
