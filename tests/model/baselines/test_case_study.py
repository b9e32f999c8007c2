"""Cross-validation on real cases: nobody is scored by a model that saw the patient."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model.baselines import case_study
from model.baselines.case_study import (
    FULL,
    CaseSettings,
    cross_validated,
    study_cases,
)
from model.baselines.case_tables import case_intro, case_sections
from model.baselines.case_tasks import TaskCases, read_tasks
from model.cli import main
from model.errors import DatasetError
from model.training.folder_study import FOLDS
from tests.model.baselines.folder_samples import write_folder

QUICK = CaseSettings(repeats=2, draws=20)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty reports and twenty-four hospital cases."""
    return write_folder(tmp_path_factory.mktemp("cases") / "folder")


@pytest.fixture
def without_network(monkeypatch: pytest.MonkeyPatch) -> list[tuple[set, set]]:
    """The network replaced by chance; keeps who was fitted and who was scored."""
    seen: list[tuple[set, set]] = []

    def fit(cases, target, label, settings):
        assert len(cases) == len(target) and label in ("covid19", "icu")
        return {c.group_id for c in cases}, settings.seed

    def score(trained, cases, label, coalition):
        fitted, seed = trained
        seen.append((fitted, {c.group_id for c in cases}))
        random = np.random.default_rng(seed + sum(coalition))
        return random.random(len(cases))

    monkeypatch.setattr(case_study, "fit_groups", fit)
    monkeypatch.setattr(case_study, "probabilities", score)
    return seen


def test_every_patient_is_scored_once_a_repeat_by_folds_that_exclude_it(
    folder: Path, without_network: list[tuple[set, set]]
) -> None:
    covid, _ = read_tasks(folder)
    found = cross_validated(covid, QUICK, progress=False)
    assert all(not fitted & held for fitted, held in without_network)
    assert len(without_network) == QUICK.repeats * FOLDS * 7
    for chances in found.by_method.values():
        assert chances.shape == (2, 30) and not np.isnan(chances).any()
    assert not np.array_equal(*found.by_method[FULL])  # repeats have other folds
    kinds = set(found.kinds.values())
    assert kinds == {"model", "baseline", "shortcut"}


def test_a_shortcut_that_knows_the_answer_is_shown_above_the_model(
    folder: Path, without_network: list[tuple[set, set]]
) -> None:
    report = study_cases(folder, QUICK, progress=False)
    covid, icu = report["tasks"]
    rows = {row["name"]: row for row in covid["rows"]}
    assert rows["year, logistic"]["auroc"]["value"] > 0.99
    assert rows["year, logistic"]["full_minus"]["value"] < -0.2
    assert rows[FULL]["full_minus"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert covid["patients"] == 30 and covid["positives"] == 15
    assert icu["have"] == {"image": 24, "text": 0, "values": 24}
    assert "TF-IDF, notes" not in {row["name"] for row in icu["rows"]}
    first, second = case_sections(report)
    assert "Best shortcut" in first.note and "30 patients (15 positive" in first.note
    assert len(second.rows) == len(icu["rows"])
    assert first.rows[0][-1] == "-" and "2 times" in case_intro(report)
    json.dumps(report)


def test_only_primary_images_are_scored_and_too_few_patients_are_refused(
    folder: Path, without_network: list[tuple[set, set]]
) -> None:
    covid, _ = read_tasks(folder)
    some = [replace(c, primary=n % 3 > 0) for n, c in enumerate(covid.cases)]
    found = cross_validated(replace(covid, cases=some), QUICK, progress=False)
    assert found.by_method[FULL].shape == (2, 20)
    few = TaskCases(covid.task, covid.cases[:6], covid.rows[:6], covid.target[:6])
    with pytest.raises(DatasetError, match="too few patients"):
        cross_validated(few, QUICK, progress=False)


def test_the_command_writes_its_page(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    without_network: list[tuple[set, set]],
) -> None:
    page = tmp_path / "real-cases.md"
    options = ["--repeats", "1", "--draws", "10", "--quiet", "--markdown", str(page)]
    assert main(["cases", "--data", str(folder), *options]) == 0
    assert "shortcut" in capsys.readouterr().out
    assert "## Intensive care" in page.read_text()


def test_a_folder_without_either_question_is_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        json.loads(line) for line in (folder / "cases.jsonl").read_text().split("\n")
    ]
    rows = [{**row, "covid19": None, "outcome": None} for row in rows]
    for row in rows:
        row["image"] = "images/one.jpg"
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "one.jpg").write_bytes(
        (folder / "images" / "case-0.jpg").read_bytes()
    )
    (tmp_path / "cases.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert main(["cases", "--data", str(tmp_path), "--quiet"]) == 2
    assert "none of the questions" in capsys.readouterr().err


def test_the_network_itself_scores_one_fold(folder: Path) -> None:
    from model.baselines.case_study import _network, usable_coalitions
    from model.training.optimise import Schedule

    _, icu = read_tasks(folder)
    short = Schedule(epochs=1, rate=1e-3, batch=16)
    recipe = replace(
        QUICK.train,
        encoders=(short, short, short),
        pooled=short,
        fusion=short,
        pieces=200,
    )
    used = usable_coalitions(icu)
    run = _network(icu, replace(QUICK, train=recipe), used)
    columns = run(np.arange(18), np.arange(18, 24), 0)
    assert len(columns) == len(used) == 3
    assert all(((c > 0) & (c < 1)).all() and len(c) == 6 for c in columns)
