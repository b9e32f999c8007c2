"""The two questions that the folder of real cases can answer, and what would cheat.

Rules (harm in brackets):

- COVID-19 against other pneumonia is asked of the case reports only: the hospital
  subset is all COVID-19 and has no notes (a missing note would be the answer).
- Intensive care is asked of the hospital subset only, where it is always recorded.
- What the file says about itself (size, view, date, who sent it) is never an input of
  the model; it is scored on its own, as the shortcut that a model must beat.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.datasets.case_rows import case_rows
from model.datasets.trimodal_folder import REQUIRED, FolderCase, read_cases
from model.training.folder_study import LABEL, WITHOUT_NOTES, eligible

Floats = NDArray[np.float64]
Row = Mapping[str, Any]

ICU = "icu"
_YEAR = re.compile(r"\b(?:19|20)\d\d\b|\d\d$")
_VIEWS = ("PA", "AP", "AP_SUPINE", "LATERAL")
_OUTBREAK = 2020


@dataclass(frozen=True)
class TaskCases:
    """The cases of one task: every image of its patients, with answer and file row."""

    task: CaseTask
    cases: Sequence[FolderCase]
    rows: Sequence[Row]
    target: NDArray[np.int64]

    @property
    def groups(self) -> NDArray[np.str_]:
        """Patient group (n,) of every image."""
        return np.array([case.group_id for case in self.cases])

    @property
    def primary(self) -> NDArray[np.bool_]:
        """The one image (n,) of each patient that figures count."""
        return np.array([case.primary for case in self.cases])


@dataclass(frozen=True, slots=True)
class CaseTask:
    """A question: its label, in words, and what to know when reading its figures."""

    label: str
    title: str
    caution: str
    answer: Callable[[FolderCase, Row], bool | None]
    shortcuts: tuple[str, ...]


def _covid(case: FolderCase, row: Row) -> bool | None:
    """COVID-19, for eligible case reports."""
    del row
    return case.covid19 if eligible([case]) else None


def _icu(case: FolderCase, row: Row) -> bool | None:
    """Ever in intensive care, in the hospital subset."""
    outcome = row.get("outcome")
    found = outcome.get(ICU) if isinstance(outcome, dict) else None
    return found if case.subset == WITHOUT_NOTES and isinstance(found, bool) else None


TASKS: tuple[CaseTask, ...] = (
    CaseTask(
        LABEL,
        "COVID-19 against other pneumonia (case reports, masked notes)",
        "Published case reports are chosen for being remarkable, and the years differ "
        "between the classes: who knows whether a year is given, and which, does "
        "well.",
        _covid,
        ("year", "size and view", "metadata"),
    ),
    CaseTask(
        ICU,
        "Intensive care during the stay (hospital subset, no notes)",
        "Most films of patients in intensive care were taken there: this is "
        "recognition of where the patient is, not prediction. The view and the shape "
        "of the film are visible in its pixels, so the image is not free of the "
        "shortcut. Values may be days off the film.",
        _icu,
        ("size and view", "metadata"),
    ),
)


def read_tasks(folder: Path) -> list[TaskCases]:
    """The cases of every task that the folder holds cases of.

    Raises:
        DatasetError: the folder breaks its layout.
    """
    cases = read_cases(folder)
    by_id = {row["case_id"]: row for _, row in case_rows(folder, REQUIRED)}
    found = []
    for task in TASKS:
        answered = [
            (case, by_id[case.case_id], answer)
            for case in cases
            if (answer := task.answer(case, by_id[case.case_id])) is not None
        ]
        if answered:
            kept, rows, target = zip(*answered)
            found.append(TaskCases(task, kept, rows, np.array(target, dtype=np.int64)))
    return found


def shortcut_table(rows: Sequence[Row], name: str) -> Floats:
    """What the file says about itself: (n, k), NaN where it says nothing.

    Args:
        rows: Rows of ``cases.jsonl``.
        name: "year", "size and view" or "metadata" (both, and age, sex, note length).

    Raises:
        KeyError: no such shortcut.
    """
    makers: dict[str, Callable[[Row], list[float]]] = {
        "year": _year,
        "size and view": _size_and_view,
        "metadata": _metadata,
    }
    return np.array([makers[name](row) for row in rows], dtype=np.float64)


def _year(row: Row) -> list[float]:
    """Whether the film is of 2020 or later, and whether no date is given."""
    provenance = row.get("provenance")
    date = provenance.get("date") if isinstance(provenance, dict) else None
    found = _YEAR.search(str(date)) if date else None
    if found is None:
        return [0.0, 1.0]
    year = int(found.group())
    year += 2000 if year < 100 else 0
    return [float(year >= _OUTBREAK), 0.0]


def _size_and_view(row: Row) -> list[float]:
    """Original and stored size, their ratio, and the view."""
    provenance = row.get("provenance")
    original = provenance.get("original_size") if isinstance(provenance, dict) else None
    sizes = [*_pair(row.get("image_size")), *_pair(original)]
    view = str(row.get("view") or "")
    return [*sizes, sizes[0] / sizes[1], *[float(view == known) for known in _VIEWS]]


def _pair(given: object) -> list[float]:
    if isinstance(given, (list, tuple)) and len(given) == 2:
        return [float(given[0]), float(given[1])]
    return [float("nan"), float("nan")]


def _metadata(row: Row) -> list[float]:
    """Year, size, view, age, sex and the length of the note."""
    age = row.get("age")
    sex = {"female": 0.0, "male": 1.0}.get(str(row.get("sex")), float("nan"))
    note = row.get("note_masked")
    return [
        *_year(row),
        *_size_and_view(row),
        float(age) if age is not None else float("nan"),
        sex,
        float(len(note)) if isinstance(note, str) else 0.0,
    ]
