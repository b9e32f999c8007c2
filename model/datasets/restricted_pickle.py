"""Pickles of plain data, and of nothing else.

A pickle is a program: it may name any function and call it. This reader refuses every
name, so only what the format itself can spell is left: None, booleans, numbers,
strings, bytes, tuples, lists, sets and dictionaries (a file that runs commands when it
is opened).
"""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any, NoReturn

from model.errors import DatasetFileError, PickleRefusedError

MAX_BYTES = 1 << 29
_DAMAGED = (
    *(pickle.UnpicklingError, EOFError, ValueError, IndexError, KeyError),
    *(AttributeError, TypeError, MemoryError, OverflowError, RecursionError),
)


class _NoNames(pickle.Unpickler):
    """An unpickler for which every class and function is unknown."""

    def __init__(self, data: bytes, file: str) -> None:
        super().__init__(io.BytesIO(data))
        self._file = file

    def find_class(self, module: str, name: str) -> NoReturn:
        """Refuse.

        Raises:
            PickleRefusedError: always; the name itself stays out of the message.
        """
        raise PickleRefusedError(f"{self._file} names a class or function: refused")

    def persistent_load(self, pid: Any) -> NoReturn:
        """Refuse.

        Raises:
            PickleRefusedError: always.
        """
        raise PickleRefusedError(f"{self._file} points outside itself: refused")


def read_plain_pickle(path: Path, *, max_bytes: int = MAX_BYTES) -> Any:
    """The data of a pickle that holds plain data only.

    Args:
        path: the file.
        max_bytes: a larger file is refused before it is read.

    Raises:
        PickleRefusedError: it names a class, a function or a thing outside.
        DatasetFileError: it cannot be read, is larger than ``max_bytes`` or is damaged.
    """
    try:
        if path.stat().st_size > max_bytes:
            raise DatasetFileError(path.name, "is too large")
        data = path.read_bytes()
    except OSError as error:
        raise DatasetFileError(path.name, "cannot be opened") from error
    try:
        return _NoNames(data, path.name).load()
    except _DAMAGED as error:
        raise DatasetFileError(path.name, "is no whole pickle") from error
