"""Read a folder through its loader and say what is in it: counts, never content.

Each layout has one function that reads everything a training would read and returns
plain numbers: rows, patients, what is used and what is skipped for which reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from model.datasets import medqa, mimic_cdm
from model.datasets.chexpert import PARTS, read_chexpert, without_leak
from model.datasets.chexpert_labels import LABELS, Marks
from model.datasets.csv_table import find_table
from model.datasets.mimic_cxr import LABELLERS, read_labels, read_studies
from model.datasets.mimic_iv import MimicIv
from model.datasets.trimodal_folder import SPLITS, FolderCase, read_cases
from model.datasets.vqa_rad import read_vqa_rad
from model.errors import DatasetError

Counts = dict[str, Any]
_MARK_NAMES = {1: "positive", 0: "negative", -1: "uncertain", None: "not_mentioned"}
T = TypeVar("T")


def check(layout: str, folder: Path, *, progress: bool = False) -> Counts:
    """Verify a folder against a layout.

    Args:
        layout: a key of LAYOUTS.
        folder: the folder of the data set.
        progress: show a bar.

    Returns:
        ``layout``, and the counts of its loader.

    Raises:
        DatasetError: no such layout or folder, or the folder breaks the layout; the
            message names file, line and column.
    """
    if layout not in LAYOUTS:
        raise DatasetError(f"unknown layout; there are {', '.join(LAYOUTS)}")
    if not folder.is_dir():
        raise DatasetError(f"{folder} is no folder")
    return {"layout": layout, **LAYOUTS[layout](folder, progress)}


def _mimic_iv(folder: Path, progress: bool) -> Counts:
    mimic = MimicIv(folder)
    admissions = values = notes = 0
    subjects: set[str] = set()
    with_values = with_notes = 0
    for case in _bar(mimic.cases(progress=progress), "records", progress):
        admissions += 1
        subjects.add(case.subject_id)
        values += len(case.record.history)
        notes += len(case.record.notes)
        with_values += bool(case.record.values)
        with_notes += bool(case.record.notes)
    return {
        "patients": len(mimic.patients),
        "admissions": len(mimic.admissions),
        "records": admissions,
        "patients_with_record": len(subjects),
        "records_with_values": with_values,
        "records_with_notes": with_notes,
        "values": values,
        "notes": notes,
        "tables": mimic.account.to_json(),
    }


def _mimic_cxr(folder: Path, progress: bool) -> Counts:
    studies = read_studies(folder)
    splits = Counter(study.split for study in studies.values())
    views: Counter[str] = Counter()
    present = absent = 0
    for study in _bar(studies.values(), "films", progress):
        for film in study.films:
            views[film.view or "not stated"] += 1
            there = (folder / film.file).is_file()
            present, absent = present + there, absent + (not there)
    labels = {
        name: _marks(read_labels(folder, studies, name).values())
        for name, file in LABELLERS.items()
        if find_table(folder, file) is not None
    }
    return {
        "patients": len({study.subject_id for study in studies.values()}),
        "studies": len(studies),
        "studies_by_split": dict(sorted(splits.items())),
        "films": present + absent,
        "films_there": present,
        "films_missing": absent,
        "films_by_view": dict(sorted(views.items())),
        "labels": labels,
    }


def _chexpert(folder: Path, progress: bool) -> Counts:
    part_of: dict[str, str] = {}
    parts: Counts = {}
    for part in PARTS:
        read = _bar(read_chexpert(folder, part), part, progress)
        films = list(without_leak(read, part_of))
        there = sum((folder / film.file).is_file() for film in films)
        parts[part] = {
            "patients": len({film.patient for film in films}),
            "films": len(films),
            "frontal": sum(film.frontal for film in films),
            "films_there": there,
            "films_missing": len(films) - there,
            "labels": _marks(film.marks for film in films),
        }
    return {"patients": len(part_of), "parts": parts}


def _medqa(folder: Path, progress: bool) -> Counts:
    found: Counts = {}
    seen: dict[str, str] = {}
    shared = 0
    for layout in medqa.LAYOUTS:
        for split in medqa.SPLITS:
            if not medqa.medqa_file(folder, split, layout).is_file():
                continue
            read = medqa.read_medqa(folder, split, layout=layout)
            questions = list(_bar(read, f"{layout} {split}", progress))
            found.setdefault(layout, {})[split] = {
                "questions": len(questions),
                "options": dict(
                    sorted(Counter(str(len(q.options)) for q in questions).items())
                ),
            }
            for question in questions:
                shared += seen.setdefault(question.question, split) != split
    if not found:
        raise DatasetError("MedQA: no file of questions/US is there")
    return {"layouts": found, "questions_in_two_splits": shared}


def _mimic_cdm(folder: Path, progress: bool) -> Counts:
    found: Counts = {}
    for disease in _bar(mimic_cdm.DISEASES, "diseases", progress):
        skipped: Counter[str] = Counter()
        admissions = values = notes = 0
        for case in mimic_cdm.read_cdm(folder, disease):
            admissions += 1
            values += len(case.record.values)
            notes += len(case.record.notes)
            skipped.update(case.record.skip_counts())
        found[disease] = {
            "admissions": admissions,
            "values": values,
            "notes": notes,
            "skipped": dict(sorted(skipped.items())),
        }
    return {"diseases": found}


def _vqa_rad(folder: Path, progress: bool) -> Counts:
    files = sorted(folder.glob("*.json"))
    if not files:
        raise DatasetError("VQA-RAD: no .json file in the folder")
    found: Counts = {}
    for path in files:
        questions = list(_bar(read_vqa_rad(path), path.name, progress))
        found[path.name] = {
            "questions": len(questions),
            "closed": sum(q.closed for q in questions),
            "test": sum(q.is_test for q in questions),
            "images": len({q.image for q in questions}),
        }
    return {"files": found}


def _trimodal(folder: Path, progress: bool) -> Counts:
    cases = list(_bar(read_cases(folder), "cases", progress))
    skipped: Counter[str] = Counter()
    for case in cases:
        skipped.update(case.record.skip_counts())
    return {
        "rows": len(cases),
        "patient_groups": len({case.group_id for case in cases}),
        "by_split": {split: _split_counts(cases, split) for split in SPLITS},
        "with_notes": sum(bool(case.record.notes) for case in cases),
        "with_values": sum(bool(case.record.values) for case in cases),
        "values": sum(len(case.record.values) for case in cases),
        "skipped": dict(sorted(skipped.items())),
    }


def _split_counts(cases: list[FolderCase], split: str) -> Counts:
    own = [case for case in cases if case.split == split]
    return {
        "rows": len(own),
        "patient_groups": len({case.group_id for case in own}),
    }


def _marks(marks: Iterable[Marks]) -> Counts:
    """How often each finding is marked how."""
    found = {label: Counter[str]() for label in LABELS}
    for row in marks:
        for label, mark in zip(LABELS, row, strict=True):
            found[label][_MARK_NAMES[mark]] += 1
    return {label: dict(sorted(counts.items())) for label, counts in found.items()}


def _bar(items: Iterable[T], name: str, progress: bool) -> Iterable[T]:
    return tqdm(items, desc=name, disable=not progress)


LAYOUTS: Mapping[str, Callable[[Path, bool], Counts]] = {
    "mimic-iv": _mimic_iv,
    "mimic-cxr-jpg": _mimic_cxr,
    "chexpert": _chexpert,
    "medqa": _medqa,
    "mimic-cdm": _mimic_cdm,
    "vqa-rad": _vqa_rad,
    "trimodal": _trimodal,
}
"""The layouts by the name that the command line knows."""
