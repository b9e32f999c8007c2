"""MIMIC-CXR-JPG: identifiers, split, labels, times, and the join to MIMIC-IV."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fhir_adapters.patient_record import Modality
from model.datasets.chexpert_labels import LABELS
from model.datasets.csv_table import Row
from model.datasets.mimic_cxr import (
    read_indication,
    read_labels,
    read_studies,
    study_moment,
)
from model.datasets.mimic_iv import MimicIv
from model.datasets.mimic_trimodal import match_studies, read_trimodal
from model.errors import DatasetError, DatasetFileError, PatientLeakError
from tests.model.datasets.film_files import (
    cxr_tables,
    dicom,
    hand_labels,
    labels,
    study,
    subject,
    write_cxr,
)
from tests.model.datasets.tables import Change, changed, write

TAKEN = datetime(2150, 3, 11, 0, 7, 5, tzinfo=UTC)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cxr(tmp_path_factory.mktemp("mimic-cxr-jpg"))


def damaged(tmp_path: Path, name: str, change: Change) -> Path:
    return write(tmp_path, changed(cxr_tables(), name, change))


@pytest.mark.component("A23")
def test_studies_have_their_films_views_and_official_split(folder: Path) -> None:
    studies = read_studies(folder)
    assert len(studies) == 20
    first = studies[study(1)]
    assert (first.subject_id, first.split, first.taken_at) == (
        subject(1),
        "train",
        TAKEN,
    )
    film, second = first.films
    assert film.file.as_posix() == (
        f"files/p99/p{subject(1)}/s{study(1)}/{dicom(1, 0)}.jpg"
    )
    assert film.frontal and second.lateral and not second.frontal
    assert (film.rows, film.columns) == (12, 10)
    test = read_studies(folder, splits=("test",))
    assert len(test) == 4 and all(s.split == "test" for s in test.values())


@pytest.mark.parametrize(
    ("clock", "hour"),
    [("705.0", "00:07:05"), ("213014.531", "21:30:14.531000"), ("0", "00:00:00")],
)
def test_the_time_of_a_study_is_a_float(clock: str, hour: str) -> None:
    row = Row("m.csv", 2, ("21500311", clock), ("StudyDate", "StudyTime"))
    assert study_moment(row).isoformat() == f"2150-03-11T{hour}+00:00"


@pytest.mark.parametrize(
    ("day", "clock", "column"),
    [
        ("2150-03-11", "705.0", "StudyDate"),
        ("21500231", "705.0", "StudyDate"),
        ("21500311", "256060.0", "StudyTime"),
        ("21500311", "-1.0", "StudyTime"),
        ("21500311", "noon", "StudyTime"),
    ],
)
def test_a_time_that_is_none_is_named(day: str, clock: str, column: str) -> None:
    row = Row("m.csv", 2, (day, clock), ("StudyDate", "StudyTime"))
    with pytest.raises(DatasetFileError) as caught:
        study_moment(row)
    assert caught.value.column == column


@pytest.mark.component("A23")
@pytest.mark.parametrize("labeller", ["chexpert", "negbio"])
def test_labels_are_read_by_name(folder: Path, labeller: str) -> None:
    marks = read_labels(folder, read_studies(folder), labeller)
    assert len(marks) == 20
    source = labels(labeller).rows[0]
    for label, mark in zip(LABELS, marks[study(1)], strict=True):
        cell = source[label]
        assert mark == (None if cell == "" else int(float(cell)))


@pytest.mark.component("A23")
def test_the_hand_labelled_set_has_its_own_order_and_name(folder: Path) -> None:
    marks = read_labels(folder, read_studies(folder), "radiologist")
    assert len(marks) == 4
    source = hand_labels().rows[0]
    opacity = marks[study(17)][LABELS.index("Lung Opacity")]
    cell = source["Airspace Opacity"]
    assert opacity == (None if cell == "" else int(float(cell)))
    with pytest.raises(DatasetError, match="unknown labeller"):
        read_labels(folder, {}, "nobody")


def test_only_the_indication_of_a_report_is_read(folder: Path, tmp_path: Path) -> None:
    studies = read_studies(folder)
    words = read_indication(folder, studies[study(1)])
    assert words == "_ woman with cough // eval for infection"
    assert read_indication(folder, studies[study(6)]) is None
    report = tmp_path / studies[study(1)].report
    report.parent.mkdir(parents=True)
    report.write_bytes(b"\xff")
    with pytest.raises(DatasetError, match="not UTF-8"):
        read_indication(tmp_path, studies[study(1)])
    report.write_text("INDICATION: " + "x" * 300_000)
    with pytest.raises(DatasetError, match="larger than"):
        read_indication(tmp_path, studies[study(1)])


METADATA = "mimic-cxr-2.0.0-metadata.csv"
SPLIT = "mimic-cxr-2.0.0-split.csv"


@pytest.mark.component("A23")
@pytest.mark.parametrize(
    ("name", "column", "cell", "reason"),
    [
        (METADATA, "dicom_id", "../../../etc/passwd", "is no film's id"),
        (METADATA, "dicom_id", dicom(9, 9), "has no split"),
        (METADATA, "subject_id", "../99", "no identifier"),
        (METADATA, "study_id", "s59", "no identifier"),
        (METADATA, "study_id", study(2), "another patient or split"),
        (METADATA, "Rows", "tall", "is no number"),
        (SPLIT, "split", "holdout", "none of train, validate, test"),
        (SPLIT, "dicom_id", "nothex", "is no film's id"),
    ],
)
def test_a_bad_cell_is_named(
    tmp_path: Path, name: str, column: str, cell: str, reason: str
) -> None:
    folder = damaged(tmp_path, name, lambda t: t.set(3, **{column: cell}))
    if column == "study_id" and cell == study(2):
        folder = damaged(tmp_path, name, lambda t: t.set(4, study_id=cell))
    with pytest.raises(DatasetFileError, match=reason) as caught:
        read_studies(folder)
    assert caught.value.column == column and cell not in str(caught.value)


def test_a_patient_in_two_splits_is_refused(tmp_path: Path) -> None:
    folder = damaged(tmp_path, SPLIT, lambda t: t.set(1, split="test"))
    with pytest.raises(PatientLeakError, match="line 3"):
        read_studies(folder)


def test_labels_of_another_patient_and_odd_marks_are_refused(tmp_path: Path) -> None:
    name = "mimic-cxr-2.0.0-chexpert.csv"
    folder = damaged(tmp_path, name, lambda t: t.set(0, subject_id=subject(2)))
    studies = read_studies(folder)
    with pytest.raises(DatasetFileError, match="not the patient of this study"):
        read_labels(folder, studies)
    damaged(tmp_path, name, lambda t: t.set(0, Edema="0.5"))
    with pytest.raises(DatasetFileError, match="column Edema"):
        read_labels(folder, studies)
    damaged(tmp_path, name, lambda t: t.without("Edema"))
    with pytest.raises(DatasetFileError, match="column Edema: is missing"):
        read_labels(folder, studies)
    few = {study(1): studies[study(1)]}
    damaged(tmp_path, name, lambda t: t)
    assert set(read_labels(folder, few)) == {study(1)}


@pytest.mark.component("A23")
def test_film_text_and_values_of_an_admission_are_joined(
    folder: Path, mimic_folder: Path
) -> None:
    mimic = MimicIv(mimic_folder)
    # The sixth film is missing: leave its person out.
    admissions = {h: a for h, a in mimic.admissions.items() if h != "29000006"}
    mimic.admissions = admissions
    found = {c.case.hadm_id: c for c in read_trimodal(mimic, folder)}
    assert len(found) == 18 and "29000002" not in found
    first = found["29000001"]
    record = first.record
    assert record.cutoff == TAKEN and first.split == "train"
    assert all(record.presence().values())
    assert record.images[0].pixels.shape == (12, 10)
    assert record.images[0].view == "PA"
    assert record.notes[0].text == "_ woman with cough // eval for infection"
    assert "SECRET" not in repr(record)
    assert all(v.measured_at <= TAKEN for v in record.history)
    assert first.marks is not None and len(first.marks) == 14
    assert record.states[Modality.IMAGE].reason == ""


def test_a_missing_film_stops_the_join(folder: Path, mimic_folder: Path) -> None:
    with pytest.raises(DatasetError, match="no readable image"):
        list(read_trimodal(MimicIv(mimic_folder), folder))


def test_a_case_without_a_report_keeps_its_other_notes(
    folder: Path, mimic_folder: Path, tmp_path: Path
) -> None:
    mimic = MimicIv(mimic_folder)
    mimic.admissions = {"29000001": mimic.admissions["29000001"]}
    (case,) = read_trimodal(mimic, folder, reports=tmp_path)
    assert {n.kind for n in case.record.notes} == {
        "discharge_summary",
        "radiology_report",
    }
    assert case.record.notes[0].kind == "discharge_summary"


def test_the_first_frontal_study_of_the_latest_fitting_admission_counts(
    folder: Path, mimic_folder: Path
) -> None:
    mimic, studies = MimicIv(mimic_folder), read_studies(folder)
    first = studies[study(1)]
    later = replace(first, study_id="59000999", taken_at=TAKEN + timedelta(hours=5))
    outside = replace(first, study_id="59000998", taken_at=TAKEN + timedelta(days=50))
    early = replace(first, study_id="59000997", taken_at=TAKEN - timedelta(days=9))
    some = {s.study_id: s for s in (later, first, outside, early)}
    matched = match_studies(some, mimic.admissions)
    assert matched == {"29000001": first}
