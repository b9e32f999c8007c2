"""The small tables of MIMIC-IV: who, when admitted, which codes were billed.

Only what may be known at the bedside, or serves as a label, is read. Race, insurance,
language, marital status, discharge location and date of death are never read.

Dates are shifted per patient by the source; they keep differences and mean nothing
else. Ages come from ``anchor_age`` at ``anchor_year``: the birth date made of them is
the first of January of the year in between, so a whole-year age is the source's own.
Patients older than 89 carry 91 in the source and ``age_capped`` here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from pathlib import Path

from model.datasets.account import Account
from model.datasets.csv_table import Row, find_table, need_table, read_rows

PATIENTS, ADMISSIONS = "hosp/patients.csv", "hosp/admissions.csv"
DIAGNOSES, ICUSTAYS = "hosp/diagnoses_icd.csv", "icu/icustays.csv"
_SEXES = {"F": "female", "M": "male"}
_CAP = 91
_PATIENT_COLUMNS = ("subject_id", "gender", "anchor_age", "anchor_year")
_ADMISSION_COLUMNS = ("subject_id", "hadm_id", "admittime", "dischtime", "deathtime")
_ADMISSION_EXTRA = ("edregtime", "hospital_expire_flag")
_STAY_COLUMNS = ("subject_id", "hadm_id", "stay_id", "intime")
_DIAGNOSIS_COLUMNS = ("subject_id", "hadm_id", "icd_code", "icd_version")


@dataclass(frozen=True, slots=True)
class MimicPatient:
    """One patient; ``birth_date`` follows the shifted calendar of the source."""

    subject_id: str
    sex: str | None
    birth_date: date | None
    age_capped: bool


@dataclass(frozen=True, slots=True)
class Admission:
    """One hospital stay. ``died`` is a label and reaches no record."""

    hadm_id: str
    patient: MimicPatient
    admitted: datetime
    ended: datetime | None
    ed_registered: datetime | None
    icu_in: datetime | None
    died: bool | None

    @property
    def began(self) -> datetime:
        """The earlier of admission and registration in the emergency department."""
        return min(self.admitted, self.ed_registered or self.admitted)


@dataclass(frozen=True, slots=True)
class Cohort:
    """Which patients to load; the rest of a file is passed over.

    ``shard`` is (number, count): patients are dealt by the remainder of their id, and
    the memory that a load takes falls with ``count``.
    """

    subjects: frozenset[str] | None = None
    shard: tuple[int, int] = (0, 1)

    def holds(self, subject_id: str) -> bool:
        """Whether this patient is in the cohort."""
        number, count = self.shard
        if int(subject_id) % count != number:
            return False
        return self.subjects is None or subject_id in self.subjects


CutoffRule = Callable[[Admission], datetime | None]


def hours_after_admission(hours: float = 24.0) -> CutoffRule:
    """Ask the question so many hours after admission."""
    return lambda admission: admission.admitted + timedelta(hours=hours)


def hours_after_icu(hours: float = 24.0) -> CutoffRule:
    """Ask so many hours after the first intensive-care stay began; else not at all."""

    def rule(admission: Admission) -> datetime | None:
        began = admission.icu_in
        return began + timedelta(hours=hours) if began is not None else None

    return rule


def read_patients(folder: Path) -> dict[str, MimicPatient]:
    """Every patient by subject_id.

    Raises:
        DatasetFileError: no such table, or a row that breaks it.
    """
    found: dict[str, MimicPatient] = {}
    for row in read_rows(need_table(folder, PATIENTS), _PATIENT_COLUMNS):
        subject = row.key("subject_id")
        if subject in found:
            raise row.fault("subject_id", "stands twice")
        age, year = row.whole("anchor_age"), row.whole("anchor_year")
        born = _birth(row, year, age)
        capped = age is not None and age >= _CAP
        sex = _SEXES.get(row.text("gender"))
        found[subject] = MimicPatient(subject, sex, born, capped)
    return found


def read_admissions(
    folder: Path, patients: Mapping[str, MimicPatient], cohort: Cohort
) -> dict[str, Admission]:
    """Admissions of the cohort by hadm_id, with their first intensive-care stay.

    Raises:
        DatasetFileError: no such table, a row that breaks it, an admission of a
            patient who is not in ``patients.csv``, or a stay of another patient.
    """
    found: dict[str, Admission] = {}
    path = need_table(folder, ADMISSIONS)
    for row in read_rows(path, _ADMISSION_COLUMNS, _ADMISSION_EXTRA):
        patient = known_patient(row, patients)
        if not cohort.holds(patient.subject_id):
            continue
        admission = _admission(row, patient)
        if admission.hadm_id in found:
            raise row.fault("hadm_id", "stands twice")
        found[admission.hadm_id] = admission
    stays = find_table(folder, ICUSTAYS)
    if stays is not None:
        for row in read_rows(stays, _STAY_COLUMNS):
            _add_stay(row, patients, found)
    return found


def known_patient(row: Row, patients: Mapping[str, MimicPatient]) -> MimicPatient:
    """The patient of a row.

    Raises:
        DatasetFileError: ``patients.csv`` does not have this subject_id.
    """
    patient = patients.get(row.key("subject_id"))
    if patient is None:
        raise row.fault("subject_id", "is no patient of patients.csv")
    return patient


Conditions = Mapping[str, Sequence[tuple[int, str]]]


def icd_labels(
    folder: Path,
    admissions: Mapping[str, Admission],
    conditions: Conditions,
    account: Account | None = None,
) -> dict[str, dict[str, bool]]:
    """Billed conditions of each admission, as labels.

    Billing codes are given after discharge: they say what was treated, not what could
    be known, and a condition that was not billed counts as absent.

    Args:
        folder: the data set.
        admissions: whose labels.
        conditions: by name, (ICD version, code prefix without dot) pairs; for example
            ``{"pneumonia": [(10, "J18"), (9, "486")]}``.
        account: counts rows, where given.

    Returns:
        By hadm_id, whether each condition was billed; all False for an admission
        without any code.

    Raises:
        DatasetFileError: no such table, or a row that breaks it.
    """
    labels = {hadm: dict.fromkeys(conditions, False) for hadm in admissions}
    account = account or Account()
    for row in read_rows(need_table(folder, DIAGNOSES), _DIAGNOSIS_COLUMNS):
        hadm = row.key("hadm_id")
        admission = admissions.get(hadm)
        if admission is None:
            account.skip("diagnoses_icd", "outside_cohort")
            continue
        if row.key("subject_id") != admission.patient.subject_id:
            raise row.fault("subject_id", "is not the patient of this admission")
        version = row.whole("icd_version")
        if version not in (9, 10):
            raise row.fault("icd_version", "is neither 9 nor 10")
        code = row.needed("icd_code").replace(".", "").upper()
        account.use("diagnoses_icd")
        for name, prefixes in conditions.items():
            if any(v == version and code.startswith(p) for v, p in prefixes):
                labels[hadm][name] = True
    return labels


def _birth(row: Row, year: int | None, age: int | None) -> date | None:
    if age is None:
        return None
    if not 0 <= age <= 130:
        raise row.fault("anchor_age", "is no age")
    if year is None or not 1 <= year - age <= 9998:
        raise row.fault("anchor_year", "is no year")
    return date(year - age, 1, 1)


def _admission(row: Row, patient: MimicPatient) -> Admission:
    admitted = row.time("admittime")
    if admitted is None:
        raise row.fault("admittime", "is empty")
    ends = [t for t in (row.time("dischtime"), row.time("deathtime")) if t is not None]
    died = row.whole("hospital_expire_flag")
    if died not in (None, 0, 1):
        raise row.fault("hospital_expire_flag", "is neither 0 nor 1")
    return Admission(
        hadm_id=row.key("hadm_id"),
        patient=patient,
        admitted=admitted,
        ended=min(ends) if ends else None,
        ed_registered=row.time("edregtime"),
        icu_in=None,
        died=None if died is None else bool(died),
    )


def _add_stay(
    row: Row, patients: Mapping[str, MimicPatient], found: dict[str, Admission]
) -> None:
    patient = known_patient(row, patients)
    admission = found.get(row.key("hadm_id"))
    if admission is None:
        return
    if admission.patient.subject_id != patient.subject_id:
        raise row.fault("subject_id", "is not the patient of this admission")
    began = row.time("intime")
    if began is None:
        return
    earlier = admission.icu_in is None or began < admission.icu_in
    if earlier:
        found[admission.hadm_id] = replace(admission, icu_in=began)
