"""Which real cases answer which question, and what the file says about itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model.baselines.case_study import FULL, usable_coalitions
from model.baselines.case_tasks import TASKS, read_tasks, shortcut_table
from tests.model.baselines.folder_samples import write_folder
from tests.services import data_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty reports and twenty-four hospital cases."""
    return write_folder(tmp_path_factory.mktemp("cases") / "folder")


def test_each_subset_answers_its_own_question_only(folder: Path) -> None:
    covid, icu = read_tasks(folder)
    assert (covid.task.label, icu.task.label) == ("covid19", "icu")
    assert len(covid.cases) == 30 and len(icu.cases) == 24
    assert {c.subset for c in covid.cases} == {"case-reports"}
    assert {c.subset for c in icu.cases} == {"hannover"}
    assert covid.target.sum() == 15 and icu.target.sum() == 12
    assert covid.primary.all() and len(set(covid.groups)) == 30


def test_cases_without_an_answer_are_left_out(folder: Path) -> None:
    covid, icu = read_tasks(folder)
    question = TASKS[1]
    assert question.answer(covid.cases[0], {"outcome": {"icu": True}}) is None
    assert question.answer(icu.cases[0], {}) is None
    healthy = replace(covid.cases[0], finding_group="none")
    assert TASKS[0].answer(healthy, {}) is None


def test_coalitions_that_say_the_same_are_shown_once(folder: Path) -> None:
    covid, icu = read_tasks(folder)
    assert len(usable_coalitions(covid)) == 7
    assert list(usable_coalitions(icu)) == [FULL, "without images", "without record"]


def test_shortcuts_read_the_file_and_leave_gaps_open() -> None:
    rows = [
        {"provenance": {"date": "03/09/20", "original_size": [640, 320]}},
        {"provenance": {"date": "2014"}, "image_size": [10, 20], "view": "AP"},
        {"provenance": None, "age": 40.0, "sex": "male", "note_masked": "four"},
        {"provenance": {"date": "unknown"}},
    ]
    year = shortcut_table(rows, "year")
    assert year.tolist() == [[1, 0], [0, 0], [0, 1], [0, 1]]
    size = shortcut_table(rows, "size and view")
    assert np.isnan(size[0, :2]).all() and size[0, 2:4].tolist() == [640, 320]
    assert size[1, 4] == 0.5 and size[1, 5:].tolist() == [0, 1, 0, 0]
    metadata = shortcut_table(rows, "metadata")
    assert metadata[2, -3:].tolist() == [40.0, 1.0, 4.0]
    assert np.isnan(metadata[0, -3:-1]).all() and metadata[0, -1] == 0
    with pytest.raises(KeyError):
        shortcut_table(rows, "price")


@pytest.mark.data("trimodal")
def test_the_real_folder_holds_both_questions() -> None:
    covid, icu = read_tasks(data_folder("trimodal"))
    assert 100 < covid.primary.sum() < 130 and icu.primary.sum() == 60
    assert icu.target[icu.primary].sum() == 25
    for task in (covid, icu):  # one group, one split: no patient on both sides
        assert len({(g, c.split) for g, c in zip(task.groups, task.cases)}) == len(
            set(task.groups)
        )
