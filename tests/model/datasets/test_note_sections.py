"""The leak rules of notes, on notes that try to leak."""

from __future__ import annotations

import pytest

from model.datasets.note_sections import admission_part, indication, mark_removed
from tests.model.datasets.mimic_files import DISCHARGE_TEXT, REPORT_TEXT


def test_only_named_sections_before_the_course_are_kept() -> None:
    kept = admission_part(DISCHARGE_TEXT)
    assert kept is not None and "SECRET" not in kept
    assert kept.startswith("Allergies: Penicillins")
    for absent in ("THORACENTESIS", "MEDICINE", "___", "Name"):
        assert absent not in kept


@pytest.mark.parametrize(
    "line",
    [
        "DISCHARGE EXAM:",
        "Discharge physical exam",
        "On discharge: vitals",
        "=== DISCHARGE ===",
        "EXAM ON DISCHARGE:",
        "Vitals at time of discharge:",
        "TRANSFER EXAM",
        "D/C exam:",
    ],
)
def test_an_examination_ends_where_it_speaks_of_discharge(line: str) -> None:
    note = f"Physical Exam:\ncrackles\n{line}\nSECRET\n\nBrief Hospital Course:\nx"
    kept = admission_part(note)
    assert kept == "Physical exam: crackles"


def test_a_discharge_from_the_ear_is_a_finding() -> None:
    note = "Physical Exam:\nno discharge from the ear\nsoft\nBrief Hospital Course: x"
    assert admission_part(note) == ("Physical exam: no discharge from the ear\nsoft")


@pytest.mark.parametrize(
    ("note", "kept"),
    [
        ("Chief Complaint: cough", None),
        ("free text", None),
        ("", None),
        ("Brief Hospital Course: x\nChief Complaint: SECRET", ""),
        ("BRIEF HOSPITAL COURSE: x", ""),
        (
            "chief complaint :\ncough\nbrief  hospital course: x",
            "Chief complaint: cough",
        ),
    ],
)
def test_a_note_without_a_border_is_refused(note: str, kept: str | None) -> None:
    assert admission_part(note) == kept


@pytest.mark.parametrize(
    ("report", "found"),
    [
        (REPORT_TEXT, "_ woman with cough // eval for infection"),
        ("INDICATION: cough. FINDINGS: SECRET", "cough."),
        ("INDICATION: cough  Impression: SECRET", "cough"),
        ("HISTORY: fever\nIMPRESSION\nSECRET", "fever"),
        ("FINAL REPORT\n INDICATION: pain\n FINDINGS\n SECRET", "pain"),
        ("REASON FOR EXAM: ?PNA WET READ: SECRET", "?PNA"),
        ("INDICATION: a\nRIGHT LUNG:\nSECRET", "a"),
        ("INDICATION:\nIMPRESSION: SECRET", None),
        ("FINDINGS: SECRET", None),
        ("", None),
    ],
)
def test_of_a_report_only_the_indication_is_read(report: str, found) -> None:
    assert indication(report) == found


def test_removed_identifiers_become_one_mark() -> None:
    assert mark_removed("___ saw Dr. _____ at __") == "_ saw Dr. _ at _"
