"""The page and its tables say what held and what was not run."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from model.cli import main
from model.errors import ConfigurationError
from model.films.folder import NIH
from model.films.report_page import RECIPE, write_markdown
from model.films.report_text import bars_hold, read_probe, tables

PROBE = {"masked": 0.6, "random": [0.5, 0.55], "losses": [0.9, 0.4], "size": 64}


def test_the_page_holds_every_figure_and_its_recipe(
    report: dict[str, Any], tmp_path: Path
) -> None:
    write_markdown(tmp_path / "films.md", report)
    page = (tmp_path / "films.md").read_text(encoding="utf-8")
    picture = tmp_path / "films.png"
    assert 0 < picture.stat().st_size < 200_000
    assert "films.png" in page and "NIH Clinical Center" in page
    assert "What stands in the way" not in page and "Not run." in page
    effusion = report["sources"][NIH]["findings"]["Effusion"]["auroc"]["value"]
    assert f"{effusion:.3f}" in page
    assert all(line in page for line in RECIPE.splitlines())
    assert json.loads((tmp_path / "films.json").read_text()) == json.loads(
        json.dumps(report)
    )


def test_every_command_of_the_recipe_is_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []

    def step(arguments: Any) -> int:
        asked.append(arguments.step)
        return 0

    from model import cli

    summary, add, _ = cli.COMMANDS["films"]
    monkeypatch.setitem(cli.COMMANDS, "films", (summary, add, step))
    for command in RECIPE.replace("\\\n", " ").splitlines():
        program, *words = command.split()
        assert program == "trivium-model" and main(words) == 0
    assert asked[0] == "train" and asked[-1] == "report" and "probe" in asked


def test_what_is_missing_or_missed_is_said(
    report: dict[str, Any], tmp_path: Path
) -> None:
    less = copy.deepcopy(report)
    less["official"], less["variants"] = None, {}
    less["pointing"], less["sources"][NIH]["mean"] = {"n": 0}, mean(False)
    text = tables(less)
    assert "no model trained on its train_val part" in text
    assert "No boxed test films" in text and "DOES NOT HOLD" in text
    assert "With and without" not in text
    assert not bars_hold(less)
    less["training"]["auroc_on_training_films"] = None
    write_markdown(tmp_path / "less.md", less)
    page = " ".join((tmp_path / "less.md").read_text(encoding="utf-8").split())
    assert "What stands in the way" in page and "three pixels alone have 0.610" in page
    assert "a mean AUROC of -, on those of other patients 0.700" in page
    less["sources"][NIH]["mean"] = mean(True)
    less["rendered"] = {"films": 3, "auroc": {"Opacity": 0.9}}
    assert "Opacity 0.900" in tables(less)
    assert bars_hold(less)
    less["probe"] = {**PROBE, "holds": False}
    assert "0.500, 0.550" in tables(less) and not bars_hold(less)


def test_research_runs_are_named(report: dict[str, Any]) -> None:
    other = copy.deepcopy(report)
    other["training"]["network"]["research_only"] = True
    text = tables(other)
    assert "not to be shipped" in text and "not to be shipped" not in tables(report)


def test_only_a_report_of_the_probe_is_read(tmp_path: Path) -> None:
    path = tmp_path / "probe.json"
    path.write_text(json.dumps({**PROBE, "holds": True}))
    assert read_probe(path)["masked"] == 0.6
    for text in ("{", "{}"):
        path.write_text(text)
        with pytest.raises(ConfigurationError):
            read_probe(path)


def mean(holds: bool) -> dict[str, Any]:
    """Means of one finding."""
    figure = {"value": 0.7, "low": None, "high": 0.8}
    scores = dict.fromkeys(("auprc", "accuracy", "precision", "recall", "f1"), 0.5)
    return {
        "findings": ["Effusion"],
        "auroc": figure,
        "readers": {
            "encoder": {"auroc": figure, **scores},
            "pixels": {"auroc": {**figure, "value": None}, **scores},
            "rim": {"auroc": {**figure, "value": 0.61}, **scores},
        },
        "ahead_of_pixels": figure,
        "ahead_of_rim": figure,
        "bar": 0.05,
        "goal": 0.1,
        "holds": holds,
        "goal_reached": holds,
    }
