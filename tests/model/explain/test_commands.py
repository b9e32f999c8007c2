"""``trivium-model explain-report`` and ``explain``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from model.cli import main
from model.explain import measures
from model.explain.report_rows import at_least, figure
from model.settings import DEMO_CHECKPOINT
from tests.model.explain.test_report_text import REPORT


@pytest.fixture
def asked_for(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the command asks to be measured; nothing is."""
    seen: dict[str, Any] = {}

    def measured(checkpoint: Any, cases: Any, **options: Any) -> dict[str, Any]:
        seen.update(options, name=checkpoint.identity.name, cases=len(cases))
        return REPORT

    monkeypatch.setattr(measures, "explanation_report", measured)
    return seen


def test_options_reach_the_measures(
    asked_for: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written = tmp_path / "new" / "report.md"
    options = ["--cases", "3", "--seed", "77", "--quiet", "--modules", "2"]
    options += ["--dominance-limit", "0.5", "--threads", "1"]
    assert main(["explain-report", *options, "--markdown", str(written)]) == 0
    assert asked_for["cases"] == 3 and asked_for["seed"] == 77
    assert asked_for["modules"] == 2 and asked_for["dominance_limit"] == 0.5
    assert asked_for["progress"] is False and asked_for["name"]
    command = "explain-report --cases 3 --seed 77 --modules 2 --dominance-limit 0.5"
    assert f"    trivium-model {command}\n" in written.read_text()
    options = ["--cases", "1", "--checkpoint", f"{DEMO_CHECKPOINT}/../demo"]
    assert main(["explain-report", *options, "--markdown", str(written)]) == 0
    typed = written.read_text().split("    trivium-model ")[1].splitlines()[0]
    assert typed.endswith(f"--seed 2027 --checkpoint {DEMO_CHECKPOINT}/../demo")
    assert "pointing_game" in capsys.readouterr().out


def test_json_and_strict(
    asked_for: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert main(["explain-report", "--cases", "1", "--json", "--strict"]) == 1
    assert json.loads(capsys.readouterr().out)["alerts"] == REPORT["alerts"]
    held = {**REPORT, "figures": {"pointing_game": figure(0.9, at_least(0.85))}}
    monkeypatch.setattr(measures, "explanation_report", lambda *_, **__: held)
    assert main(["explain-report", "--cases", "1", "--strict"]) == 0
    assert asked_for["cases"] == 1


def test_a_training_seed_ends_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    trained = json.loads((DEMO_CHECKPOINT / "training.json").read_text())["seeds"]
    seed = str(trained["train"])
    assert main(["explain-report", "--cases", "1", "--seed", seed, "--quiet"]) == 2
    assert capsys.readouterr().err.startswith("trivium-model: ")


def test_one_case_is_explained_as_a_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "case.png"
    assert main(["explain", "--index", "1", "--out", str(path), "--attention"]) == 0
    assert path.read_bytes().startswith(b"\x89PNG")
    out = capsys.readouterr().out
    assert "decision threshold" in out and str(path) in out
    assert main(["explain", "--index", "1", "--out", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["label"] == "pneumonia"
    assert all(v["weight"] >= 0 for v in found["values"])
