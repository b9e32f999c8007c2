"""Notes of MIMIC-IV: what of them may be an input, and nothing more.

Sections are cut by :mod:`note_sections`. A discharge note is written after the stay:
only its part on the time before treatment enters, without a time of its own (None) and
flagged ``from-discharge-note``. A radiology report enters as its indication, or whole
where labels come from elsewhere; it must have been stored before the cutoff.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from fhir_adapters.patient_record import ClinicalNote, Provenance, Skip
from fhir_adapters.resources.sections import find_sections
from model.datasets.account import Account
from model.datasets.csv_table import Row, find_table, read_rows
from model.datasets.mimic_values import ORIGIN
from model.datasets.mimic_windows import (
    OTHER_ADMISSION,
    OUTSIDE_COHORT,
    Verdict,
    Window,
    Windows,
)
from model.datasets.note_sections import admission_part, indication, mark_removed

DISCHARGE, RADIOLOGY = "note/discharge.csv", "note/radiology.csv"
_NOTE = (
    *("note_id", "subject_id", "hadm_id", "note_type"),
    *("charttime", "storetime", "text"),
)
_DETAIL = ("note_id", "subject_id", "field_name", "field_value")
_EXAM = "exam_name"
_ADDENDA = frozenset({"AR", "AD"})
FROM_DISCHARGE = "from-discharge-note"
INDICATION_ONLY = "indication-only"


class RadiologyUse(StrEnum):
    """What of a radiology report is an input.

    INDICATION where labels come from the reports, WHOLE where they do not.
    """

    NONE = "none"
    INDICATION = "indication"
    WHOLE = "whole"


@dataclass(slots=True)
class FoundNotes:
    """Notes of one admission, and notes that were left out."""

    notes: list[ClinicalNote] = field(default_factory=list)
    skips: list[Skip] = field(default_factory=list)


class NoteReader:
    """Collects the notes of all windows in one pass over each file.

    Args:
        windows: which patient, which time.
        account: counts every row.
        radiology: what of the reports is an input.
        exam: only reports whose examination's name holds this word, in any case; ""
            for all of them.
    """

    def __init__(
        self,
        windows: Windows,
        account: Account,
        *,
        radiology: RadiologyUse = RadiologyUse.INDICATION,
        exam: str = "",
    ) -> None:
        self._windows, self._account = windows, account
        self._use, self._exam = radiology, exam.casefold()
        self.found: dict[str, FoundNotes] = {}

    def read_discharge(self, folder: Path) -> None:
        """Stream ``note/discharge``, where the folder has it.

        Raises:
            DatasetFileError: a row that breaks the table.
        """
        for row in self._rows(folder, DISCHARGE):
            subject, hadm = self._windows.subject(row), row.optional_key("hadm_id")
            windows = self._windows.of(subject)
            own = [w for w in windows if w.admission.hadm_id == hadm]
            if not own:
                reason = OTHER_ADMISSION if windows else OUTSIDE_COHORT
                self._account.skip("discharge", reason)
                continue
            # An addendum to a discharge note is all afterthought.
            if row.text("note_type") in _ADDENDA:
                self._account.skip("discharge", "addendum")
                continue
            self._discharge(row, own[0])

    def read_radiology(self, folder: Path) -> None:
        """Stream ``note/radiology``, where the folder has it and it is used.

        Raises:
            DatasetFileError: a row that breaks the table.
        """
        if self._use is RadiologyUse.NONE:
            return
        exams = self._exam_names(folder) if self._exam else {}
        for row in self._rows(folder, RADIOLOGY):
            verdict = self._windows.judge(
                self._windows.subject(row),
                row.optional_key("hadm_id"),
                row.time("charttime"),
                row.time("storetime"),
            )
            reason = verdict.reason or self._unwanted(row, exams)
            if reason:
                self._account.skip("radiology", reason)
            else:
                self._radiology(row, verdict)

    def _rows(self, folder: Path, name: str) -> Iterable[Row]:
        path = find_table(folder, name)
        return read_rows(path, _NOTE) if path else []

    def _exam_names(self, folder: Path) -> dict[str, str]:
        """Names of the examinations of each report of the cohort, in small letters."""
        path = find_table(folder, "note/radiology_detail.csv")
        names: dict[str, str] = {}
        if path is None:
            return names
        keep = ("field_name", (_EXAM,))
        for row in read_rows(path, _DETAIL, keep=keep):
            if self._windows.of(self._windows.subject(row)):
                note = row.needed("note_id")
                names[note] = f"{names.get(note, '')} {row.text('field_value')}".lower()
        return names

    def _unwanted(self, row: Row, exams: dict[str, str]) -> str:
        if self._use is RadiologyUse.INDICATION and row.text("note_type") in _ADDENDA:
            return "addendum"
        if self._exam and self._exam not in exams.get(row.text("note_id"), ""):
            return "other_exam"
        return ""

    def _discharge(self, row: Row, window: Window) -> None:
        reference = _reference(row)
        part = admission_part(row.text("text"))
        found = self.found.setdefault(window.admission.hadm_id, FoundNotes())
        if not part:
            reason = "no_leak_border" if part is None else "no_section"
            found.skips.append(Skip(reference, reason))
            self._account.skip("discharge", reason)
            return
        flags = (FROM_DISCHARGE,)
        found.notes.append(_note(part, None, "discharge_summary", reference, flags))
        self._account.use("discharge")

    def _radiology(self, row: Row, verdict: Verdict) -> None:
        reference, text = _reference(row), row.text("text")
        flags: tuple[str, ...] = ()
        if self._use is RadiologyUse.INDICATION:
            text, flags = indication(text) or "", (INDICATION_ONLY,)
        note = _note(
            mark_removed(text),
            row.time("storetime"),
            "radiology_report",
            reference,
            flags,
        )
        for window in verdict.windows:
            found = self.found.setdefault(window.admission.hadm_id, FoundNotes())
            if text:
                found.notes.append(note)
            else:
                found.skips.append(Skip(reference, "no_indication"))
        if text:
            self._account.use("radiology")
        else:
            self._account.skip("radiology", "no_indication")


def newest_first(notes: list[ClinicalNote]) -> tuple[ClinicalNote, ...]:
    """Notes by time; the part of a discharge note, which has none, comes first."""

    def order(note: ClinicalNote) -> tuple[bool, float, str]:
        at = note.written_at
        return at is not None, -(at.timestamp() if at else 0.0), note.text

    return tuple(sorted(notes, key=order))


def _reference(row: Row) -> str:
    """A FHIR reference; note ids hold only letters, digits and dashes."""
    note = row.needed("note_id")
    if not note.replace("-", "").isalnum() or not note.isascii() or len(note) > 50:
        raise row.fault("note_id", "is no note id")
    return f"DocumentReference/mimic-{note}"


def _note(
    text: str,
    at: datetime | None,
    kind: str,
    reference: str,
    flags: tuple[str, ...],
) -> ClinicalNote:
    digest = hashlib.sha256(text.encode()).hexdigest()
    return ClinicalNote(
        text=text,
        written_at=at,
        kind=kind,
        provenance=Provenance(reference, ORIGIN, digest),
        sections=find_sections(text),
        flags=flags,
    )
