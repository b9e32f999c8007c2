"""VQA-RAD: questions on radiographs and slices, as one JSON list.

Fields: qid, image_name, image_organ, question, answer, answer_type, question_type,
phrase_type. Source: J. Lau and others, Scientific Data 2018; CC0.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.datasets.json_lines import needed_text, read_document
from model.errors import DatasetFileError

_IMAGE = re.compile(r"[A-Za-z0-9_-]{1,80}\.(?:jpg|jpeg|png)")
# The source writes "CLOSED " and "closed" too.
_TYPES = frozenset({"closed", "open"})


@dataclass(frozen=True, slots=True)
class ImageQuestion:
    """One question on one picture; ``image`` is a bare file name.

    ``closed`` tells a question with few possible answers; ``phrase_type`` tells the
    official parts: those that begin with "test" are the test part.
    """

    qid: str
    image: str
    organ: str
    question: str
    answer: str
    closed: bool
    question_types: tuple[str, ...]
    phrase_type: str

    @property
    def is_test(self) -> bool:
        """Whether it is of the official test part."""
        return self.phrase_type.startswith("test")


def read_vqa_rad(path: Path) -> Iterator[ImageQuestion]:
    """Questions in the order of the file; errors give the place in the list as line.

    Raises:
        DatasetFileError: no JSON list, or an entry that breaks the layout, has a path
            for a picture, or an id that stands twice.
    """
    entries = read_document(path)
    if not isinstance(entries, list):
        raise DatasetFileError(path.name, "is no JSON list")
    seen: set[str] = set()
    for place, entry in enumerate(entries, 1):
        if not isinstance(entry, dict):
            raise DatasetFileError(path.name, "is no JSON object", line=place)
        found = _question(path.name, place, entry)
        if found.qid in seen:
            raise DatasetFileError(path.name, "stands twice", line=place, column="qid")
        seen.add(found.qid)
        yield found


def _question(file: str, place: int, entry: dict[str, Any]) -> ImageQuestion:
    image = needed_text(file, place, entry, "image_name")
    if not _IMAGE.fullmatch(image):
        raise DatasetFileError(
            file, "is no bare picture name", line=place, column="image_name"
        )
    kind = needed_text(file, place, entry, "answer_type").lower()
    if kind not in _TYPES:
        raise DatasetFileError(
            file, "is neither OPEN nor CLOSED", line=place, column="answer_type"
        )
    kinds = needed_text(file, place, entry, "question_type")
    return ImageQuestion(
        qid=_word(file, place, entry, "qid"),
        image=image,
        organ=needed_text(file, place, entry, "image_organ"),
        question=needed_text(file, place, entry, "question"),
        answer=_word(file, place, entry, "answer"),
        closed=kind == "closed",
        question_types=tuple(part.strip() for part in kinds.split(",") if part.strip()),
        phrase_type=needed_text(file, place, entry, "phrase_type"),
    )


def _word(file: str, place: int, entry: dict[str, Any], name: str) -> str:
    """A text, or a whole number written as one: the source has both."""
    found = entry.get(name)
    if isinstance(found, int) and not isinstance(found, bool):
        return str(found)
    return needed_text(file, place, entry, name)
