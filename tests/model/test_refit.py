"""Fitting everything beside the weights again: same cases, same weights and figures."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from model.cli import main
from model.errors import ConfigurationError
from model.inference.vocabulary import PIPELINE
from model.inference.weights import load_checkpoint, write_manifest
from model.training.refit import asked_of, refit
from model.training.synthetic_run import run_synthetic
from tests.model.test_training import QUICK, SMALL

TINY = replace(SMALL, cases=60)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run that watched nothing."""
    folder = tmp_path_factory.mktemp("trained")
    run_synthetic(folder, QUICK, TINY)
    return folder


def changed(folder: Path, **more: Any) -> None:
    """Another ``training.json`` for the same weights."""
    path = folder / "training.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **more}))
    write_manifest(folder)


def test_weights_stay_and_the_rest_is_fitted_again(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = load_checkpoint(trained)
    assert not before.vocabulary.follows
    assert main(["refit", str(trained), "--out", str(tmp_path)]) == 0
    assert "attainable" in capsys.readouterr().out
    after = load_checkpoint(tmp_path)
    pairs = zip(before.model.state_dict().values(), after.model.state_dict().values())
    assert all(torch.equal(a, b) for a, b in pairs)
    assert after.vocabulary.pieces == before.vocabulary.pieces
    assert after.vocabulary.follows and after.vocabulary.pipeline == PIPELINE
    assert after.calibration.films and after.calibration.conformal
    kept = ("figures", "seeds", "data")
    assert all(after.training[key] == before.training[key] for key in kept)


def test_refitting_twice_gives_the_same_files(trained: Path, tmp_path: Path) -> None:
    refit(trained, tmp_path / "a")
    refit(tmp_path / "a", tmp_path / "b")
    for name in ("calibration.json", "values.json", "weights.safetensors"):
        first = (tmp_path / "a" / name).read_bytes()
        assert first == (tmp_path / "b" / name).read_bytes(), name


def test_older_checkpoints_were_trained_on_plain_cases(
    trained: Path, tmp_path: Path
) -> None:
    import shutil

    old = tmp_path / "old"
    shutil.copytree(trained, old)
    data = json.loads((old / "training.json").read_text())["data"]
    changed(old, data={k: v for k, v in data.items() if k != "varied"})
    settings, run = asked_of(load_checkpoint(old))
    assert settings.watch and not run.varied and run.cases == TINY.cases
    changed(old, data={**data, "source": "a folder"})
    with pytest.raises(ConfigurationError):
        refit(old, tmp_path / "new")


def test_json_prints_the_coalitions(
    trained: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stated = load_checkpoint(trained).training
    monkeypatch.setattr("model.training.refit.refit", lambda *_, **__: stated)
    assert main(["refit", str(trained), "--out", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["all"]["n"] == 60
