"""MIMIC-CXR-JPG and CheXpert in small: made-up people, the published column order.

Subjects are those of :mod:`mimic_files`, so that the two can be joined. The films are
12 x 10 grey squares.

    python -m tests.model.datasets.film_files FOLDER
"""

from __future__ import annotations

import sys
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from PIL import Image

from tests.model.datasets.mimic_files import ADMITTED, REPORT_TEXT
from tests.model.datasets.tables import Table, columns, write

PEOPLE = 20
FINDINGS = (
    *("Atelectasis", "Cardiomegaly", "Consolidation", "Edema"),
    *("Enlarged Cardiomediastinum", "Fracture", "Lung Lesion", "Lung Opacity"),
    *("No Finding", "Pleural Effusion", "Pleural Other", "Pneumonia"),
    *("Pneumothorax", "Support Devices"),
)
# The hand-labelled file: another order, and another name for Lung Opacity.
TEST_FINDINGS = (
    "No Finding",
    *(
        "Airspace Opacity" if f == "Lung Opacity" else f
        for f in FINDINGS
        if f[0] != "N"
    ),
)
CHEXPERT_HEADER = (
    *("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", "No Finding"),
    *("Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion"),
    *("Edema", "Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax"),
    *("Pleural Effusion", "Pleural Other", "Fracture", "Support Devices"),
)
SPLITS = ("train",) * 14 + ("validate",) * 2 + ("test",) * 4


def subject(number: int) -> str:
    return str(99000000 + number)


def study(number: int) -> str:
    return str(59000000 + number)


def dicom(number: int, film: int) -> str:
    return "-".join(f"{number * 16 + film:08x}" for _ in range(5))


def _films() -> list[tuple[int, int, str]]:
    """(person, film, view): two films each; the second person has no frontal one."""
    films = []
    for n in range(1, PEOPLE + 1):
        films.append((n, 0, "LATERAL" if n == 2 else "PA" if n % 2 else "AP"))
        films.append((n, 1, "LL" if n == 3 else "LATERAL"))
    return films


def _moment(number: int) -> datetime:
    start = ADMITTED + timedelta(days=400 * (number - 1))
    # The first at 00:07:05 of the night after admission: leading zeros are lost.
    return start + (
        timedelta(hours=16, minutes=7, seconds=5)
        if number == 1
        else timedelta(hours=10, microseconds=531_000)
    )


def metadata() -> Table:
    header = """dicom_id,subject_id,study_id,PerformedProcedureStepDescription,
    ViewPosition,Rows,Columns,StudyDate,StudyTime,ProcedureCodeSequence_CodeMeaning,
    ViewCodeSequence_CodeMeaning,PatientOrientationCodeSequence_CodeMeaning"""
    rows = []
    for n, film, view in _films():
        at = _moment(n)
        clock = f"{int(at.strftime('%H%M%S'))}.{at.microsecond // 1000}"
        rows.append(
            {
                "dicom_id": dicom(n, film),
                "subject_id": subject(n),
                "study_id": study(n),
                "PerformedProcedureStepDescription": "CHEST (PA AND LAT)",
                "ViewPosition": view,
                "Rows": "12",
                "Columns": "10",
                "StudyDate": at.strftime("%Y%m%d"),
                "StudyTime": clock,
            }
        )
    return Table("mimic-cxr-2.0.0-metadata.csv", columns(header), tuple(rows))


def split() -> Table:
    rows = tuple(
        {
            "dicom_id": dicom(n, film),
            "study_id": study(n),
            "subject_id": subject(n),
            "split": SPLITS[n - 1],
        }
        for n, film, _ in _films()
    )
    header = columns("dicom_id,study_id,subject_id,split")
    return Table("mimic-cxr-2.0.0-split.csv", header, rows)


def _label_rows(findings: tuple[str, ...]) -> tuple[dict[str, str], ...]:
    marks = ("1.0", "0.0", "-1.0", "")
    return tuple(
        {
            "subject_id": subject(n),
            "study_id": study(n),
            **{f: marks[(n + place) % 4] for place, f in enumerate(findings)},
        }
        for n in range(1, PEOPLE + 1)
    )


def labels(labeller: str) -> Table:
    name = f"mimic-cxr-2.0.0-{labeller}.csv"
    header = ("subject_id", "study_id", *FINDINGS)
    return Table(name, header, _label_rows(FINDINGS))


def hand_labels() -> Table:
    rows = tuple(
        {k: v for k, v in row.items() if k != "subject_id"}
        for row in _label_rows(TEST_FINDINGS)
        if row["study_id"] in {study(n) for n in range(17, PEOPLE + 1)}
    )
    header = ("study_id", *TEST_FINDINGS)
    return Table("mimic-cxr-2.1.0-test-set-labeled.csv", header, rows)


def cxr_tables() -> list[Table]:
    return [metadata(), split(), labels("chexpert"), labels("negbio"), hand_labels()]


def _grey(path: Path, level: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((12, 10), level, dtype=np.uint8)
    Image.fromarray(pixels).save(path, quality=95)


def write_cxr(folder: Path, tables: list[Table] | None = None) -> Path:
    """Tables, films and reports; the sixth person's film and report are missing."""
    write(folder, tables or cxr_tables())
    for n, film, _ in _films():
        person = folder / "files" / f"p{subject(n)[:2]}" / f"p{subject(n)}"
        if n == 6:
            continue
        _grey(person / f"s{study(n)}" / f"{dicom(n, film)}.jpg", 40 + n)
        (person / f"s{study(n)}.txt").write_text(REPORT_TEXT, encoding="utf-8")
    return folder


def chexpert_tables(prefix: str = "CheXpert-v1.0-small") -> list[Table]:
    """20 films each of ten patients in ``train.csv`` and of others in ``valid.csv``."""
    marks = ("1.0", "0.0", "-1.0", "")
    tables = []
    for part, first in (("train", 1), ("valid", 64541)):
        rows = []
        for place in range(20):
            patient, side = first + place // 2, (
                "frontal" if place % 2 == 0 else "lateral"
            )
            path = f"{part}/patient{patient:05d}/study1/view{place % 2 + 1}_{side}.jpg"
            values = {
                f: marks[(place + n) % 4] for n, f in enumerate(CHEXPERT_HEADER[5:])
            }
            rows.append(
                {
                    "Path": f"{prefix}/{path}" if prefix else path,
                    "Sex": ("Female", "Male", "Unknown")[place % 3],
                    "Age": str(place * 4),
                    "Frontal/Lateral": side.capitalize(),
                    "AP/PA": "AP" if side == "frontal" else "",
                    **values,
                }
            )
        tables.append(Table(f"{part}.csv", CHEXPERT_HEADER, tuple(rows)))
    return tables


def write_chexpert(folder: Path, tables: list[Table] | None = None) -> Path:
    """Tables and the first film."""
    write(folder, tables or chexpert_tables())
    _grey(folder / "train/patient00001/study1/view1_frontal.jpg", 90)
    return folder


if __name__ == "__main__":
    write_cxr(Path(sys.argv[1]) / "mimic-cxr-jpg")
    write_chexpert(Path(sys.argv[1]) / "chexpert")
