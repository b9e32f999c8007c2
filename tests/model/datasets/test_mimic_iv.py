"""MIMIC-IV: what reaches a record, what may not, and what a damaged folder does."""

from __future__ import annotations

import gzip
import tracemalloc
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from fhir_adapters.patient_record import Modality, ModalityStatus
from model.datasets.mimic_iv import MimicCase, MimicIv, MimicPolicy
from model.datasets.mimic_notes import RadiologyUse
from model.datasets.mimic_tables import (
    Cohort,
    hours_after_admission,
    hours_after_icu,
    read_admissions,
    read_patients,
)
from model.errors import DatasetFileError
from tests.model.datasets.mimic_files import HADM, SUBJECT, mimic_tables
from tests.model.datasets.tables import Change, Table, changed, write

FIRST = Cohort(subjects=frozenset({SUBJECT}))
CUTOFF = datetime(2150, 3, 11, 8, tzinfo=UTC)


def cases(folder: Path, **options) -> dict[str, MimicCase]:
    return {case.hadm_id: case for case in MimicIv(folder, **options).cases()}


@pytest.fixture(scope="module")
def first(mimic_folder: Path) -> MimicCase:
    return cases(mimic_folder, cohort=FIRST)[HADM]


def damaged(tmp_path: Path, name: str, change: Change) -> Path:
    return write(tmp_path, changed(mimic_tables(), name, change))


@pytest.mark.component("A23a")
def test_an_admission_becomes_a_record_at_its_cutoff(first: MimicCase) -> None:
    record = first.record
    assert (first.subject_id, record.patient.sex) == (SUBJECT, "female")
    assert record.cutoff == CUTOFF
    assert {v.loinc: (str(v.value), v.unit) for v in record.values} == {
        "6690-2": ("14.0", "10*3/uL"),
        "1988-5": ("150.0", "mg/L"),
        "6301-6": ("1.1", "{INR}"),
        "2276-4": ("5", "ng/mL"),
        "2160-0": ("1.4", "mg/dL"),
        "59408-5": ("92", "%"),
        "9279-1": ("24", "/min"),
        "8310-5": ("37.0", "Cel"),
        "8867-4": ("110", "/min"),
        "8302-2": ("165.10", "cm"),
        "8480-6": ("120", "mm[Hg]"),
        "8462-4": ("80", "mm[Hg]"),
        "29463-7": ("68.03885550", "kg"),
        "39156-5": ("25.0", "kg/m2"),
    }
    assert all(v.measured_at <= CUTOFF for v in record.history)
    present = {m: record.states[m].status for m in Modality}
    assert present == {
        Modality.IMAGE: ModalityStatus.ABSENT,
        Modality.TEXT: ModalityStatus.PRESENT,
        Modality.VALUES: ModalityStatus.PRESENT,
    }


def test_a_value_keeps_what_its_source_said_of_it(first: MimicCase) -> None:
    found = {value.loinc: value for value in first.record.values}
    count, ferritin = found["6690-2"], found["2276-4"]
    assert (str(count.reference_low), str(count.reference_high)) == ("4.0", "10.0")
    assert count.provenance.reference == "Observation/mimic-lab-1"
    assert ferritin.comparator == "<"
    assert "source-warning" in found["8867-4"].flags
    assert "date-only" in found["39156-5"].flags
    assert "unit-absent" in found["6301-6"].flags


@pytest.mark.component("A23a")
def test_nothing_known_later_and_no_label_reaches_a_record(
    mimic_folder: Path,
) -> None:
    for case in cases(mimic_folder).values():
        assert "SECRET" not in repr(case.record)
        assert all(v.measured_at <= case.record.cutoff for v in case.record.history)


def test_a_patient_over_89_is_capped_and_says_so(mimic_folder: Path) -> None:
    patients = read_patients(mimic_folder)
    assert patients["99000003"].age_capped and not patients[SUBJECT].age_capped
    assert patients[SUBJECT].birth_date == date(2149 - 41, 1, 1)
    admission = read_admissions(mimic_folder, patients, FIRST)[HADM]
    # anchor_age 41 in 2149, so 42 in 2150, whatever the day.
    assert int(admission.patient.birth_date.year) == 2150 - 42


@pytest.mark.component("A23a")
def test_laboratory_values_are_streamed(tmp_path: Path) -> None:
    """20,000 rows that no record needs cost time, not memory."""

    def peak(rows: int) -> int:
        folder = write(tmp_path / str(rows), mimic_tables())
        path = folder / "hosp/labevents.csv"
        header, *known = path.read_text().splitlines()
        columns = header.split(",")
        cells = {"itemid": "99999", "comments": "x" * 200, "labevent_id": "9"}
        cells |= {"subject_id": SUBJECT, "hadm_id": HADM}
        cells |= {"charttime": "2150-03-11 01:00:00"}
        filler = ",".join(cells.get(name, "") for name in columns)
        path.write_text("\n".join([header, *known, *[filler] * rows]) + "\n")
        tracemalloc.start()
        assert cases(folder)[HADM].record.values
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    few, many = peak(10), peak(20_000)
    assert many - few < 200_000, "the extra rows are 5 MB of text"


@pytest.mark.component("A23a")
def test_every_row_is_used_or_skipped_for_a_reason(mimic_folder: Path) -> None:
    mimic = MimicIv(mimic_folder, FIRST)
    records = {case.hadm_id: case.record for case in mimic.cases()}
    account = mimic.account
    assert account.balanced()
    assert account.skipped["labevents"] == {
        "unmapped_item": 1,
        "stored_after_cutoff": 1,
        "after_cutoff": 1,
        "deidentified": 1,
        "unknown_unit": 1,
        "text_value": 1,
        "no_value": 1,
        "implausible_value": 1,
        "duplicate": 1,
        "no_storetime": 1,
        "no_time": 1,
        "before_window": 2,
        "outside_cohort": 19,
    }
    assert account.skipped["chartevents"]["missing_unit"] == 1
    assert "admissions" not in account.skipped and account.used["admissions"] == 2
    assert records[HADM].skip_counts()["unknown_unit"] == 1


def test_the_day_of_the_cutoff_has_no_known_values(mimic_folder: Path) -> None:
    mimic = MimicIv(mimic_folder, FIRST)
    (case,) = mimic.cases({HADM: CUTOFF})
    weights = [v for v in case.record.history if v.loinc == "29463-7"]
    assert [v.measured_at.date() for v in weights] == [date(2150, 2, 8)]
    assert mimic.account.skipped["omr"]["after_cutoff"] == 1
    assert mimic.account.skipped["omr"]["before_window"] == 1
    assert mimic.account.skipped["admissions"] == {"no_cutoff": 1}


def test_text_is_what_was_known_before_treatment(first: MimicCase) -> None:
    before, *reports = first.record.notes
    assert before.flags == ("from-discharge-note",) and before.written_at is None
    assert "three days of cough" in before.text and "crackles" in before.text
    assert "THORACENTESIS" not in before.text and "___" not in before.text
    assert {note.text for note in reports} == {
        "_ woman with cough // eval for infection",
        "_ woman with leg pain // eval for infection",
    }
    assert all(note.written_at <= CUTOFF for note in reports)


def test_reports_can_be_chosen_by_examination(mimic_folder: Path) -> None:
    policy = MimicPolicy(exam="chest", discharge_notes=False)
    case = cases(mimic_folder, cohort=FIRST, policy=policy)[HADM]
    assert [note.text for note in case.record.notes] == [
        "_ woman with cough // eval for infection"
    ]


def test_whole_reports_are_read_only_on_request(mimic_folder: Path) -> None:
    policy = MimicPolicy(radiology=RadiologyUse.WHOLE)
    whole = cases(mimic_folder, cohort=FIRST, policy=policy)[HADM].record
    assert sum("SECRETFINDING" in note.text for note in whole.notes) == 2
    policy = MimicPolicy(radiology=RadiologyUse.NONE, discharge_notes=False)
    none = cases(mimic_folder, cohort=FIRST, policy=policy)[HADM].record
    assert none.notes == () and none.states[Modality.TEXT].reason == "none_received"


def test_an_admission_that_is_over_is_not_asked_about(mimic_folder: Path) -> None:
    mimic = MimicIv(mimic_folder)
    found = {case.hadm_id for case in mimic.cases()}
    assert "29000005" not in found and len(found) == 20
    assert mimic.account.skipped["admissions"] == {"ended_before_cutoff": 1}


def test_cutoffs_follow_the_rule(mimic_folder: Path) -> None:
    mimic = MimicIv(mimic_folder, FIRST)
    (window,) = mimic.windows(hours_after_icu(2))
    assert window.cutoff == CUTOFF - timedelta(hours=18)
    assert window.start == CUTOFF - timedelta(hours=24 + 6 + 24)
    by_hours = mimic.windows(hours_after_admission(1))
    assert [w.admission.hadm_id for w in by_hours] == [HADM, "29000021"]


def test_shards_part_the_patients(mimic_folder: Path) -> None:
    parts = [set(cases(mimic_folder, cohort=Cohort(shard=(n, 3)))) for n in range(3)]
    assert sum(map(len, parts)) == 20 and len(set().union(*parts)) == 20


def test_history_keeps_the_newest_values_of_a_code(tmp_path: Path) -> None:
    def more(table: Table) -> Table:
        for n in range(2, 6):
            at = f"2150-03-10 1{n}:00:00"
            cells = {**table.rows[0], "labevent_id": str(900 + n), "valuenum": str(n)}
            table = table.plus(**{**cells, "charttime": at, "storetime": at})
        return table

    folder = damaged(tmp_path, "hosp/labevents.csv", more)
    case = cases(folder, cohort=FIRST, policy=MimicPolicy(per_code=2))[HADM]
    counts = [v.value for v in case.record.history if v.loinc == "6690-2"]
    assert counts == [5, 4]


def test_labels_are_billed_conditions(mimic_folder: Path) -> None:
    mimic = MimicIv(mimic_folder)
    labels = mimic.labels({"pneumonia": [(10, "J18"), (9, "486")], "none": []})
    assert labels[HADM] == {"pneumonia": True, "none": False}
    assert labels["29000002"]["pneumonia"] and not labels["29000003"]["pneumonia"]
    assert labels["29000021"] == {"pneumonia": False, "none": False}
    assert mimic.admissions["29000004"].died is True
    other = MimicIv(mimic_folder, FIRST)
    assert set(other.labels({})) == {HADM, "29000021"}
    assert other.account.skipped["diagnoses_icd"] == {"outside_cohort": 19}


@pytest.mark.component("A23a")
@pytest.mark.parametrize("gz", [False, True])
def test_order_of_columns_marks_and_gzip_change_nothing(
    tmp_path: Path, first: MimicCase, gz: bool
) -> None:
    tables = [table.reordered() for table in mimic_tables()]
    folder = write(tmp_path, tables, gz=gz)
    path = folder / ("hosp/labevents.csv.gz" if gz else "hosp/labevents.csv")
    data = path.read_bytes()
    marked = b"\xef\xbb\xbf" + (gzip.decompress(data) if gz else data)
    path.write_bytes(gzip.compress(marked) if gz else marked)
    record = cases(folder, cohort=FIRST)[HADM].record
    assert [(v.loinc, v.value, v.measured_at) for v in record.history] == [
        (v.loinc, v.value, v.measured_at) for v in first.record.history
    ]
    assert [n.text for n in record.notes] == [n.text for n in first.record.notes]


def test_a_release_without_provider_columns_reads_too(
    tmp_path: Path, first: MimicCase
) -> None:
    folder = damaged(
        tmp_path, "hosp/labevents.csv", lambda t: t.without("order_provider_id")
    )
    record = cases(folder, cohort=FIRST)[HADM].record
    assert len(record.values) == len(first.record.values)


def test_hosp_alone_is_enough(tmp_path: Path) -> None:
    needed = {"hosp/patients.csv", "hosp/admissions.csv", "hosp/labevents.csv"}
    folder = write(tmp_path, [t for t in mimic_tables() if t.name in needed])
    case = cases(folder, cohort=FIRST, policy=MimicPolicy(exam="chest"))[HADM]
    assert len(case.record.values) == 5 and case.record.notes == ()


MISSING = [
    ("hosp/patients.csv", "anchor_year"),
    ("hosp/admissions.csv", "hadm_id"),
    ("hosp/labevents.csv", "storetime"),
    ("hosp/labevents.csv", "labevent_id"),
    ("hosp/labevents.csv", "itemid"),
    ("hosp/omr.csv", "result_value"),
    ("icu/icustays.csv", "intime"),
    ("icu/chartevents.csv", "valueuom"),
    ("note/discharge.csv", "text"),
    ("note/radiology.csv", "note_id"),
]


@pytest.mark.component("A23a")
@pytest.mark.parametrize(("name", "column"), MISSING)
def test_a_missing_column_is_named(tmp_path: Path, name: str, column: str) -> None:
    folder = damaged(tmp_path, name, lambda table: table.without(column))
    with pytest.raises(DatasetFileError) as caught:
        cases(folder)
    error = caught.value
    assert (error.file, error.line) == (Path(name).name, 1)
    assert error.column == column


BAD_CELLS = [
    ("hosp/patients.csv", "anchor_age", "old", "is no number"),
    ("hosp/patients.csv", "anchor_age", "300", "is no age"),
    ("hosp/patients.csv", "anchor_year", "0", "is no year"),
    ("hosp/patients.csv", "subject_id", "p1", "no identifier"),
    ("hosp/patients.csv", "subject_id", "99000002", "stands twice"),
    ("hosp/admissions.csv", "admittime", "yesterday", "is no date"),
    ("hosp/admissions.csv", "admittime", "", "is empty"),
    ("hosp/admissions.csv", "subject_id", "98765432", "no patient of patients"),
    ("hosp/admissions.csv", "hadm_id", "29000002", "stands twice"),
    ("hosp/admissions.csv", "hospital_expire_flag", "7", "neither 0 nor 1"),
    ("hosp/labevents.csv", "valuenum", "fourteen", "is no number"),
    ("hosp/labevents.csv", "charttime", "2150-02-31 09:00:00", "is no date"),
    ("hosp/labevents.csv", "subject_id", "98765432", "no patient of patients"),
    ("hosp/labevents.csv", "labevent_id", "", "is empty"),
    ("hosp/omr.csv", "subject_id", "98765432", "no patient of patients"),
    ("hosp/omr.csv", "chartdate", "soon", "is no date"),
    ("icu/icustays.csv", "subject_id", "99000002", "not the patient"),
    ("icu/icustays.csv", "subject_id", "98765432", "no patient of patients"),
    ("icu/chartevents.csv", "subject_id", "98765432", "no patient of patients"),
    ("note/discharge.csv", "subject_id", "98765432", "no patient of patients"),
    ("note/discharge.csv", "note_id", "../../x", "no note id"),
    ("note/radiology.csv", "subject_id", "98765432", "no patient of patients"),
]


@pytest.mark.component("A23a")
@pytest.mark.parametrize(("name", "column", "cell", "reason"), BAD_CELLS)
def test_a_bad_cell_stops_the_load_with_its_place(
    tmp_path: Path, name: str, column: str, cell: str, reason: str
) -> None:
    folder = damaged(tmp_path, name, lambda table: table.set(0, **{column: cell}))
    with pytest.raises(DatasetFileError, match=reason) as caught:
        cases(folder)
    error = caught.value
    assert error.file == Path(name).name and error.column == column
    assert error.line is not None and error.line >= 2
    assert not cell or cell not in str(error)


@pytest.mark.parametrize(
    ("column", "cell", "reason"),
    [
        ("subject_id", "99000002", "not the patient of this admission"),
        ("icd_version", "11", "neither 9 nor 10"),
        ("icd_code", "", "is empty"),
    ],
)
def test_bad_codes_stop_the_labels(
    tmp_path: Path, column: str, cell: str, reason: str
) -> None:
    folder = damaged(
        tmp_path, "hosp/diagnoses_icd.csv", lambda table: table.set(0, **{column: cell})
    )
    with pytest.raises(DatasetFileError, match=reason):
        MimicIv(folder).labels({"x": [(10, "J")]})


def test_a_patient_of_unknown_age_has_no_birth_date(tmp_path: Path) -> None:
    def blank(table: Table) -> Table:
        return table.set(0, anchor_age="", gender="")

    folder = damaged(tmp_path, "hosp/patients.csv", blank)
    patient = cases(folder, cohort=FIRST)[HADM].record.patient
    assert patient.birth_date is None and patient.sex is None


def test_a_stay_without_a_beginning_changes_nothing(tmp_path: Path) -> None:
    folder = damaged(tmp_path, "icu/icustays.csv", lambda t: t.set(0, intime=""))
    mimic = MimicIv(folder, FIRST)
    assert mimic.windows(hours_after_icu())[0].cutoff == datetime(
        2150, 3, 13, 20, tzinfo=UTC
    )


def test_a_truncated_file_is_no_smaller_data_set(tmp_path: Path) -> None:
    folder = write(tmp_path, mimic_tables(), gz=True)
    path = folder / "hosp" / "labevents.csv.gz"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DatasetFileError, match="ends early"):
        cases(folder)
