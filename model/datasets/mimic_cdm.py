"""MIMIC-CDM: four abdominal diseases, each a pickle of admissions.

``{disease}_hadm_info_first_diag.pkl`` holds a dictionary by hadm_id with "Patient
History", "Physical Examination", "Laboratory Tests" {itemid: "3.0 m/uL"}, "Reference
Range Lower" and "Upper" {itemid}, "Microbiology", "Radiology" (list with "Report"),
procedures, "Discharge Diagnosis" and "ICD Diagnosis". Pickles are read by
:mod:`restricted_pickle` only: a copy that holds array types instead of plain numbers is
refused, not trusted.

The diagnosis, the procedures and the reports' conclusions are labels or afterthoughts:
they reach no record. Laboratory values have no times; they are put at one nominal day,
which says nothing about their age.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from fhir_adapters.code_systems import MEASUREMENTS
from fhir_adapters.errors import ValueRejectedError
from fhir_adapters.patient_record import (
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
from fhir_adapters.states import evidence_state
from model.datasets.mimic_items import ITEMS, LABEVENTS, canonical
from model.datasets.mimic_values import ORIGIN, UNMAPPED, limit_in_unit
from model.datasets.note_sections import mark_removed
from model.datasets.restricted_pickle import read_plain_pickle
from model.errors import DatasetError, DatasetFileError

DISEASES = ("appendicitis", "cholecystitis", "diverticulitis", "pancreatitis")
NOMINAL_DAY = datetime(2000, 1, 1, tzinfo=UTC)
_FILE = "{disease}_hadm_info_first_diag.pkl"
_HISTORY, _EXAM = "Patient History", "Physical Examination"
_TESTS = "Laboratory Tests"
_LOW, _HIGH = "Reference Range Lower", "Reference Range Upper"
_DIAGNOSIS = "Discharge Diagnosis"
_READING = re.compile(r"(<=|>=|<|>)?\s*(-?[0-9]+(?:\.[0-9]+)?)\s*(\S.{0,30})?")


@dataclass(frozen=True, slots=True)
class CdmCase:
    """One admission: its record, and the disease of the file it stands in (a label)."""

    hadm_id: str
    disease: str
    diagnosis: str
    record: PatientRecord


def read_cdm(folder: Path, disease: str) -> Iterator[CdmCase]:
    """Admissions of one disease in the order of the file.

    Raises:
        DatasetError: no such disease.
        DatasetFileError: no such file, or a shape that is not the layout's.
        PickleRefusedError: the pickle names a class or a function.
    """
    if disease not in DISEASES:
        raise DatasetError(f"MIMIC-CDM has the diseases {', '.join(DISEASES)}")
    name = _FILE.format(disease=disease)
    admissions = read_plain_pickle(folder / name)
    if not isinstance(admissions, dict):
        raise DatasetFileError(name, "is no dictionary by hadm_id")
    for place, (hadm, row) in enumerate(admissions.items(), 1):
        if not re.fullmatch(r"[0-9]{1,18}", str(hadm)) or not isinstance(row, dict):
            raise DatasetFileError(name, "is no admission", line=place)
        yield _case(name, place, str(hadm), disease, row)


def _case(
    file: str, place: int, hadm: str, disease: str, row: Mapping[str, Any]
) -> CdmCase:
    texts = [_text(file, place, row, column) for column in (_HISTORY, _EXAM)]
    values, skips = _values(file, place, hadm, row)
    words = mark_removed("\n\n".join(text for text in texts if text))
    notes = (_note(hadm, words),) if words else ()
    none = ModalityState(ModalityStatus.ABSENT, "none_received")
    record = PatientRecord(
        patient=PatientIdentity(patient_id=hadm),
        cutoff=NOMINAL_DAY,
        states={
            Modality.IMAGE: none,
            Modality.TEXT: evidence_state(Modality.TEXT, bool(notes), skips, {}),
            Modality.VALUES: evidence_state(Modality.VALUES, bool(values), skips, {}),
        },
        notes=notes,
        values=values,
        history=values,
        skipped=skips,
    )
    return CdmCase(hadm, disease, _text(file, place, row, _DIAGNOSIS), record)


def _text(file: str, place: int, row: Mapping[str, Any], column: str) -> str:
    found = row.get(column)
    if isinstance(found, list) and all(isinstance(part, str) for part in found):
        found = "; ".join(found)
    if not isinstance(found, str):
        raise DatasetFileError(file, "is no text", line=place, column=column)
    return found.strip()


def _by_item(
    file: str, place: int, row: Mapping[str, Any], column: str
) -> dict[str, Any]:
    found = row.get(column, {})
    if not isinstance(found, dict):
        raise DatasetFileError(file, "is no dictionary", line=place, column=column)
    return {str(item): value for item, value in found.items()}


def _values(
    file: str, place: int, hadm: str, row: Mapping[str, Any]
) -> tuple[tuple[CodedValue, ...], tuple[Skip, ...]]:
    low, high = (_by_item(file, place, row, column) for column in (_LOW, _HIGH))
    found: dict[str, CodedValue] = {}
    skips: list[Skip] = []
    for itemid, text in _by_item(file, place, row, _TESTS).items():
        reference = f"Observation/mimic-cdm-{hadm}-{re.sub('[^0-9]', '', itemid)}"
        item = ITEMS[LABEVENTS].get(itemid)
        reading = _READING.fullmatch(text.strip()) if isinstance(text, str) else None
        if item is None or reading is None:
            skips.append(Skip(reference, UNMAPPED if item is None else "text_value"))
            continue
        if item.loinc in found:
            skips.append(Skip(reference, "duplicate"))
            continue
        unit = reading[3] or ""
        try:
            value, ucum, flags = canonical(item, Decimal(reading[2]), unit)
        except ValueRejectedError as error:
            skips.append(Skip(reference, error.reason))
            continue
        digest = hashlib.sha256(f"{itemid}\0{text}".encode()).hexdigest()
        found[item.loinc] = CodedValue(
            loinc=item.loinc,
            name=MEASUREMENTS[item.loinc].name,
            value=value,
            unit=ucum,
            measured_at=NOMINAL_DAY,
            provenance=Provenance(reference, ORIGIN, digest),
            comparator=reading[1],
            reference_low=limit_in_unit(item, _number(low.get(itemid)), unit),
            reference_high=limit_in_unit(item, _number(high.get(itemid)), unit),
            source_value=reading[2],
            source_unit=unit,
            flags=(*flags, "no-time"),
        )
    ordered = tuple(found[loinc] for loinc in MEASUREMENTS if loinc in found)
    return ordered, tuple(skips)


def _number(given: object) -> Decimal | None:
    """A bound of the reference range as stated; the source gives it per item."""
    if isinstance(given, bool) or not isinstance(given, (int, float)):
        return None
    number = Decimal(str(given))
    return number if number.is_finite() else None


def _note(hadm: str, words: str) -> ClinicalNote:
    digest = hashlib.sha256(words.encode()).hexdigest()
    where = Provenance(f"DocumentReference/mimic-cdm-{hadm}", ORIGIN, digest)
    return ClinicalNote(words, None, "history_and_physical", where)
