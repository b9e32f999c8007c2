"""trivium-model from the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from model.cli import COMMANDS, main
from model.settings import DEMO_CHECKPOINT


def test_every_command_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    for name in COMMANDS:
        with pytest.raises(SystemExit) as stop:
            main([name, "--help"])
        assert stop.value.code == 0
        text = capsys.readouterr().out
        assert any(option in text for option in ("--checkpoint", "--out", "--json"))


def test_evaluate_prints_json_for_fresh_cases(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["evaluate", "--data", "synthetic", "--json", "--cases", "80"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert set(report["coalitions"]) >= {"image", "text", "values", "all"}
    assert report["data"]["seed"] == 2026


def test_evaluate_prints_a_table_and_can_be_strict(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code = main(["evaluate", "--cases", "60", "--seed", "12", "--strict"])
    text = capsys.readouterr().out
    assert "ceiling" in text and code == (1 if "NOT MET" in text else 0)


def test_a_training_seed_ends_in_exit_code_two(
    capsys: pytest.CaptureFixture[str],
) -> None:
    training = json.loads((DEMO_CHECKPOINT / "training.json").read_text())
    for seed in training["seeds"].values():
        assert main(["evaluate", "--seed", str(seed)]) == 2
        streams = capsys.readouterr()
        assert streams.out == "" and "used in training" in streams.err


def test_a_missing_checkpoint_ends_in_exit_code_two(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "--checkpoint", str(tmp_path)]) == 2
    assert "manifest" in capsys.readouterr().err


def test_train_refuses_too_few_cases(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--cases", "3", "--quiet"]) == 2
    assert "cases" in capsys.readouterr().err


def test_train_refuses_a_comparison_that_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--compare", str(tmp_path), "--quiet"]) == 2
    assert "training.json" in capsys.readouterr().err


def test_the_module_runs_as_a_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "model.cli", "--help"], capture_output=True, text=True
    )
    assert done.returncode == 0 and "evaluate" in done.stdout
