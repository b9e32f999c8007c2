"""Training on a folder: what may enter, how it is scored, what the card will say."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from model.cli import main
from model.datasets.trimodal_folder import read_cases
from model.errors import DatasetError
from model.inference.weights import load_checkpoint
from model.synthetic import Split, generate
from model.training.folder_study import (
    FOLDER_SETTINGS,
    LABEL,
    CrossValidated,
    cross_validate,
    eligible,
    method_words,
    source_words,
    study,
)
from model.training.optimise import Schedule

SHORT = Schedule(epochs=1, rate=1e-3, batch=16)
QUICK = replace(
    FOLDER_SETTINGS,
    encoders=(SHORT, SHORT, SHORT),
    pooled=SHORT,
    fusion=SHORT,
    pieces=200,
    threads=1,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty-five cases of forty patient groups, laid out as a user would."""
    made = tmp_path_factory.mktemp("folder")
    (made / "images").mkdir()
    rows = []
    for number, case in enumerate(generate(45, 3, split=Split.DEMO)):
        name, group = f"case-{number}", f"group-{min(number, 39)}"
        grey = np.round(case.image * 255).astype(np.uint8)
        Image.fromarray(grey).save(made / "images" / f"{name}.jpg")
        split = "train" if number < 26 else "val" if number < 34 else "test"
        rows.append(
            {
                "case_id": name,
                "patient_id": group,
                "group_id": group,
                "split": split,
                "subset": "case-reports",
                "primary": number < 40,
                "image": f"images/{name}.jpg",
                "note_masked": case.note.text,
                "structured": {
                    "crp": {"value": float(number), "unit": "mg/L", "loinc": "1988-5"}
                },
                "covid19": bool(number % 2),
                "finding_group": "none" if number == 0 else "covid19",
            }
        )
    (made / "cases.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return made


def test_only_patients_with_pneumonia_from_a_mixed_source_enter(folder: Path) -> None:
    cases = read_cases(folder)
    assert "case-0" not in {c.case_id for c in eligible(cases)}
    assert len(eligible(cases)) == len(cases) - 1
    one_sided = [replace(c, subset="hannover") for c in cases]
    unknown = [replace(c, covid19=None) for c in cases]
    assert eligible(one_sided) == [] and eligible(unknown) == []


def test_each_patient_is_scored_once_by_a_model_that_never_saw_it(folder: Path) -> None:
    cases = eligible(read_cases(folder, splits=("train", "val")))
    crossed = cross_validate(cases, QUICK, progress=False)
    assert len(crossed.score) == sum(c.primary for c in cases)
    assert ((crossed.score > 0) & (crossed.score < 1)).all()
    found = crossed.validation("by patient")
    assert found.n == len(crossed.score)
    assert found.low <= found.value <= found.high


@pytest.mark.cuda
def test_a_model_on_the_gpu_is_scored_there(folder: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device: cross-validation on a GPU is not tested")
    cases = eligible(read_cases(folder, splits=("train", "val")))
    crossed = cross_validate(cases, replace(QUICK, device="cuda"), progress=False)
    assert np.isfinite(crossed.score).all()


def test_too_few_patients_or_one_class_is_refused(folder: Path) -> None:
    cases = eligible(read_cases(folder))
    with pytest.raises(DatasetError, match="too few"):
        cross_validate(cases[:10], QUICK, progress=False)
    same = [replace(c, covid19=True) for c in cases]
    with pytest.raises(DatasetError, match="one class"):
        cross_validate(same, QUICK, progress=False)
    one_scored = [replace(c, primary=c.primary and c.covid19 is True) for c in cases]
    with pytest.raises(DatasetError, match="one class"):
        cross_validate(one_scored, QUICK, progress=False)
    rare = [replace(c, covid19=c.case_id not in ("case-2", "case-4")) for c in cases]
    with pytest.raises(DatasetError, match="too few patients of one class"):
        cross_validate(rare, QUICK, progress=False)


def test_a_perfect_and_a_useless_score_are_told_apart() -> None:
    target = np.array([0, 1] * 30)
    assert CrossValidated(target.astype(float), target).validation("m").value == 1.0
    noise = np.random.default_rng(0).random(60)
    interval = CrossValidated(noise, target).validation("m")
    assert interval.low < 0.5 < interval.high


def test_the_checkpoint_says_what_it_learnt_from_and_how_well(
    folder: Path, tmp_path: Path
) -> None:
    trained, description = study(folder, QUICK, progress=False)
    trained.save(tmp_path / "model", description)
    loaded = load_checkpoint(tmp_path / "model")
    assert loaded.config.labels == (LABEL,)
    identity = loaded.identity
    assert "25 films of 25 patients" in identity.trained_on
    assert identity.validation is not None
    assert "cross-validation" in identity.validation.method


def test_a_folder_without_validation_cases_is_refused(
    folder: Path, tmp_path: Path
) -> None:
    rows = (folder / "cases.jsonl").read_text().replace('"val"', '"train"')
    (tmp_path / "cases.jsonl").write_text(rows)
    shutil.copytree(folder / "images", tmp_path / "images")
    with pytest.raises(DatasetError, match="validation split"):
        study(tmp_path, QUICK, progress=False)


def test_a_folder_without_labels_says_so(folder: Path, tmp_path: Path) -> None:
    rows = [json.loads(r) for r in (folder / "cases.jsonl").read_text().split("\n")]
    unlabelled = [{k: v for k, v in r.items() if k != "covid19"} for r in rows]
    (tmp_path / "cases.jsonl").write_text("\n".join(map(json.dumps, unlabelled)))
    shutil.copytree(folder / "images", tmp_path / "images")
    with pytest.raises(DatasetError, match="no row has covid19 true or false"):
        study(tmp_path, QUICK, progress=False)


def test_only_published_case_reports_are_called_that(folder: Path) -> None:
    cases = eligible(read_cases(folder))
    assert source_words(cases, folder) == "published case reports with masked notes"
    own = [replace(c, subset="") for c in cases]
    assert source_words(own, Path("/x/our <b>")) == "cases of the folder our <b>"
    assert method_words(read_cases(folder)) == (
        "5-fold cross-validation by patient over train and validation case reports, "
        "patients without pneumonia left out"
    )
    assert method_words(own) == (
        "5-fold cross-validation by patient over the train and validation cases"
    )


def test_the_command_names_what_is_wrong_with_a_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--data", str(tmp_path), "--quiet"]) == 2
    assert "cases.jsonl" in capsys.readouterr().err
