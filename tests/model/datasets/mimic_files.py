"""MIMIC-IV in small: made-up people, the published column order, 20 to 40 rows a file.

The ids begin with 99 and 29 followed by zeros and belong to nobody; the notes were
written for these tests. The first patient carries one row for each rule of the loader;
the others are ordinary.

    python -m tests.model.datasets.mimic_files FOLDER
"""

from __future__ import annotations

import sys
from datetime import datetime, timedelta
from pathlib import Path

from tests.model.datasets.tables import Table, columns, write

SUBJECT, HADM = "99000001", "29000001"
PEOPLE = 20
ADMITTED = datetime(2150, 3, 10, 8, 0, 0)

DISCHARGE_TEXT = """
Name:  ___                   Unit No:   ___

Admission Date:  ___              Discharge Date:   ___

Date of Birth:  ___             Sex:   F

Service: MEDICINE

Allergies:
Penicillins

Attending: ___.

Chief Complaint:
"Cough", and fever

Major Surgical or Invasive Procedure:
THORACENTESIS

History of Present Illness:
___ woman with three days of cough.
In the ED, initial vitals: T 101.2, SpO2 92 %

Past Medical History:
asthma

Physical Exam:
ADMISSION EXAM:
crackles at the right base, no discharge from the ears
DISCHARGE EXAM:
clear lungs SECRETDISCHARGE

Pertinent Results:
SECRETRESULT

Brief Hospital Course:
SECRETCOURSE pneumonia was treated

Discharge Diagnosis:
SECRETDIAGNOSIS
"""
REPORT_TEXT = """EXAMINATION:  CHEST (PA AND LAT)

INDICATION:  ___ woman with cough // eval for infection

TECHNIQUE:  Chest PA and lateral

FINDINGS:

SECRETFINDING in the right lower lobe

IMPRESSION:

SECRETIMPRESSION
"""


def _at(hours: float, start: datetime = ADMITTED) -> str:
    return (start + timedelta(hours=hours)).strftime("%Y-%m-%d %H:%M:%S")


def _start(number: int) -> datetime:
    """When the person with this number (from 1) was admitted."""
    return ADMITTED + timedelta(days=400 * (number - 1))


def _subject(number: int) -> str:
    return str(99000000 + number)


def _hadm(number: int) -> str:
    return str(29000000 + number)


def patients() -> Table:
    rows = [
        {
            "subject_id": _subject(n),
            "gender": "FM"[n % 2 == 0],
            "anchor_age": "91" if n == 3 else str(40 + n),
            "anchor_year": str(_start(n).year - 1),
            "anchor_year_group": "2014 - 2016",
            "dod": _start(n).strftime("%Y-%m-%d") if n == 4 else "",
        }
        for n in range(1, PEOPLE + 1)
    ]
    header = "subject_id,gender,anchor_age,anchor_year,anchor_year_group,dod"
    return Table("hosp/patients.csv", columns(header), tuple(rows))


def admissions() -> Table:
    header = """subject_id,hadm_id,admittime,dischtime,deathtime,admission_type,
    admit_provider_id,admission_location,discharge_location,insurance,language,
    marital_status,race,edregtime,edouttime,hospital_expire_flag"""
    rows = []
    for n in range(1, PEOPLE + 1):
        start = _start(n)
        rows.append(
            {
                "subject_id": _subject(n),
                "hadm_id": _hadm(n),
                "admittime": _at(0, start),
                # The fifth leaves before a question could be asked.
                "dischtime": _at(20 if n == 5 else 120, start),
                "deathtime": _at(100, start) if n == 4 else "",
                "admission_type": "EW EMER.",
                "race": "SECRETRACE",
                "insurance": "SECRETINSURANCE",
                "discharge_location": "SECRETPLACE",
                "edregtime": _at(-6, start) if n == 1 else "",
                "hospital_expire_flag": "1" if n == 4 else "0",
            }
        )
    again = dict(rows[0], hadm_id=_hadm(21), edregtime="")
    again.update(admittime=_at(24 * 100), dischtime=_at(24 * 103))
    return Table("hosp/admissions.csv", columns(header), (*rows, again))


def _lab(number: int, hours: float, itemid: str, value: str, unit: str, **more: str):
    start = _start(number)
    row = {
        "subject_id": _subject(number),
        "hadm_id": _hadm(number),
        "specimen_id": str(500 + number),
        "itemid": itemid,
        "charttime": _at(hours, start),
        "storetime": _at(hours + 0.5, start),
        "value": value,
        "valuenum": value,
        "valueuom": unit,
        "priority": "ROUTINE",
    }
    return {**row, **more}


def labevents() -> Table:
    header = """labevent_id,subject_id,hadm_id,specimen_id,itemid,order_provider_id,
    charttime,storetime,value,valuenum,valueuom,ref_range_lower,ref_range_upper,flag,
    priority,comments"""
    limits = {"ref_range_lower": "4.0", "ref_range_upper": "10.0", "flag": "abnormal"}
    rows = [
        _lab(1, 1, "51301", "14.0", "K/uL", **limits),
        _lab(1, 1, "50889", "150.0", "mg/L", comments='Line one,\n"quoted" ___ line'),
        _lab(1, 23.8, "50813", "2.5", "mmol/L"),  # stored after the cutoff
        _lab(1, 30, "50912", "1.0", "mg/dL"),  # measured after the cutoff
        _lab(1, 2, "50983", "___", "mEq/L", valuenum=""),
        _lab(1, 2, "51237", "1.1", ""),
        _lab(1, 2, "50915", "500", "ng/mL"),  # D-dimer of unstated kind
        _lab(1, 2, "51003", "0.02", "ng/mL"),  # not in the table
        _lab(1, 2, "50924", "<5", "ng/mL", valuenum=""),
        _lab(1, 2, "50931", "NOT DONE", "mg/dL", valuenum=""),
        _lab(1, 2, "50971", "99", "mEq/L"),  # no patient has it
        _lab(1, 1, "51301", "14.0", "K/uL"),  # the first again
        _lab(1, -5, "50912", "1.4", "mg/dL", hadm_id=""),  # emergency department
        _lab(1, 3, "50912", "9.9", "mg/dL", hadm_id=_hadm(21)),
        _lab(1, 3, "50912", "9.8", "mg/dL", storetime=""),
        _lab(1, 3, "50912", "9.7", "mg/dL", charttime=""),
        _lab(1, -60, "50912", "9.6", "mg/dL", hadm_id=""),
        _lab(1, 6, "50861", "", "IU/L"),
    ]
    for n in range(2, PEOPLE + 1):
        rows.append(_lab(n, 2 + n / 10, "51301", str(5 + n), "K/uL"))
    rows = [{"labevent_id": str(n), **row} for n, row in enumerate(rows, 1)]
    return Table("hosp/labevents.csv", columns(header), tuple(rows))


def d_labitems() -> Table:
    names = ("Glucose", "Hemoglobin", "Lactate", "Troponin T", "Sodium")
    rows = tuple(
        {
            "itemid": str(50800 + n),
            "label": names[n % 5],
            "fluid": "Blood",
            "category": "Chemistry",
        }
        for n in range(20)
    )
    header = columns("itemid,label,fluid,category")
    return Table("hosp/d_labitems.csv", header, rows)


def diagnoses_icd() -> Table:
    rows = []
    for n in range(1, PEOPLE + 1):
        code, version = ("J189", "10") if n % 2 else ("486", "9")
        code = code if n % 3 else "I10"
        version = version if n % 3 else "10"
        rows.append(
            {
                "subject_id": _subject(n),
                "hadm_id": _hadm(n),
                "seq_num": "1",
                "icd_code": code,
                "icd_version": version,
            }
        )
    header = columns("subject_id,hadm_id,seq_num,icd_code,icd_version")
    return Table("hosp/diagnoses_icd.csv", header, tuple(rows))


def omr() -> Table:
    day = (ADMITTED - timedelta(days=30)).strftime("%Y-%m-%d")
    today = (ADMITTED + timedelta(days=1)).strftime("%Y-%m-%d")
    old = (ADMITTED - timedelta(days=900)).strftime("%Y-%m-%d")
    first = [
        (day, "Blood Pressure", "120/80"),
        (day, "Weight (Lbs)", "150"),
        (day, "Height (Inches)", "65"),
        (day, "BMI (kg/m2)", "25.0"),
        (day, "eGFR", ">60"),  # not in the table
        (today, "Weight (Lbs)", "151"),  # the day of the cutoff
        (old, "Weight (Lbs)", "140"),
        (day, "Blood Pressure", "high"),
        (day, "BMI (kg/m2)", "2500"),  # no patient has it
    ]
    rows = [(_subject(1), *cells) for cells in first]
    for n in range(2, PEOPLE + 1):
        before = (_start(n) - timedelta(days=3)).strftime("%Y-%m-%d")
        rows.append((_subject(n), before, "Weight (Lbs)", str(150 + n)))
    cells = tuple(
        {
            "subject_id": subject,
            "chartdate": date,
            "seq_num": "1",
            "result_name": name,
            "result_value": value,
        }
        for subject, date, name, value in rows
    )
    header = columns("subject_id,chartdate,seq_num,result_name,result_value")
    return Table("hosp/omr.csv", header, cells)


def icustays() -> Table:
    rows = [
        {
            "subject_id": _subject(n),
            "hadm_id": _hadm(n),
            "stay_id": str(39000000 + n),
            "first_careunit": "Medical Intensive Care Unit (MICU)",
            "last_careunit": "Medical Intensive Care Unit (MICU)",
            "intime": _at(4, _start(n)),
            "outtime": _at(50, _start(n)),
            "los": "1.9",
        }
        for n in range(1, PEOPLE)
    ]
    later = dict(rows[0], stay_id="39000099", intime=_at(60))
    header = """subject_id,hadm_id,stay_id,first_careunit,last_careunit,intime,outtime,
    los"""
    return Table("icu/icustays.csv", columns(header), (*rows, later))


def _chart(number: int, hours: float, itemid: str, value: str, unit: str, **more: str):
    row = _lab(number, hours, itemid, value, unit, **more)
    del row["specimen_id"], row["priority"]
    return {"stay_id": str(39000000 + number), "warning": "0", **row}


def chartevents() -> Table:
    header = """subject_id,hadm_id,stay_id,caregiver_id,charttime,storetime,itemid,
    value,valuenum,valueuom,warning"""
    rows = [
        _chart(1, 5, "220277", "92", "%"),
        _chart(1, 5, "220210", "24", "insp/min"),
        _chart(1, 5, "223761", "98.6", ""),
        _chart(1, 5, "223835", "0.4", ""),  # fraction or per cent? nobody says
        _chart(1, 5, "220045", "110", "bpm", warning="1"),
        _chart(1, 5, "220048", "AF (Atrial Fibrillation)", "", valuenum=""),
        _chart(1, 26, "220277", "99", "%"),
        _chart(1, 6, "226707", "65", "Inch"),
    ]
    rows += [_chart(n, 6, "220045", str(70 + n), "bpm") for n in range(2, PEOPLE)]
    return Table("icu/chartevents.csv", columns(header), tuple(rows))


def d_items() -> Table:
    header = """itemid,label,abbreviation,linksto,category,unitname,param_type,
    lownormalvalue,highnormalvalue"""
    rows = tuple(
        {
            "itemid": str(220000 + n),
            "label": f"Item {n}",
            "abbreviation": f"I{n}",
            "linksto": "chartevents",
            "category": "Routine Vital Signs",
            "param_type": "Numeric",
        }
        for n in range(20)
    )
    return Table("icu/d_items.csv", columns(header), rows)


def _note(number: int, kind: str, seq: int, hours: float, text: str) -> dict[str, str]:
    start = _start(number)
    return {
        "note_id": f"{_subject(number)}-{kind}-{seq}",
        "subject_id": _subject(number),
        "hadm_id": _hadm(number),
        "note_type": kind,
        "note_seq": str(seq),
        "charttime": _at(hours, start),
        "storetime": _at(hours + 0.4, start),
        "text": text,
    }


NOTE_HEADER = columns(
    "note_id,subject_id,hadm_id,note_type,note_seq,charttime,storetime,text"
)
DETAIL_HEADER = columns("note_id,subject_id,field_name,field_value,field_ordinal")


def discharge() -> Table:
    rows = [_note(n, "DS", 9, 120, DISCHARGE_TEXT) for n in range(1, PEOPLE + 1)]
    rows[1]["text"] = "All went well. SECRETCOURSE"  # no border to cut at
    rows[2]["text"] = "Brief Hospital Course:\nSECRETCOURSE"  # nothing before it
    rows.append(_note(1, "AD", 10, 121, DISCHARGE_TEXT))
    return Table("note/discharge.csv", NOTE_HEADER, tuple(rows))


def radiology() -> Table:
    rows = [_note(n, "RR", 1, 3, REPORT_TEXT) for n in range(1, PEOPLE + 1)]
    rows[1]["text"] = "FINDINGS: SECRETFINDING"  # no indication
    rows.append(_note(1, "RR", 2, 40, REPORT_TEXT))  # after the cutoff
    rows.append(_note(1, "AR", 3, 5, "ADDENDUM: SECRETIMPRESSION"))
    rows.append(_note(1, "RR", 4, 6, REPORT_TEXT.replace("cough", "leg pain")))
    return Table("note/radiology.csv", NOTE_HEADER, tuple(rows))


def _details(table: Table, field: str, value: str) -> tuple[dict[str, str], ...]:
    return tuple(
        {
            "note_id": row["note_id"],
            "subject_id": row["subject_id"],
            "field_name": field,
            "field_value": "KNEE" if row["note_id"].endswith("RR-4") else value,
            "field_ordinal": "1",
        }
        for row in table.rows
    )


def discharge_detail() -> Table:
    rows = _details(discharge(), "author", "___")
    return Table("note/discharge_detail.csv", DETAIL_HEADER, rows)


def radiology_detail() -> Table:
    rows = _details(radiology(), "exam_name", "CHEST (PA AND LAT)")
    return Table("note/radiology_detail.csv", DETAIL_HEADER, rows)


def mimic_tables() -> list[Table]:
    """All files of the fixture."""
    return [
        *(patients(), admissions(), labevents(), d_labitems(), diagnoses_icd()),
        *(omr(), icustays(), chartevents(), d_items(), discharge(), radiology()),
        *(discharge_detail(), radiology_detail()),
    ]


if __name__ == "__main__":
    write(Path(sys.argv[1]), mimic_tables(), gz="--gz" in sys.argv)
