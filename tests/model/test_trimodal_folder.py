"""A folder of cases is read as its layout promises, or refused with a clear error."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fhir_adapters.patient_record import Modality, ModalityStatus
from model.datasets.grey_image import read_grey
from model.datasets.trimodal_folder import read_cases, training_digest
from model.errors import DatasetError, DuplicateCaseError, PatientLeakError
from tests.services import data_folder

ROW = {
    "case_id": "case-1",
    "patient_id": "patient-1",
    "group_id": "group-1",
    "split": "train",
    "image": "images/case-1.jpg",
    "note": "RAW-NOTE states the answer",
    "note_masked": "Cough for five days. [MASK] suspected.",
    "structured": {
        "spo2": {"value": 93.0, "unit": "%", "loinc": "59408-5", "day_offset": -1},
        "factor_xiii": {"value": 90.0, "unit": "%", "loinc": None},
        "crp": {"value": None, "unit": "mg/L", "loinc": "1988-5"},
    },
    "structured_from_note": {"spo2": {"value": 12.0, "unit": "%", "loinc": "59408-5"}},
    "url": "https://leak.example",
    "sex": "female",
    "covid19": True,
    "primary": True,
    "subset": "case-reports",
}


def write(folder: Path, *rows: dict) -> Path:
    (folder / "images").mkdir(exist_ok=True)
    for row in rows:
        grey = np.full((40, 30), 128, dtype=np.uint8)
        Image.fromarray(grey).save(folder / "images" / f"{row['case_id']}.jpg")
    lines = "\n".join(json.dumps(row) for row in rows)
    (folder / "cases.jsonl").write_text(lines)
    return folder


def test_a_row_becomes_a_record_without_what_predicts_the_label(tmp_path: Path) -> None:
    (case,) = read_cases(write(tmp_path, ROW))
    record = case.record
    assert record.notes[0].text == ROW["note_masked"]
    assert [(v.loinc, v.value) for v in record.values] == [("59408-5", Decimal("93.0"))]
    assert record.skip_counts() == {"no_number": 1, "unmapped_code": 1}
    age = record.cutoff - record.values[0].measured_at
    assert timedelta(days=1) <= age < timedelta(days=2)
    assert record.images[0].pixels.shape == (40, 30)
    assert case.covid19 is True and case.primary
    everything = repr(record)
    assert "RAW-NOTE" not in everything and "leak.example" not in everything


def test_what_a_case_does_not_hold_is_absent(tmp_path: Path) -> None:
    row = {**ROW, "note_masked": None, "structured": {}}
    (case,) = read_cases(write(tmp_path, row))
    states = case.record.states
    assert states[Modality.TEXT].status is ModalityStatus.ABSENT
    assert states[Modality.TEXT].reason == "no_note"
    assert states[Modality.VALUES].reason == "no_value"
    assert case.record.presence()[Modality.IMAGE]


def test_splits_are_chosen_and_groups_never_leak(tmp_path: Path) -> None:
    other = {**ROW, "case_id": "case-2", "split": "test", "group_id": "group-2"}
    folder = write(tmp_path, ROW, other)
    assert [c.case_id for c in read_cases(folder, splits=("test",))] == ["case-2"]
    write(tmp_path, ROW, {**other, "group_id": "group-1"})
    with pytest.raises(DatasetError, match="more than one split"):
        read_cases(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"group_id": None}, "lacks group_id"),
        ({"split": "later"}, "unknown split"),
        ({"image": "../../outside.jpg"}, "outside the folder"),
        ({"image": "images/gone.jpg"}, "no readable image"),
        ({"case_id": "case_1"}, r"line 1: case_id is no FHIR id \(1 to 64"),
        ({"case_id": "c" * 65}, "case_id is no FHIR id"),
    ],
)
def test_a_broken_row_is_named(tmp_path: Path, change: dict, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        read_cases(write(tmp_path, {**ROW, **change}))


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no readable cases.jsonl"):
        read_cases(tmp_path)
    (tmp_path / "cases.jsonl").write_text("{not json")
    with pytest.raises(DatasetError, match="line 1 is not JSON"):
        read_cases(tmp_path)


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ("93", "malformed"),
        ({"value": "n/a", "unit": "%", "loinc": "59408-5"}, "malformed"),
        ({"value": 93, "unit": "", "loinc": "59408-5"}, "unknown_unit"),
        ({"value": 93, "unit": "%", "loinc": "1-8", "day_offset": "x"}, "malformed"),
        ({"value": 93, "unit": "%", "loinc": "1-8", "day_offset": 1e9}, "malformed"),
        ({"value": True, "unit": "%", "loinc": "59408-5"}, "malformed"),
        ({"value": float("nan"), "unit": "%", "loinc": "59408-5"}, "malformed"),
        ({"value": 93, "unit": 5, "loinc": "59408-5"}, "unknown_unit"),
        ({"value": 93, "unit": "%", "loinc": 594085}, "unmapped_code"),
        (93, "malformed"),
    ],
)
def test_an_unusable_value_is_counted(tmp_path: Path, entry, reason: str) -> None:
    row = {**ROW, "structured": {"spo2": entry}}
    (case,) = read_cases(write(tmp_path, row))
    assert case.record.skip_counts() == {reason: 1}


def test_a_sixteen_bit_film_keeps_its_grey_levels(tmp_path: Path) -> None:
    folder = write(tmp_path, {**ROW, "image": "images/deep.png"})
    ramp = np.linspace(0, 65535, 40 * 30).reshape(40, 30).astype(np.uint16)
    Image.fromarray(ramp).save(folder / "images" / "deep.png")
    (case,) = read_cases(folder)
    pixels = case.record.images[0].pixels
    assert abs(float(pixels.mean()) - 0.5) < 0.01 and float(pixels.max()) == 1.0
    floating = Image.fromarray(np.zeros((4, 4), dtype=np.float32))
    floating.save(folder / "images" / "deep.tiff")
    with pytest.raises(DatasetError, match="floating-point"):
        read_cases(write(tmp_path, {**ROW, "image": "images/deep.tiff"}))


def test_blank_lines_and_odd_separators_do_no_harm(tmp_path: Path) -> None:
    folder = write(tmp_path, ROW)
    line = json.dumps({**ROW, "note_masked": "a\u2028b"}, ensure_ascii=False)
    (folder / "cases.jsonl").write_text(f"{line}\n\n")
    (case,) = read_cases(folder)
    assert case.record.notes[0].text == "a\u2028b"
    (folder / "cases.jsonl").write_text("[1]")
    with pytest.raises(DatasetError, match="not an object"):
        read_cases(folder)


def test_the_training_digest_needs_the_whole_folder(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="lacks cases.jsonl"):
        training_digest(tmp_path)


def test_the_training_digest_follows_the_data(tmp_path: Path) -> None:
    before = training_digest(write(tmp_path, ROW))
    assert before == training_digest(tmp_path)
    picture = tmp_path / "images" / "case-1.jpg"
    content = picture.read_bytes()
    picture.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))  # as long as before
    assert before != training_digest(tmp_path)
    assert before != training_digest(write(tmp_path, {**ROW, "covid19": False}))


def test_columns_that_are_not_required_may_be_missing(tmp_path: Path) -> None:
    needed = ("case_id", "patient_id", "group_id", "split", "image")
    (case,) = read_cases(write(tmp_path, {key: ROW[key] for key in needed}))
    assert case.primary and case.covid19 is None and case.record.values == ()


def test_a_long_id_or_an_odd_name_still_gives_a_fhir_id(tmp_path: Path) -> None:
    name = "c" * 64
    value = {"value": "93", "unit": "%", "loinc": "59408-5"}
    row = {**ROW, "case_id": name, "image": f"images/{name}.jpg"}
    row["structured"] = {"oxygen (ear)": value}
    (case,) = read_cases(write(tmp_path, row))
    (found,) = case.record.values
    kind, _, reference = found.provenance.reference.partition("/")
    assert kind == "Observation" and re.fullmatch(r"[A-Za-z0-9.-]{1,64}", reference)


def test_bytes_that_are_not_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "cases.jsonl").write_bytes(b"\xff\xfe{}")
    with pytest.raises(DatasetError, match="no readable cases.jsonl"):
        read_cases(tmp_path)


@pytest.mark.parametrize(("top", "mean"), [(255, 0.5), (65535, 0.5)])
def test_wide_integers_are_scaled_by_their_depth(tmp_path: Path, top, mean) -> None:
    greys = np.array([[0, top]], dtype=np.int32)
    Image.fromarray(greys).save(tmp_path / "wide.tiff")
    pixels, kind = read_grey(tmp_path / "wide.tiff")
    assert (pixels.min(), pixels.max(), pixels.mean()) == (0.0, 1.0, mean)
    assert kind == "TIFF"
    Image.fromarray(greys + 65536).save(tmp_path / "wide.tiff")
    with pytest.raises(DatasetError, match="beyond sixteen bits"):
        read_grey(tmp_path / "wide.tiff")


def test_the_real_folder_reads_whole() -> None:
    cases = read_cases(data_folder("trimodal"))
    assert len(cases) == 452
    hannover = [c for c in cases if c.subset == "hannover"]
    assert len(hannover) == 204
    assert not any(c.record.notes for c in hannover)
    assert not any("COVID" in n.text for c in cases for n in c.record.notes)


def test_a_case_id_stands_once(tmp_path: Path) -> None:
    for split in ("train", "test"):
        other = {**ROW, "split": split, "group_id": "g-other", "patient_id": "p-other"}
        with pytest.raises(DuplicateCaseError, match="line 2: the case_id of line 1"):
            read_cases(write(tmp_path, ROW, other))


def test_a_group_in_two_splits_is_a_leak(tmp_path: Path) -> None:
    other = {**ROW, "case_id": "case-2", "split": "test"}
    with pytest.raises(PatientLeakError):
        read_cases(write(tmp_path, ROW, other))


def test_what_is_no_input_never_reaches_a_record(tmp_path: Path) -> None:
    secret = {
        name: f"SECRET-{name}"
        for name in (
            *("note", "note_presentation_masked", "note_imaging_masked", "url", "doi"),
            *("credit", "licence", "date", "location", "finding", "finding_group"),
            *("subset", "patient_id", "group_id"),
        )
    }
    value = {"value": 31, "unit": "%", "loinc": "59408-5"}
    row = {
        **ROW,
        **secret,
        "provenance": {"location": "SECRET"},
        "outcome": {"icu": True, "survived": "SECRET"},
        "structured": {},
        "structured_from_note": {"spo2": value},
    }
    (case,) = read_cases(write(tmp_path, row))
    assert "SECRET" not in repr(case.record)
    assert case.record.values == () and case.record.history == ()
    assert case.icu is True and case.finding_group == "SECRET-finding_group"
    (case,) = read_cases(write(tmp_path, {**row, "outcome": {"icu": "yes"}}))
    assert case.icu is None
