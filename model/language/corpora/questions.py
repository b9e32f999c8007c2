"""Questions with options: PubMedQA, HEAD-QA and the medical subjects of MMLU.

MedQA is read by :mod:`model.datasets.medqa`; :func:`medqa_choices` gives its questions
the shape that the choice head wants.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.datasets.medqa import read_medqa
from model.errors import CorpusError
from model.language.corpora.files import find_file, read_json, read_table

PUBMEDQA_OPTIONS = ("yes", "no", "maybe")
HEAD_QA_SPLITS = ("train", "dev", "test")
MMLU_SUBJECTS = (
    "anatomy",
    "clinical_knowledge",
    "college_biology",
    "college_medicine",
    "medical_genetics",
    "professional_medicine",
)


@dataclass(frozen=True, slots=True)
class ChoiceQuestion:
    """One question: ``answer`` is the place of the right one among ``options``.

    ``context`` holds the passages that the question is about, in order; ``image`` is
    true where the question points at a figure that the corpus does not include.
    """

    name: str
    question: str
    options: tuple[str, ...]
    answer: int
    context: tuple[str, ...] = ()
    image: bool = False


def read_pubmedqa(folder: Path) -> dict[str, list[ChoiceQuestion]]:
    """The 1,000 expert-labelled questions, with the official 500 test ids as "test".

    Options are yes, no and maybe; the conclusion of the abstract (LONG_ANSWER) states
    the answer and is never part of the context.

    Raises:
        CorpusError: a file is missing or malformed, or the two files disagree.
    """
    items = _mapping(read_json(find_file(folder, "ori_pqal.json")), "ori_pqal.json")
    truth = _mapping(
        read_json(find_file(folder, "test_ground_truth.json")), "test_ground_truth.json"
    )
    if not truth.keys() <= items.keys():
        raise CorpusError("test_ground_truth.json names unknown questions")
    splits: dict[str, list[ChoiceQuestion]] = {"train": [], "test": []}
    for name in sorted(items):
        question = _pubmedqa(name, items[name])
        if name in truth and truth[name] != question.options[question.answer]:
            raise CorpusError(f"PubMedQA {name}: the two files disagree")
        splits["test" if name in truth else "train"].append(question)
    return splits


def _pubmedqa(name: str, item: Any) -> ChoiceQuestion:
    try:
        answer = PUBMEDQA_OPTIONS.index(item["final_decision"])
        context = tuple(str(part) for part in item["CONTEXTS"])
        return ChoiceQuestion(
            name, str(item["QUESTION"]), PUBMEDQA_OPTIONS, answer, context
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CorpusError(f"PubMedQA {name} is malformed") from error


def _mapping(data: Any, name: str) -> Mapping[str, Any]:
    if not isinstance(data, dict):
        raise CorpusError(f"{name} is no JSON object")
    return data


def read_head_qa(folder: Path, split: str) -> list[ChoiceQuestion]:
    """One split of the English HEAD-QA; train has five options, dev and test four.

    Raises:
        CorpusError: the file is missing or malformed.
    """
    path = find_file(folder, f"{split}_HEAD_EN.json")
    exams = _mapping(read_json(path), path.name).get("exams")
    questions = []
    for exam, content in _mapping(exams, path.name).items():
        try:
            items = content["data"]
            questions += [_head_qa(exam, item) for item in items]
        except (KeyError, TypeError, ValueError) as error:
            raise CorpusError(f"{path.name}: {exam} is malformed") from error
    return questions


def _head_qa(exam: str, item: Mapping[str, Any]) -> ChoiceQuestion:
    numbers = [int(answer["aid"]) for answer in item["answers"]]
    return ChoiceQuestion(
        name=f"{exam}/{item['qid']}",
        question=str(item["qtext"]),
        options=tuple(str(answer["atext"]) for answer in item["answers"]),
        answer=numbers.index(int(item["ra"])),
        image=bool(item["image"]),
    )


def read_mmlu(folder: Path, subject: str, split: str = "test") -> list[ChoiceQuestion]:
    """One subject of MMLU: a CSV with question, choice0 to choice3 and answer 0 to 3.

    Raises:
        CorpusError: the file is missing, or an answer is no number from 0 to 3.
    """
    columns = ("question", *(f"choice{n}" for n in range(4)), "answer")
    path = find_file(folder, f"{subject}_{split}.csv")
    questions = []
    for number, row in enumerate(read_table(path, columns), 1):
        if row["answer"] not in {"0", "1", "2", "3"}:
            raise CorpusError(f"{path.name}: row {number}: answer is not 0 to 3")
        options = tuple(row[name] for name in columns[1:-1])
        questions.append(
            ChoiceQuestion(
                f"{subject}/{number}", row["question"], options, int(row["answer"])
            )
        )
    return questions


def medqa_choices(folder: Path, split: str, layout: str) -> Iterator[ChoiceQuestion]:
    """Questions of a MedQA folder (the one that holds ``questions/US``).

    Raises:
        DatasetFileError: as :func:`model.datasets.medqa.read_medqa`.
    """
    for number, item in enumerate(read_medqa(folder, split, layout=layout), 1):
        yield ChoiceQuestion(
            name=f"medqa/{split}/{number}",
            question=item.question,
            options=tuple(item.options.values()),
            answer=item.answer_index,
        )
