"""A folder of tri-modal cases: ``cases.jsonl`` and ``images/``.

Rules this reader enforces (harm in brackets):

- The text input is ``note_masked`` and nothing else: the raw note often states the
  answer (label leakage).
- ``url``, ``doi``, ``credit``, ``provenance``, ``date`` and ``location`` are never
  read: they predict the label (shortcut).
- Values come from ``structured`` with a LOINC code and a unit; what was taken from the
  note by pattern is the same evidence as the note and is not a second modality.
- A value outside its detection limit stays a censored value or is left out, with its
  reason; it never becomes a number that was not measured (silent imputation).
- Patients are split by ``group_id``; a group in two splits is an error (leakage).
- A ``case_id`` stands once; :mod:`case_rows` refuses two rows of one id.

Required columns: case_id, patient_id, group_id, split, image. Optional: note_masked,
structured, view, sex, covid19, finding_group, subset, primary, outcome. ``outcome``,
``covid19`` and ``finding_group`` are labels and reach no record; ``note``, ``age``,
``structured_from_note`` and every other column are not read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from fhir_adapters.patient_record import (
    ChestImage,
    ClinicalNote,
    CodedValue,
    Modality,
    ModalityState,
    ModalityStatus,
    PatientIdentity,
    PatientRecord,
    Provenance,
    Skip,
)
from model.datasets.case_rows import (
    case_rows,
    entries,
    is_primary,
    measured,
    observation_id,
)
from model.datasets.grey_image import read_grey
from model.errors import DatasetError, PatientLeakError

REQUIRED = ("case_id", "patient_id", "group_id", "split", "image")
SPLITS = ("train", "val", "test")
# The film's day where no date may be read: offsets in days are relative to it.
FILM_DAY = datetime(2000, 1, 1, tzinfo=UTC)
HOURS = 24
ORIGIN = "folder"


@dataclass(frozen=True, slots=True)
class FolderCase:
    """One image's row: record, split, group and the labels of the source."""

    case_id: str
    group_id: str
    split: str
    subset: str
    primary: bool
    record: PatientRecord
    covid19: bool | None
    finding_group: str
    icu: bool | None = None


def read_cases(folder: Path, *, splits: tuple[str, ...] = SPLITS) -> list[FolderCase]:
    """Read the rows of ``splits``.

    Raises:
        DatasetError: no such folder, a row that is not a JSON object, a missing column,
            a case id that FHIR does not allow, an image that is not there or cannot
            be read.
        DuplicateCaseError: a case id on two lines, in whatever splits.
        PatientLeakError: a group in more than one split.
    """
    rows = list(_rows(folder))
    _refuse_leak(rows)
    return [_case(folder, row) for row in rows if row["split"] in splits]


def training_digest(folder: Path) -> str:
    """Digest of what training on ``folder`` depends on: its files, and our code.

    Raises:
        DatasetError: the folder lacks ``cases.jsonl`` or ``images/``.
    """
    package = Path(__file__).resolve().parent.parent
    parts = ("datasets", "explain", "inference", "network", "training")
    sources = [path for part in parts for path in sorted((package / part).glob("*.py"))]
    sources.append(package.parent / "fhir_adapters" / "patient_record.py")
    digest = hashlib.sha256()
    try:
        pictures = sorted(p for p in (folder / "images").iterdir() if p.is_file())
        for path in (folder / "cases.jsonl", *sources, *pictures):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            digest.update(f"{path.name}\0{content}\n".encode())
    except OSError as error:
        raise DatasetError(f"{folder} lacks cases.jsonl or images/") from error
    return digest.hexdigest()


def _rows(folder: Path) -> Iterator[dict[str, Any]]:
    for number, row in case_rows(folder, REQUIRED):
        if row["split"] not in SPLITS:
            raise DatasetError(f"cases.jsonl line {number}: unknown split")
        yield row


def _refuse_leak(rows: list[dict[str, Any]]) -> None:
    split_of: dict[str, str] = {}
    for row in rows:
        if split_of.setdefault(row["group_id"], row["split"]) != row["split"]:
            raise PatientLeakError(f"group {row['group_id']} is in more than one split")


def _case(folder: Path, row: Mapping[str, Any]) -> FolderCase:
    covid, outcome = row.get("covid19"), row.get("outcome")
    icu = outcome.get("icu") if isinstance(outcome, dict) else None
    return FolderCase(
        case_id=row["case_id"],
        group_id=row["group_id"],
        split=row["split"],
        subset=str(row.get("subset") or ""),
        primary=is_primary(row),
        record=_record(folder, row),
        covid19=covid if isinstance(covid, bool) else None,
        finding_group=str(row.get("finding_group") or ""),
        icu=icu if isinstance(icu, bool) else None,
    )


def _record(folder: Path, row: Mapping[str, Any]) -> PatientRecord:
    image = _image(folder, row)
    notes = _notes(row)
    values, skipped = _values(row)
    absent = ModalityStatus.ABSENT
    present = ModalityState(ModalityStatus.PRESENT)
    states = {
        Modality.IMAGE: present,
        Modality.TEXT: present if notes else ModalityState(absent, "no_note"),
        Modality.VALUES: present if values else ModalityState(absent, "no_value"),
    }
    sex = row.get("sex")
    return PatientRecord(
        patient=PatientIdentity(
            patient_id=row["case_id"], sex=sex if isinstance(sex, str) else None
        ),
        cutoff=FILM_DAY + _time_of_day(row["case_id"]),
        states=states,
        images=(image,),
        notes=notes,
        values=values,
        history=values,
        skipped=skipped,
    )


def _time_of_day(case_id: str) -> timedelta:
    """Hours between film and question: not recorded, so spread over the day by id.

    One constant would be the only age of a value that the model ever sees, and any
    other at the bedside would then be foreign to it.
    """
    digest = hashlib.sha256(case_id.encode()).digest()
    return timedelta(hours=int.from_bytes(digest[:4], "big") % HOURS)


def _image(folder: Path, row: Mapping[str, Any]) -> ChestImage:
    path = (folder / row["image"]).resolve()
    # A row that points outside its folder reads what was not meant to be read.
    if not path.is_relative_to(folder.resolve()):
        raise DatasetError(f"case {row['case_id']}: image lies outside the folder")
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"case {row['case_id']}: no readable image") from error
    try:
        grey, _ = read_grey(path)
    except DatasetError as error:
        raise DatasetError(f"case {row['case_id']}: {error}") from error
    view = row.get("view")
    return ChestImage(
        pixels=grey,
        view=view if isinstance(view, str) else None,
        view_inferred=False,
        study_uid="",
        series_uid="",
        sop_uid="",
        acquired_at=FILM_DAY,
        provenance=Provenance(
            f"ImagingStudy/{row['case_id']}", ORIGIN, hashlib.sha256(raw).hexdigest()
        ),
        transforms=("grey",),
    )


def _notes(row: Mapping[str, Any]) -> tuple[ClinicalNote, ...]:
    text = row.get("note_masked")
    if not isinstance(text, str) or not text.strip():
        return ()
    digest = hashlib.sha256(text.encode()).hexdigest()
    where = Provenance(f"DocumentReference/{row['case_id']}", ORIGIN, digest)
    return (ClinicalNote(text, FILM_DAY, "clinical-note", where),)


def _values(
    row: Mapping[str, Any],
) -> tuple[tuple[CodedValue, ...], tuple[Skip, ...]]:
    values, skipped = [], []
    for name, entry in entries(row).items():
        reference = f"Observation/{observation_id(row['case_id'], name)}"
        digest = hashlib.sha256(
            json.dumps(entry, default=str, sort_keys=True).encode()
        ).hexdigest()
        value = _value(name, entry, Provenance(reference, ORIGIN, digest))
        if isinstance(value, str):
            skipped.append(Skip(reference, value))
        else:
            values.append(value)
    return tuple(values), tuple(skipped)


def _value(name: str, entry: object, provenance: Provenance) -> CodedValue | str:
    """The value of a structured entry, or the reason code why it is none."""
    found = measured(entry)
    if found is None:
        return "malformed"
    if found.loinc is None:
        return "unmapped_code"
    if found.value is None:
        return "malformed" if found.number_given else "no_number"
    if found.unit is None:
        return "unknown_unit"
    return CodedValue(
        loinc=found.loinc,
        name=name.replace("_", " "),
        value=found.value,
        unit=found.unit,
        measured_at=FILM_DAY + timedelta(days=found.day_offset),
        provenance=provenance,
        source_value=str(found.value),
        source_unit=found.unit,
    )
