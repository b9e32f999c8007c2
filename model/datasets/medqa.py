"""MedQA (USMLE): the two published US layouts of multiple-choice questions.

``questions/US/{train,dev,test}.jsonl``
    question, answer, options {A..E}, meta_info, answer_idx
``questions/US/4_options/phrases_no_exclude_{train,dev,test}.jsonl``
    the same with options A to D, and metamap_phrases

Source: D. Jin and others, "What disease does this patient have?", arXiv 2009.13081.

    for question in read_medqa(folder, "dev", layout=FOUR_OPTIONS):
        print(question.question, question.options[question.answer])
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from model.datasets.json_lines import needed_text, read_lines
from model.errors import DatasetFileError

FIVE_OPTIONS = "five"
FOUR_OPTIONS = "four"
LAYOUTS: Mapping[str, str] = MappingProxyType(
    {
        FIVE_OPTIONS: "questions/US/{split}.jsonl",
        FOUR_OPTIONS: "questions/US/4_options/phrases_no_exclude_{split}.jsonl",
    }
)
SPLITS = ("train", "dev", "test")
_LETTERS = "ABCDEFGHIJ"
_LEAST_OPTIONS = 2


@dataclass(frozen=True, slots=True)
class Question:
    """One multiple-choice question.

    ``options`` maps the letter to the text, in the order of the letters; ``answer`` is
    the letter of the right one; ``meta`` holds what the source says beside (exam step,
    phrases, place in the file) and is never an input.
    """

    question: str
    options: Mapping[str, str]
    answer: str
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def answer_index(self) -> int:
        """Place of the right option, from 0."""
        return list(self.options).index(self.answer)


def medqa_file(folder: Path, split: str, layout: str = FIVE_OPTIONS) -> Path:
    """Where a split lies below the folder that holds ``questions``.

    Raises:
        DatasetFileError: unknown split or layout.
    """
    if split not in SPLITS or layout not in LAYOUTS:
        raise DatasetFileError("medqa", "has no such split or layout")
    return folder / LAYOUTS[layout].format(split=split)


def read_medqa(
    folder: Path, split: str, *, layout: str = FIVE_OPTIONS
) -> Iterator[Question]:
    """Questions of one split, streamed.

    Args:
        folder: holds ``questions/US``.
        split: "train", "dev" or "test".
        layout: FIVE_OPTIONS or FOUR_OPTIONS.

    Raises:
        DatasetFileError: as :func:`read_questions`, or no such split or layout.
    """
    return read_questions(medqa_file(folder, split, layout))


def read_questions(path: Path) -> Iterator[Question]:
    """Questions of one file in either layout.

    Raises:
        DatasetFileError: a line that is no JSON object, lacks a field, has options
            that are not A, B, C..., or an answer that is none of them.
    """
    for number, row in read_lines(path):
        yield _question(path.name, number, row)


def _question(file: str, line: int, row: dict[str, Any]) -> Question:
    text = needed_text(file, line, row, "question")
    options = _options(file, line, row.get("options"))
    answer = needed_text(file, line, row, "answer_idx")
    if answer not in options:
        raise DatasetFileError(file, "is no option", line=line, column="answer_idx")
    # Both say which option is right; a file whose two columns differ is mislabelled.
    if needed_text(file, line, row, "answer") != options[answer]:
        raise DatasetFileError(
            file, "is not the option of answer_idx", line=line, column="answer"
        )
    meta: dict[str, Any] = {"file": file, "line": line}
    if isinstance(row.get("meta_info"), str):
        meta["meta_info"] = row["meta_info"]
    phrases = row.get("metamap_phrases")
    if isinstance(phrases, list) and all(isinstance(p, str) for p in phrases):
        meta["metamap_phrases"] = tuple(phrases)
    return Question(text, options, answer, MappingProxyType(meta))


def _options(file: str, line: int, given: object) -> Mapping[str, str]:
    fault = DatasetFileError(
        file, "is no object of letters and texts", line=line, column="options"
    )
    if not isinstance(given, dict) or len(given) < _LEAST_OPTIONS:
        raise fault
    letters = sorted(given)
    if "".join(letters) != _LETTERS[: len(letters)]:
        raise fault
    if not all(isinstance(given[x], str) and given[x].strip() for x in letters):
        raise fault
    return MappingProxyType({x: given[x].strip() for x in letters})
