"""``trivium-model datasets check``: counts for a good folder, a line for a bad one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from model.cli import main
from model.datasets.account import Account
from model.datasets.checks import LAYOUTS, check
from model.datasets.commands import LAYOUT_NAMES
from model.errors import DatasetError
from tests.model.datasets.film_files import write_chexpert, write_cxr
from tests.model.datasets.mimic_files import mimic_tables
from tests.model.datasets.question_files import (
    write_cdm,
    write_medqa,
    write_vqa_rad,
)
from tests.model.datasets.tables import changed, write
from tests.model.test_trimodal_folder import ROW
from tests.model.test_trimodal_folder import write as write_trimodal

Capture = pytest.CaptureFixture[str]


def checked(layout: str, folder: Path, capsys: Capture) -> dict:
    """The counts that the command prints."""
    capsys.readouterr()
    code = main(["datasets", "check", layout, str(folder), "--json", "--quiet"])
    printed = capsys.readouterr()
    assert code == 0 and printed.err == "", printed.err
    counts = json.loads(printed.out)
    assert counts.pop("layout") == layout
    return counts


def test_the_command_names_every_layout() -> None:
    assert LAYOUT_NAMES == tuple(LAYOUTS)


@pytest.mark.component("A23a")
def test_mimic_iv_is_counted(mimic_folder: Path, capsys: Capture) -> None:
    counts = checked("mimic-iv", mimic_folder, capsys)
    tables = counts.pop("tables")
    assert counts == {
        "patients": 20,
        "admissions": 21,
        "records": 20,
        "patients_with_record": 19,
        "records_with_values": 20,
        "records_with_notes": 18,
        "values": 74,
        "notes": 36,
    }
    assert tables["labevents"]["rows"] == 37
    for table in tables.values():
        assert table["rows"] == table["used"] + sum(table["skipped"].values())


def test_mimic_cxr_is_counted(tmp_path: Path, capsys: Capture) -> None:
    counts = checked("mimic-cxr-jpg", write_cxr(tmp_path), capsys)
    labels = counts.pop("labels")
    assert counts == {
        "patients": 20,
        "studies": 20,
        "studies_by_split": {"test": 4, "train": 14, "validate": 2},
        "films": 40,
        "films_there": 38,
        "films_missing": 2,
        "films_by_view": {"AP": 9, "LATERAL": 20, "LL": 1, "PA": 10},
    }
    assert set(labels) == {"chexpert", "negbio", "radiologist"}
    assert sum(labels["radiologist"]["Edema"].values()) == 4
    (tmp_path / "mimic-cxr-2.1.0-test-set-labeled.csv").unlink()
    assert "radiologist" not in checked("mimic-cxr-jpg", tmp_path, capsys)["labels"]


@pytest.mark.component("A23b")
def test_chexpert_is_counted(tmp_path: Path, capsys: Capture) -> None:
    counts = checked("chexpert", write_chexpert(tmp_path), capsys)
    train = counts["parts"]["train"]
    assert counts["patients"] == 20 and train.pop("labels")["Edema"] == {
        "negative": 5,
        "not_mentioned": 5,
        "positive": 5,
        "uncertain": 5,
    }
    assert train == {
        "patients": 10,
        "films": 20,
        "frontal": 10,
        "films_there": 1,
        "films_missing": 19,
    }


@pytest.mark.component("A23c")
def test_medqa_is_counted(tmp_path: Path, capsys: Capture) -> None:
    with pytest.raises(DatasetError, match="no file of questions/US"):
        check("medqa", tmp_path)
    counts = checked("medqa", write_medqa(tmp_path), capsys)
    assert counts["questions_in_two_splits"] == 0
    assert counts["layouts"]["four"]["dev"] == {"questions": 20, "options": {"4": 20}}
    us = tmp_path / "questions" / "US"
    (us / "dev.jsonl").write_text((us / "train.jsonl").read_text())
    assert checked("medqa", tmp_path, capsys)["questions_in_two_splits"] == 20


def test_cdm_and_vqa_rad_are_counted(tmp_path: Path, capsys: Capture) -> None:
    counts = checked("mimic-cdm", write_cdm(tmp_path / "cdm"), capsys)
    assert counts["diseases"]["pancreatitis"] == {
        "admissions": 20,
        "values": 60,
        "notes": 20,
        "skipped": {
            "duplicate": 20,
            "text_value": 20,
            "unknown_unit": 20,
            "unmapped_item": 20,
        },
    }
    counts = checked("vqa-rad", write_vqa_rad(tmp_path / "vqa"), capsys)
    assert counts["files"]["trainset.json"] == {
        "questions": 24,
        "closed": 12,
        "test": 8,
        "images": 24,
    }
    with pytest.raises(DatasetError, match="no .json file"):
        check("vqa-rad", tmp_path)


def test_trimodal_is_counted(tmp_path: Path, capsys: Capture) -> None:
    counts = checked("trimodal", write_trimodal(tmp_path, ROW), capsys)
    assert counts["rows"] == counts["patient_groups"] == 1
    assert counts["by_split"][ROW["split"]] == {"rows": 1, "patient_groups": 1}


def test_a_person_sees_a_table_and_a_bar(mimic_folder: Path, capsys: Capture) -> None:
    assert main(["datasets", "check", "mimic-iv", str(mimic_folder)]) == 0
    printed = capsys.readouterr()
    assert "tables / labevents / skipped / unknown_unit" in printed.out
    assert "labevents" in printed.err and "99000001" not in printed.out


@pytest.mark.component("A23a")
def test_a_broken_folder_ends_in_one_line_with_its_place(
    tmp_path: Path, capsys: Capture
) -> None:
    tables = changed(
        mimic_tables(), "hosp/labevents.csv", lambda t: t.set(0, valuenum="SECRET")
    )
    write(tmp_path, tables)
    assert main(["datasets", "check", "mimic-iv", str(tmp_path), "--quiet"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == (
        "trivium-model: labevents.csv line 2, column valuenum: is no number\n"
    )


def test_no_folder_and_no_layout_are_refused(tmp_path: Path, capsys: Capture) -> None:
    assert main(["datasets", "check", "medqa", str(tmp_path / "x"), "--quiet"]) == 2
    assert "is no folder" in capsys.readouterr().err
    with pytest.raises(DatasetError, match="unknown layout"):
        check("nothing", tmp_path)


def test_an_account_that_lost_a_row_says_so() -> None:
    account = Account()
    account.use("t")
    account.skip("t", "reason", 2)
    assert account.balanced() and account.rows["t"] == 3
    account.rows["t"] += 1
    assert not account.balanced()
