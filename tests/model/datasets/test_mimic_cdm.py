"""MIMIC-CDM: plain pickles only, and no diagnosis in a record."""

from __future__ import annotations

import os
import pickle
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.datasets.mimic_cdm import read_cdm
from model.datasets.restricted_pickle import read_plain_pickle
from model.errors import DatasetError, DatasetFileError, PickleRefusedError
from tests.model.datasets.question_files import cdm_row, write_cdm

NAME = "appendicitis_hadm_info_first_diag.pkl"


class Bomb:
    """Runs a command when it is unpickled."""

    def __init__(self, touched: Path) -> None:
        self.touched = touched

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {self.touched}",)


def pickled(tmp_path: Path, value: object, protocol: int = 4) -> Path:
    path = tmp_path / NAME
    path.write_bytes(pickle.dumps(value, protocol=protocol))
    return path


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_malicious_pickle_runs_nothing(tmp_path: Path, protocol: int) -> None:
    touched = tmp_path / "touched"
    path = pickled(tmp_path, {29100000: Bomb(touched)}, protocol)
    with pytest.raises(PickleRefusedError, match="class or function") as caught:
        list(read_cdm(tmp_path, "appendicitis"))
    assert not touched.exists() and "system" not in str(caught.value)
    with path.open("rb") as stream:
        pickle.Unpickler(stream).load()  # the same file does run elsewhere
    assert touched.exists()


@pytest.mark.parametrize(
    "data",
    [
        b"cos\nsystem\n(S'true'\ntR.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.",
        b"(S'true'\nios\nsystem\n.",
        b"cbuiltins\neval\n(S'1'\ntR.",
        pickle.dumps(np.float64(1.5)),
        pickle.dumps(Decimal("1.5")),
        pickle.dumps(slice(0, 1)),
        b"Pidentifier\n.",
        b"\x80\x04\x8c\x01xQ.",
    ],
)
def test_every_name_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.pkl"
    path.write_bytes(data)
    with pytest.raises(PickleRefusedError):
        read_plain_pickle(path)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b".",
        b"not a pickle",
        b"\x80\x05K",
        pickle.dumps({"a": [1]})[:-3],
        b"\x82\x01.",
    ],
)
def test_a_damaged_pickle_is_an_error(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.pkl"
    path.write_bytes(data)
    with pytest.raises(DatasetFileError, match="no whole pickle"):
        read_plain_pickle(path)


def test_size_is_checked_before_reading(tmp_path: Path) -> None:
    path = pickled(tmp_path, list(range(100)))
    with pytest.raises(DatasetFileError, match="too large"):
        read_plain_pickle(path, max_bytes=10)
    with pytest.raises(DatasetFileError, match="cannot be opened"):
        read_plain_pickle(tmp_path / "gone.pkl")
    assert read_plain_pickle(path) == list(range(100))


def test_an_admission_becomes_a_record_without_its_answer(tmp_path: Path) -> None:
    cases = list(read_cdm(write_cdm(tmp_path), "appendicitis"))
    assert len(cases) == 20 and cases[0].hadm_id == "29100000"
    record = cases[3].record
    assert "SECRET" not in repr(record)
    assert record.notes[0].text == "_ with 3 days of pain\n\nsoft abdomen"
    found = {v.loinc: v for v in record.values}
    assert found.keys() == {"6690-2", "1988-5", "6301-6"}
    assert found["1988-5"].comparator == "<"
    assert (found["6690-2"].reference_low, found["6690-2"].reference_high) == (4, 10)
    assert found["6301-6"].reference_low is None
    assert record.skip_counts() == {
        "duplicate": 1,
        "text_value": 1,
        "unknown_unit": 1,
        "unmapped_item": 1,
    }
    assert cases[0].diagnosis == "SECRETDIAGNOSIS; pain"
    assert cases[0].disease == "appendicitis"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ([1], "no dictionary by hadm_id"),
        ({"x": {}}, "no admission"),
        ({1: 2}, "no admission"),
        ({1: {}}, "column Patient History"),
        ({1: {**cdm_row(1), "Laboratory Tests": [1]}}, "column Laboratory Tests"),
        ({1: {**cdm_row(1), "Discharge Diagnosis": 7}}, "column Discharge Diagnosis"),
    ],
)
def test_another_shape_is_refused(tmp_path: Path, value: object, reason: str) -> None:
    pickled(tmp_path, value)
    with pytest.raises(DatasetFileError, match=reason):
        list(read_cdm(tmp_path, "appendicitis"))


def test_an_unknown_disease_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="diseases"):
        list(read_cdm(tmp_path, "../../x"))


def test_a_case_without_words_has_no_note(tmp_path: Path) -> None:
    empty = {"Patient History": "", "Physical Examination": " "}
    pickled(tmp_path, {1: {**cdm_row(1), **empty}})
    (case,) = read_cdm(tmp_path, "appendicitis")
    assert case.record.notes == ()
