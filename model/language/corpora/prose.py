"""Corpora that serve as running text: MedQuAD, MTS-Dialog, ACI-BENCH, PriMock57.

Each reader gives whole documents by split, as the corpus wrote them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from model.errors import CorpusError
from model.language.corpora.files import (
    find_file,
    members,
    parse_json,
    parse_xml,
    read_table,
)

MEDQUAD_ARCHIVE = "MedQuAD-with-answers.tar.gz"
PRIMOCK_ARCHIVE = "primock57-notes-transcripts.tar.gz"
_MTS_FILES = {
    "train": "MTS-Dialog-TrainingSet.csv",
    "dev": "MTS-Dialog-ValidationSet.csv",
    "test": "MTS-Dialog-TestSet-1-MEDIQA-Chat-2023.csv",
    "test2": "MTS-Dialog-TestSet-2-MEDIQA-Sum-2023.csv",
}
_ACI_FILES = {
    "train": "train.csv",
    "dev": "valid.csv",
    "test": "clinicalnlp_taskB_test1.csv",
    "test2": "clinicalnlp_taskC_test2.csv",
    "test3": "clef_taskC_test3.csv",
}
_SPOKEN = re.compile(r'^\s*text = "((?:[^"]|"")*)"\s*$', re.MULTILINE)
_STARTS = re.compile(r"^\s*xmin = ([\d.]+)\s*$", re.MULTILINE)
_MARKUP = re.compile(r"<[^<>]*>")


@dataclass(frozen=True, slots=True)
class Answer:
    """One MedQuAD pair: what is asked of which kind, and the answer's text."""

    name: str
    focus: str
    question_type: str
    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class Dialogue:
    """One visit: what was said, what was noted, under which heading (MTS-Dialog)."""

    name: str
    dialogue: str
    note: str
    section: str = ""


def read_medquad(folder: Path) -> list[Answer]:
    """All pairs that have an answer, in the order of the archive's names.

    Raises:
        CorpusError: the archive is missing, or a document is no MedQuAD XML.
    """
    answers = []
    for name, text in members(folder, MEDQUAD_ARCHIVE, ".xml"):
        root = parse_xml(text, name)
        # Five documents are written with other tags than the rest.
        lower = root.tag == "doc"
        focus = root.findtext("doctitle-focus" if lower else "Focus") or ""
        if root.find("qaPairs" if lower else "QAPairs") is None:
            raise CorpusError(f"{name} is no MedQuAD document")
        for pair in root.iter("pair" if lower else "QAPair"):
            question = pair.find("question" if lower else "Question")
            answer = (pair.findtext("answer" if lower else "Answer") or "").strip()
            if question is None:
                raise CorpusError(f"{name}: a pair has no question")
            if answer:
                answers.append(
                    Answer(
                        name=question.get("qid") or name,
                        focus=focus.strip(),
                        question_type=question.get("qtype") or "",
                        question=(question.text or "").strip(),
                        answer=answer,
                    )
                )
    return answers


def read_mts_dialog(folder: Path, split: str) -> list[Dialogue]:
    """Dialogues with their note section; ``split`` train, dev, test or test2.

    Raises:
        CorpusError: the file is missing or lacks a column.
    """
    columns = ("ID", "section_header", "section_text", "dialogue")
    rows = read_table(find_file(folder, _known(_MTS_FILES, split)), columns)
    return [
        Dialogue(row["ID"], row["dialogue"], row["section_text"], row["section_header"])
        for row in rows
    ]


def read_aci_bench(folder: Path, split: str) -> list[Dialogue]:
    """Visits with their note; ``split`` train, dev, test, test2 or test3.

    Raises:
        CorpusError: the file is missing or lacks a column.
    """
    columns = ("dataset", "encounter_id", "dialogue", "note")
    path = find_file(folder / "challenge_data", _known(_ACI_FILES, split))
    rows = read_table(path, columns)
    return [Dialogue(row["encounter_id"], row["dialogue"], row["note"]) for row in rows]


def _known(files: Mapping[str, str], split: str) -> str:
    try:
        return files[split]
    except KeyError as error:
        raise CorpusError(f"no split {split}: {', '.join(files)}") from error


def read_primock57(folder: Path) -> list[Dialogue]:
    """Mock consultations: utterances of both speakers by time, and the note.

    Raises:
        CorpusError: the archive is missing, a note is malformed, or a consultation has
            no transcript.
    """
    turns: dict[str, list[tuple[float, str]]] = {}
    for name, text in members(folder, PRIMOCK_ARCHIVE, ".TextGrid"):
        visit = _stem(name).rsplit("_", 1)[0]
        turns.setdefault(visit, []).extend(_utterances(text, name))
    visits = []
    for name, text in members(folder, PRIMOCK_ARCHIVE, ".json"):
        visit, content = _stem(name), parse_json(text, name)
        note = content.get("note") if isinstance(content, dict) else None
        if not isinstance(note, str) or visit not in turns:
            raise CorpusError(f"{name}: no note or no transcript")
        said = "\n".join(words for _, words in sorted(turns[visit]))
        visits.append(Dialogue(visit, said, note))
    return visits


def _stem(name: str) -> str:
    return name.rsplit("/", 1)[-1].rsplit(".", 1)[0]


def _utterances(text: str, name: str) -> list[tuple[float, str]]:
    """Start in seconds and words of each interval that holds speech."""
    spoken = _SPOKEN.findall(text)
    # The grid and the tier have a start of their own, before the first interval's.
    starts = [float(start) for start in _STARTS.findall(text)][-len(spoken) :]
    if not spoken or len(starts) != len(spoken):
        raise CorpusError(f"{name} is no TextGrid of intervals")
    utterances = []
    for start, words in zip(starts, spoken):
        plain = " ".join(_MARKUP.sub(" ", words.replace('""', '"')).split())
        if plain:
            utterances.append((start, plain))
    return utterances
