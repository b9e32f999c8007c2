"""film-trimodal: cases as documented, coalitions of one model, an exact bound."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.cli import main
from model.errors import ConfigurationError
from model.evaluation.scores import auroc
from model.films.film_model import FilmRun, save_run
from model.films.film_trimodal import (
    COALITIONS,
    PAIRS,
    TrimodalSettings,
    coalition_report,
    film_trimodal,
)
from model.films.folder import KERMANY, NIH, FilmFolder
from model.films.joined_cases import (
    JoinedCases,
    attainable,
    film_state,
    joined_cases,
)
from model.films.joint_training import JointSettings
from model.films.trimodal_report import number, trimodal_page
from model.synthetic.latents import LATIN_SQUARE, Severity
from model.training.optimise import Schedule

ONE = Schedule(epochs=1, rate=1e-3, batch=64)
BRIEF = TrimodalSettings(
    JointSettings(
        pool=ONE, text=ONE, values=ONE, pooled=ONE, tokens=ONE, progress=False
    ),
    copies=1,
    draws=10,
)


@pytest.fixture(scope="module")
def joined(folder: FilmFolder) -> JoinedCases:
    """Many cases on few films."""
    return joined_cases(folder, "test", size=32, copies=20, seed=5)


def test_cases_follow_the_documented_rule(
    joined: JoinedCases, folder: FilmFolder
) -> None:
    for case, film in zip(joined.cases, joined.film.tolist()):
        state = case.latents
        image, syndrome, cells = state.patterns
        assert image == film == state.seen_pattern[0]
        fits = LATIN_SQUARE[film, syndrome] == cells
        assert fits == state.concordant
        ill = state.severity is Severity.HIGH
        ill |= state.severity is Severity.AMBIGUOUS and state.concordant
        assert case.label == int(ill ^ state.flipped)
    severity = np.array([int(c.latents.severity) for c in joined.cases])
    assert severity[joined.film == 1].mean() > severity[joined.film == 0].mean() + 0.3
    tested = {row.patient for row in folder.select(NIH, "test")}
    assert int(joined.patients.max()) + 1 == len(tested)


def test_the_same_seed_gives_the_same_cases(folder: FilmFolder) -> None:
    first, again, other = (
        joined_cases(folder, "val", size=32, copies=1, seed=s) for s in (3, 3, 4)
    )
    texts = [[c.note.text for c in part.cases] for part in (first, again, other)]
    assert texts[0] == texts[1] != texts[2]


def test_films_that_say_neither_take_no_part(folder: FilmFolder) -> None:
    row = folder.select(NIH)[1]
    assert film_state(row) == 0
    unsure = replace(row, findings={**row.findings, "No_Finding": 0.0, "Mass": 1.0})
    assert film_state(unsure) is None
    assert film_state(folder.select(NIH)[0]) == 1


def test_note_and_values_know_nothing_of_an_ambiguous_case(joined: JoinedCases) -> None:
    truth = np.array([case.label for case in joined.cases])
    middle = np.array([c.latents.severity is Severity.AMBIGUOUS for c in joined.cases])
    read, blind = attainable(joined), attainable(joined, np.full(len(joined), 0.5))
    assert ((read >= 0) & (read <= 1)).all()
    assert auroc(read[middle], truth[middle]) > 0.85
    assert abs(auroc(blind[middle], truth[middle]) - 0.5) < 0.08
    assert auroc(read, truth) > auroc(blind, truth) + 0.05
    # A posterior is calibrated by definition.
    assert read.mean() == pytest.approx(truth.mean(), abs=0.04)


@pytest.fixture(scope="module")
def report(taught: FilmRun, folder: FilmFolder) -> dict[str, Any]:
    return film_trimodal(folder, taught, BRIEF)


def test_every_coalition_is_reported_with_the_lead_of_fusion(
    report: dict[str, Any], folder: FilmFolder
) -> None:
    assert set(report["coalitions"]) == set(COALITIONS)
    assert set(report["fusion_minus"]) == set(COALITIONS) - {"I+T+V"}
    pairs = {name: report["fusion_minus"][name]["value"] for name in PAIRS}
    best = report["best_pair"]
    assert pairs[best] == min(pairs.values())
    assert report["holds"] == (pairs[best] >= 0)
    full = report["coalitions"]["I+T+V"]["auroc"]["value"]
    pair = report["coalitions"][best]["auroc"]["value"]
    assert pairs[best] == pytest.approx(full - pair)
    for row in report["coalitions"].values():
        found = row["auroc"]
        assert found["low"] <= found["value"] <= found["high"]
        assert set(row) == {
            *("auroc", "auprc", "accuracy", "precision", "recall", "f1")
        }
    patients = {row.patient for row in folder.select(NIH, "test")}
    assert report["test_patients"] == len(patients)


def test_figures_are_those_of_the_chances_they_are_made_from(
    folder: FilmFolder,
) -> None:
    tested = joined_cases(folder, "test", size=32, copies=1, seed=5)
    truth = np.array([case.label for case in tested.cases], dtype=np.float64)
    sharp = {name: truth * 0.8 + 0.1 for name in COALITIONS}
    blunt = sharp | {"I+V": np.full(len(truth), 0.3)}
    found = coalition_report(tested, blunt, draws=20)
    assert found["coalitions"]["I+T+V"]["auroc"]["value"] == 1.0
    assert found["coalitions"]["I+V"]["recall"] == 0.0
    assert found["fusion_minus"]["I+V"]["value"] == pytest.approx(0.5)
    assert found["holds"] and found["best_pair"] in ("I+T", "T+V")
    worse = coalition_report(tested, sharp | {"I+T+V": 1 - truth}, draws=20)
    assert worse["holds"] is False
    bound = found["attainable"]
    assert bound["film read without error"] > bound["film not looked at"]


def test_the_page_prints_every_figure(report: dict[str, Any]) -> None:
    page = trimodal_page(report)
    for name, row in report["coalitions"].items():
        line = next(x for x in page.splitlines() if x.startswith(f"| {name} |"))
        assert f"{row['auroc']['value']:.3f} (" in line
        assert f"| {row['accuracy']:.3f} |" in line
    assert f"Best pair: {report['best_pair']}." in page
    assert "trivium-model films-trimodal" in page and "--bert" not in page
    assert ("DOES NOT HOLD" in page) is not report["holds"]
    with_bert = {**report, "settings": {**report["settings"], "bert": True}}
    assert "--bert BERT" in trimodal_page({**with_bert, "holds": False})
    assert number(None) == number(float("nan")) == "-"


def test_the_command_writes_its_figures(
    taught: FilmRun,
    film_path: Path,
    report: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    save_run(tmp_path / "run", taught)
    asked: list[TrimodalSettings] = []

    def instead(folder, run, settings) -> dict[str, Any]:
        asked.append(settings)
        return {**report, "holds": False}

    monkeypatch.setattr("model.films.film_trimodal.film_trimodal", instead)
    out = tmp_path / "new" / "trimodal.md"
    command = ["films-trimodal", "--films", str(film_path), "--quiet"]
    command += ["--encoder", str(tmp_path / "run"), "--copies", "2"]
    assert main([*command, "--markdown", str(out)]) == 0
    assert asked[0].copies == 2 and not asked[0].joint.frozen_text
    assert capsys.readouterr().out == out.read_text()
    written = json.loads(out.with_suffix(".json").read_text())
    assert written["coalitions"] == report["coalitions"]
    assert main([*command, "--json", "--strict", "--bert", str(tmp_path)]) == 1
    assert json.loads(capsys.readouterr().out)["holds"] is False
    assert asked[1].joint.frozen_text and asked[1].bert == tmp_path


def test_without_eligible_films_nothing_is_trained(
    taught: FilmRun, folder: FilmFolder
) -> None:
    children = replace(folder, rows=folder.select(KERMANY))
    with pytest.raises(ConfigurationError):
        film_trimodal(children, taught, BRIEF)
