"""JSON files and JSON lines of a data set, with errors that name file and line only."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from model.errors import DatasetFileError

MAX_LINE = 1 << 22
MAX_FILE = 1 << 28


def read_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number and object of every line that is not blank.

    Raises:
        DatasetFileError: no readable UTF-8 file, a line that is no JSON object, or one
            of more than 4 MiB.
    """
    try:
        stream = path.open(encoding="utf-8-sig", newline="\n")
    except OSError as error:
        raise DatasetFileError(path.name, "cannot be opened") from error
    with stream:
        number = 0
        while True:
            number += 1
            try:
                line = stream.readline(MAX_LINE)
            except (OSError, UnicodeDecodeError) as error:
                raise DatasetFileError(
                    path.name, "is not UTF-8 text", line=number
                ) from error
            if not line:
                return
            if len(line) >= MAX_LINE and not line.endswith("\n"):
                raise DatasetFileError(path.name, "is too long a line", line=number)
            if line.strip():
                yield number, _object(path.name, number, line)


def read_document(path: Path) -> Any:
    """The one JSON value of a file.

    Raises:
        DatasetFileError: no readable UTF-8 file of at most 256 MiB, or no JSON.
    """
    try:
        if path.stat().st_size > MAX_FILE:
            raise DatasetFileError(path.name, "is larger than 256 MiB")
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise DatasetFileError(path.name, "cannot be opened") from error
    except (ValueError, RecursionError) as error:
        raise DatasetFileError(path.name, "is not JSON") from error


def needed_text(file: str, line: int, row: dict[str, Any], name: str) -> str:
    """A field that must be a string with something in it.

    Raises:
        DatasetFileError: it is missing, empty or of another type.
    """
    found = row.get(name)
    if not isinstance(found, str) or not found.strip():
        raise DatasetFileError(file, "is no text", line=line, column=name)
    return found.strip()


def _object(name: str, number: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DatasetFileError(name, "is not JSON", line=number) from error
    if not isinstance(row, dict):
        raise DatasetFileError(name, "is no JSON object", line=number)
    return row
