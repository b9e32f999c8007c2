"""MedQA and VQA-RAD: both layouts, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from model.datasets.medqa import (
    FIVE_OPTIONS,
    FOUR_OPTIONS,
    Question,
    read_medqa,
    read_questions,
)
from model.datasets.vqa_rad import read_vqa_rad
from model.errors import DatasetError, DatasetFileError
from tests.model.datasets.question_files import (
    medqa_row,
    vqa_row,
    write_medqa,
    write_vqa_rad,
)


def lines(tmp_path: Path, *rows: dict[str, Any] | str) -> Path:
    path = tmp_path / "q.jsonl"
    texts = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(texts) + "\n", encoding="utf-8")
    return path


@pytest.mark.component("A23c")
@pytest.mark.parametrize(
    ("layout", "letters"), [(FIVE_OPTIONS, "ABCDE"), (FOUR_OPTIONS, "ABCD")]
)
def test_both_layouts_of_medqa_read(tmp_path: Path, layout: str, letters: str) -> None:
    write_medqa(tmp_path)
    for split in ("train", "dev", "test"):
        questions = list(read_medqa(tmp_path, split, layout=layout))
        assert len(questions) == 20
        first = questions[0]
        assert "".join(first.options) == letters
        assert first.options[first.answer] == f"option {first.answer}"
        assert first.answer_index == letters.index(first.answer)
        assert first.meta["meta_info"] == "step1" and first.meta["line"] == 1
        assert ("metamap_phrases" in first.meta) == (layout == FOUR_OPTIONS)


def test_a_question_cannot_be_changed(tmp_path: Path) -> None:
    (question,) = read_questions(lines(tmp_path, medqa_row(1)))
    assert isinstance(question, Question)
    with pytest.raises(TypeError):
        question.options["A"] = "other"  # type: ignore[index]


@pytest.mark.parametrize("name", ["split", "layout"])
def test_an_unknown_split_or_layout_is_refused(tmp_path: Path, name: str) -> None:
    asked = {"split": "dev", "layout": FIVE_OPTIONS, name: "../secret"}
    with pytest.raises(DatasetError, match="no such split or layout"):
        read_medqa(tmp_path, asked["split"], layout=asked["layout"])


@pytest.mark.component("A23c")
@pytest.mark.parametrize(
    ("row", "column"),
    [
        ({"question": ""}, "question"),
        ({"question": 5}, "question"),
        ({"options": {"A": "SECRET"}}, "options"),
        ({"options": {"A": "x", "C": "y"}}, "options"),
        ({"options": ["x", "y"]}, "options"),
        ({"options": {"A": "x", "B": " "}}, "options"),
        ({"options": {"A": "x", "B": 2}}, "options"),
        ({"answer_idx": "Z"}, "answer_idx"),
        ({"answer_idx": None}, "answer_idx"),
        ({"answer": "SECRET other"}, "answer"),
    ],
)
def test_a_bad_question_is_named(tmp_path: Path, row: dict, column: str) -> None:
    path = lines(tmp_path, medqa_row(1), "", {**medqa_row(2), **row})
    with pytest.raises(DatasetFileError) as caught:
        list(read_questions(path))
    assert (caught.value.line, caught.value.column) == (3, column)
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize("line", ["{", "[1]", "[" * 100_000, '"x"'])
def test_a_line_that_is_no_object_is_named(tmp_path: Path, line: str) -> None:
    with pytest.raises(DatasetFileError, match="line 2"):
        list(read_questions(lines(tmp_path, medqa_row(1), line)))


def test_missing_undecodable_and_endless_files_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DatasetFileError, match="cannot be opened"):
        list(read_questions(tmp_path / "gone.jsonl"))
    (tmp_path / "q.jsonl").write_bytes(b"\xff\n")
    with pytest.raises(DatasetFileError, match="not UTF-8"):
        list(read_questions(tmp_path / "q.jsonl"))
    monkeypatch.setattr("model.datasets.json_lines.MAX_LINE", 20)
    with pytest.raises(DatasetFileError, match="too long a line"):
        list(read_questions(lines(tmp_path, medqa_row(1))))


def test_a_mark_before_the_first_line_changes_nothing(tmp_path: Path) -> None:
    path = lines(tmp_path, medqa_row(1))
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(list(read_questions(path))) == 1


def test_vqa_rad_reads_both_kinds_of_answers(tmp_path: Path) -> None:
    questions = list(read_vqa_rad(write_vqa_rad(tmp_path) / "trainset.json"))
    assert len(questions) == 24
    first, second = questions[:2]
    assert first.closed and not second.closed
    assert first.qid == "1" and second.answer == "2"
    assert first.question_types == ("PRES", "POS")
    assert [q.is_test for q in questions[:3]] == [False, False, True]


@pytest.mark.parametrize(
    ("row", "column"),
    [
        ({"image_name": "../../x.jpg"}, "image_name"),
        ({"image_name": "a/b.jpg"}, "image_name"),
        ({"image_name": "synpic.exe"}, "image_name"),
        ({"answer_type": "SECRET"}, "answer_type"),
        ({"question": None}, "question"),
        ({"qid": True}, "qid"),
        ({"qid": "1"}, "qid"),
        ({"phrase_type": ""}, "phrase_type"),
    ],
)
def test_a_bad_entry_is_named(tmp_path: Path, row: dict, column: str) -> None:
    path = tmp_path / "v.json"
    path.write_text(json.dumps([vqa_row(1), {**vqa_row(2), **row}]))
    with pytest.raises(DatasetFileError) as caught:
        list(read_vqa_rad(path))
    assert (caught.value.line, caught.value.column) == (2, column)
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize("text", ["{}", "[1]", "nonsense", "[" * 100_000])
def test_a_file_that_is_no_list_of_objects_is_refused(
    tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "v.json"
    path.write_text(text)
    with pytest.raises(DatasetFileError):
        list(read_vqa_rad(path))
    with pytest.raises(DatasetFileError, match="cannot be opened"):
        list(read_vqa_rad(tmp_path / "gone.json"))
    monkeypatch.setattr("model.datasets.json_lines.MAX_FILE", 0)
    with pytest.raises(DatasetFileError, match="larger than"):
        list(read_vqa_rad(path))
