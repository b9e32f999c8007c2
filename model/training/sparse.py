"""Records with less in them: what a chart is often like, and nothing to abstain about.

A limit on how unlike the training records a chart may be must not mistake a short note
or two laboratory values for something foreign. So the limit is fitted on full records
and on copies of them with fewer values, fewer sentences and less known of the person.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fhir_adapters.patient_record import ClinicalNote, PatientRecord

HIDDEN = 0.5  # chance that age, and that sex, is not known
_SENTENCE_END = re.compile(r"(?<=[.;:])\s+|\n+")


def sparse_copies(records: Sequence[PatientRecord], seed: int) -> list[PatientRecord]:
    """One sparser copy of each record; every size from one item to all is as likely.

    Args:
        records: Full records; they are not changed.
        seed: Which values and sentences are kept.
    """
    random = np.random.default_rng(seed)
    return [_sparser(record, random) for record in records]


def _sparser(record: PatientRecord, random: np.random.Generator) -> PatientRecord:
    values = record.values
    if values:
        kept = random.choice(len(values), 1 + random.integers(len(values)), False)
        values = tuple(values[i] for i in sorted(kept.tolist()))
    notes = tuple(_shorter(note, random) for note in record.notes)
    patient = record.patient
    if random.random() < HIDDEN:
        patient = replace(patient, birth_date=None)
    if random.random() < HIDDEN:
        patient = replace(patient, sex=None)
    return replace(record, patient=patient, values=values, notes=notes)


def _shorter(note: ClinicalNote, random: np.random.Generator) -> ClinicalNote:
    sentences = [s for s in _SENTENCE_END.split(note.text) if s.strip()]
    if not sentences:
        return note
    first = int(random.integers(len(sentences)))
    count = 1 + int(random.integers(len(sentences) - first))
    text = " ".join(sentences[first : first + count])
    return replace(note, text=text, sections=())
