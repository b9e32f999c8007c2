"""MIMIC-CXR-JPG: films, official split, labels and the indication of the report.

Layout (release 2.0.0 and 2.1.0; reports are a download of their own)::

    files/p10/p10000032/s50414267/<dicom_id>.jpg
    files/p10/p10000032/s50414267.txt
    mimic-cxr-2.0.0-{metadata,split,chexpert,negbio}.csv(.gz)
    mimic-cxr-2.1.0-test-set-labeled.csv(.gz)

Rules this module enforces (harm in brackets):

- A path is made of the three identifiers, each checked; nothing that a cell says is
  used as a path (reading files that were not meant).
- The split is the official one, and no patient may be on two sides of it (leakage).
- Of the report only the indication is read, because the labels come from the rest.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from pathlib import Path

from model.datasets.chexpert_labels import LABELS, OTHER_NAMES, Marks, read_marks
from model.datasets.csv_table import Row, header_of, need_table, read_rows
from model.datasets.note_sections import indication
from model.errors import DatasetError, PatientLeakError

METADATA = "mimic-cxr-2.0.0-metadata.csv"
SPLIT = "mimic-cxr-2.0.0-split.csv"
LABELLERS: Mapping[str, str] = {
    "chexpert": "mimic-cxr-2.0.0-chexpert.csv",
    "negbio": "mimic-cxr-2.0.0-negbio.csv",
    "radiologist": "mimic-cxr-2.1.0-test-set-labeled.csv",
}
SPLITS = ("train", "validate", "test")
FRONTAL = frozenset({"AP", "PA"})
LATERAL = frozenset({"LATERAL", "LL"})
_METADATA_COLUMNS = (
    *("dicom_id", "subject_id", "study_id", "ViewPosition"),
    *("Rows", "Columns", "StudyDate", "StudyTime"),
)
_SPLIT_COLUMNS = ("dicom_id", "study_id", "subject_id", "split")
_DICOM_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{8}){4}")
_DATE = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})")
_TIME = re.compile(r"([0-9]{1,6})(?:\.([0-9]{1,6}))?")
_MAX_REPORT = 1 << 18


@dataclass(frozen=True, slots=True)
class CxrFilm:
    """One film: its file below the data set, its view, its size in pixels."""

    dicom_id: str
    file: Path
    view: str | None
    rows: int | None
    columns: int | None

    @property
    def frontal(self) -> bool:
        """Whether the view is AP or PA; an unstated view is not taken for one."""
        return self.view in FRONTAL

    @property
    def lateral(self) -> bool:
        """Whether the view is a lateral one."""
        return self.view in LATERAL


@dataclass(frozen=True, slots=True)
class CxrStudy:
    """The films of one examination, and where its report is."""

    subject_id: str
    study_id: str
    split: str
    taken_at: datetime
    films: tuple[CxrFilm, ...]

    @property
    def report(self) -> Path:
        """The report's file below the folder of the reports."""
        return _folder(self.subject_id) / f"s{self.study_id}.txt"


def study_moment(row: Row) -> datetime:
    """StudyDate (YYYYMMDD) and StudyTime, a float HHMMSS.fff without leading zeros.

    Raises:
        DatasetFileError: one of them is no date or no time of day.
    """
    day = _DATE.fullmatch(row.needed("StudyDate"))
    clock = _TIME.fullmatch(row.needed("StudyTime"))
    if day is None:
        raise row.fault("StudyDate", "is no date YYYYMMDD")
    if clock is None:
        raise row.fault("StudyTime", "is no time HHMMSS.fff")
    digits = clock[1].zfill(6)
    micro = int((clock[2] or "").ljust(6, "0"))
    try:
        at = time(int(digits[:2]), int(digits[2:4]), int(digits[4:]), micro, UTC)
    except ValueError as error:
        raise row.fault("StudyTime", "is no time HHMMSS.fff") from error
    try:
        return datetime.combine(date(int(day[1]), int(day[2]), int(day[3])), at)
    except ValueError as error:
        raise row.fault("StudyDate", "is no date YYYYMMDD") from error


def read_studies(
    folder: Path, *, splits: tuple[str, ...] = SPLITS
) -> dict[str, CxrStudy]:
    """Studies by study_id, films in the order of the metadata.

    Raises:
        DatasetFileError: a missing table or column, an identifier that is none, a film
            without a split, or a study of two patients.
        PatientLeakError: a patient in more than one split.
    """
    split_of = _official_split(folder)
    found: dict[str, CxrStudy] = {}
    for row in read_rows(need_table(folder, METADATA), _METADATA_COLUMNS):
        film, subject, study = _film(row)
        split = split_of.get(film.dicom_id)
        if split is None:
            raise row.fault("dicom_id", "has no split")
        if split not in splits:
            continue
        known = found.get(study)
        if known is None:
            moment = study_moment(row)
            found[study] = CxrStudy(subject, study, split, moment, (film,))
        elif known.subject_id != subject or known.split != split:
            raise row.fault("study_id", "belongs to another patient or split")
        else:
            films = (*known.films, film)
            found[study] = CxrStudy(subject, study, split, known.taken_at, films)
    return found


def read_labels(
    folder: Path, studies: Mapping[str, CxrStudy], labeller: str = "chexpert"
) -> dict[str, Marks]:
    """Marks (14,) by study_id in the order of ``chexpert_labels.LABELS``.

    Args:
        folder: the data set.
        studies: whose labels.
        labeller: "chexpert", "negbio" (both by rules, from the report) or
            "radiologist" (the hand-labelled test set of 2.1.0).

    Raises:
        DatasetFileError: a missing table or column, a mark that is none, or a study of
            another patient.
    """
    if labeller not in LABELLERS:
        raise DatasetError(f"unknown labeller; there are {', '.join(LABELLERS)}")
    path = need_table(folder, LABELLERS[labeller])
    header = header_of(path)
    names = [n if n in header else OTHER_NAMES.get(n, n) for n in LABELS]
    found: dict[str, Marks] = {}
    for row in read_rows(path, ("study_id", *names), ("subject_id",)):
        study = studies.get(row.key("study_id"))
        if study is None:
            continue
        subject = row.optional_key("subject_id")
        if subject not in (None, study.subject_id):
            raise row.fault("subject_id", "is not the patient of this study")
        found[study.study_id] = read_marks(row, names)
    return found


def read_indication(reports: Path, study: CxrStudy) -> str | None:
    """The indication of a study's report; None without a report or an indication.

    Args:
        reports: the folder that holds ``files`` with the reports.
        study: whose report.

    Raises:
        DatasetError: a report that is not UTF-8 text of at most 256 KiB.
    """
    path = reports / study.report
    if not path.is_file():
        return None
    try:
        with path.open(encoding="utf-8") as stream:
            text = stream.read(_MAX_REPORT + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError("MIMIC-CXR: a report is not UTF-8 text") from error
    if len(text) > _MAX_REPORT:
        raise DatasetError("MIMIC-CXR: a report is larger than 256 KiB")
    return indication(text)


def _official_split(folder: Path) -> dict[str, str]:
    """Split by dicom_id; a patient in two splits is refused."""
    of_film: dict[str, str] = {}
    of_patient: dict[str, str] = {}
    for row in read_rows(need_table(folder, SPLIT), _SPLIT_COLUMNS):
        split = row.text("split")
        if split not in SPLITS:
            raise row.fault("split", "is none of train, validate, test")
        if of_patient.setdefault(row.key("subject_id"), split) != split:
            raise PatientLeakError(
                f"{row.file} line {row.line}: a patient is in more than one split"
            )
        of_film[_dicom_id(row)] = split
    return of_film


def _film(row: Row) -> tuple[CxrFilm, str, str]:
    subject, study, dicom = row.key("subject_id"), row.key("study_id"), _dicom_id(row)
    file = _folder(subject) / f"s{study}" / f"{dicom}.jpg"
    view = row.text("ViewPosition") or None
    return (
        CxrFilm(dicom, file, view, row.whole("Rows"), row.whole("Columns")),
        subject,
        study,
    )


def _dicom_id(row: Row) -> str:
    found = row.needed("dicom_id")
    if not _DICOM_ID.fullmatch(found):
        raise row.fault("dicom_id", "is no film's id")
    return found


def _folder(subject_id: str) -> Path:
    return Path("files") / f"p{subject_id[:2]}" / f"p{subject_id}"
