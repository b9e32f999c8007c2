"""MIMIC-IV (hosp, icu, note) as one :class:`PatientRecord` per admission.

Rules this module enforces (harm in brackets):

- A question is asked at a cutoff; what was measured, charted or stored later is not in
  the record (an answer that nobody had).
- An admission that ended before its cutoff is left out (its outcome is known).
- Notes pass the leak rules of :mod:`note_sections`.
- Labels (:func:`icd_labels`, ``Admission.died``) never reach a record.
- What is left out is counted by reason; nothing is imputed.

The large tables are streamed once, in any order of rows. The memory taken is that of
the values kept: a :class:`Cohort` in shards bounds it.

    mimic = MimicIv(folder, Cohort(shard=(0, 64)))
    for case in mimic.cases(hours_after_admission(24)):
        case.record, mimic.account.to_json()

Layout: MIMIC-IV 2.x and 3.x, PhysioNet; columns as in the public ``create.sql`` of the
MIMIC Code Repository.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from tqdm import tqdm

from fhir_adapters.patient_record import (
    Modality,
    ModalityState,
    ModalityStatus,
    PatientIdentity,
    PatientRecord,
    Skip,
)
from fhir_adapters.states import evidence_state
from model.datasets.account import Account
from model.datasets.mimic_notes import (
    FoundNotes,
    NoteReader,
    RadiologyUse,
    newest_first,
)
from model.datasets.mimic_tables import (
    Admission,
    Cohort,
    Conditions,
    CutoffRule,
    hours_after_admission,
    icd_labels,
    read_admissions,
    read_patients,
)
from model.datasets.mimic_values import Found, ValueReader, latest_and_history
from model.datasets.mimic_windows import Window, Windows

EVERYONE = Cohort()
_NO_IMAGE = ModalityState(ModalityStatus.ABSENT, "none_received")


@dataclass(frozen=True, slots=True)
class MimicPolicy:
    """What is evidence, and how far back.

    ``hours_before`` counts back from admission (or registration in the emergency
    department), ``omr_days`` from the cutoff; ``per_code`` bounds the history of one
    code; ``exam`` keeps radiology reports of examinations whose name holds the word.
    """

    hours_before: float = 24.0
    omr_days: int = 365
    per_code: int = 32
    discharge_notes: bool = True
    radiology: RadiologyUse = RadiologyUse.INDICATION
    exam: str = ""


DEFAULT_POLICY = MimicPolicy()


@dataclass(frozen=True, slots=True)
class MimicCase:
    """One admission: the record at its cutoff, and whose it is."""

    admission: Admission
    record: PatientRecord

    @property
    def hadm_id(self) -> str:
        """The admission's id."""
        return self.admission.hadm_id

    @property
    def subject_id(self) -> str:
        """The patient's id: split by it, never by admission."""
        return self.admission.patient.subject_id


class MimicIv:
    """A folder with ``hosp`` and, where there are any, ``icu`` and ``note``.

    Args:
        folder: holds ``hosp``.
        cohort: which patients.
        policy: what is evidence.

    Raises:
        DatasetFileError: patients or admissions are missing or break their layout.
    """

    def __init__(
        self,
        folder: Path,
        cohort: Cohort = EVERYONE,
        policy: MimicPolicy = DEFAULT_POLICY,
    ) -> None:
        self.folder, self.policy = folder, policy
        self.account = Account()
        self.patients = read_patients(folder)
        self.admissions: Mapping[str, Admission] = read_admissions(
            folder, self.patients, cohort
        )

    def labels(self, conditions: Conditions) -> dict[str, dict[str, bool]]:
        """Billed conditions by hadm_id; see :func:`icd_labels`."""
        return icd_labels(self.folder, self.admissions, conditions, self.account)

    def windows(self, rule: CutoffRule | Mapping[str, datetime]) -> list[Window]:
        """One window for each admission that a question can be asked of.

        Args:
            rule: gives the cutoff of an admission, or cutoffs by hadm_id.
        """
        found = []
        before = timedelta(hours=self.policy.hours_before)
        for hadm, admission in self.admissions.items():
            cutoff = rule.get(hadm) if isinstance(rule, Mapping) else rule(admission)
            if cutoff is None:
                self.account.skip("admissions", "no_cutoff")
            elif admission.ended is not None and admission.ended <= cutoff:
                self.account.skip("admissions", "ended_before_cutoff")
            else:
                self.account.use("admissions")
                found.append(Window(admission, admission.began - before, cutoff))
        return found

    def cases(
        self,
        rule: CutoffRule | Mapping[str, datetime] | None = None,
        *,
        progress: bool = False,
    ) -> Iterator[MimicCase]:
        """Every admission that has a cutoff, in the order of ``admissions``.

        Args:
            rule: see :meth:`windows`; 24 hours after admission where it is None.
            progress: show a bar over the tables.

        Raises:
            DatasetFileError: ``labevents`` is missing, or a row breaks its table.
        """
        windows = self.windows(rule if rule is not None else hours_after_admission())
        by_patient = Windows(windows, self.patients)
        values = ValueReader(by_patient, self.account, per_code=self.policy.per_code)
        notes = NoteReader(
            by_patient,
            self.account,
            radiology=self.policy.radiology,
            exam=self.policy.exam,
        )
        steps: list[tuple[str, Callable[[], None]]] = [
            ("labevents", lambda: values.read_labs(self.folder)),
            ("chartevents", lambda: values.read_chart(self.folder)),
            ("omr", lambda: values.read_omr(self.folder, days=self.policy.omr_days)),
            ("radiology", lambda: notes.read_radiology(self.folder)),
        ]
        if self.policy.discharge_notes:
            steps.append(("discharge", lambda: notes.read_discharge(self.folder)))
        with tqdm(steps, unit="table", disable=not progress) as bar:
            for name, step in bar:
                bar.set_description(name)
                step()
        for window in windows:
            hadm = window.admission.hadm_id
            # Taken out as it is used: a record is not held twice.
            found = values.found.pop(hadm, Found())
            record = _record(window, found, notes.found.pop(hadm, FoundNotes()))
            yield MimicCase(window.admission, record)


def _record(window: Window, found: Found, noted: FoundNotes) -> PatientRecord:
    patient = window.admission.patient
    latest, history = latest_and_history(found)
    skips: list[Skip] = [*found.skips, *noted.skips]
    text = evidence_state(Modality.TEXT, bool(noted.notes), skips, {})
    values = evidence_state(Modality.VALUES, bool(latest), skips, {})
    return PatientRecord(
        patient=PatientIdentity(
            patient_id=patient.subject_id,
            sex=patient.sex,
            birth_date=patient.birth_date,
        ),
        cutoff=window.cutoff,
        states={
            Modality.IMAGE: _NO_IMAGE,
            Modality.TEXT: text,
            Modality.VALUES: values,
        },
        notes=newest_first(noted.notes),
        values=latest,
        history=history,
        skipped=tuple(skips),
    )
