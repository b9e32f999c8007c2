"""Scores on disk, and probabilities from them by one rule."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from model.baselines.scored import Scored, calibrated, load_scored, save_scored
from model.errors import CheckpointError


def test_scores_survive_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "scores.npz"
    first = Scored({"text": np.array([1.0, 2.0])}, {"text": np.array([3.0])}, {"p": 4})
    save_scored(path, first)
    again = load_scored(path)
    assert again.held_out["text"].tolist() == [1.0, 2.0]
    assert again.tested["text"].tolist() == [3.0] and again.figures == {"p": 4}
    assert [p.name for p in path.parent.iterdir()] == ["scores.npz"]


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(b"PK")
    with pytest.raises(CheckpointError, match="holds no scores"):
        load_scored(tmp_path / "x.npz")
    np.savez(tmp_path / "y.npz", other=np.zeros(2))
    with pytest.raises(CheckpointError, match="holds no scores"):
        load_scored(tmp_path / "y.npz")


def test_calibration_reads_held_out_cases_only_and_finds_the_true_chance() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(size=8000) * 1.5
    truth = (random.random(8000) < 1 / (1 + np.exp(-logits))).astype(float)
    held, tested = slice(0, 4000), slice(4000, 8000)
    off = 100.0 * logits + 7.0  # any scale: ranks are what a method owes
    answer = calibrated(
        Scored({"all": off[held]}, {"all": off[tested]}), "all", truth[held]
    )
    wanted = 1 / (1 + np.exp(-logits[tested]))
    assert np.abs(answer.chance - wanted).mean() < 0.02
    kept = (answer.chance >= answer.threshold)[truth[tested] == 1].mean()
    assert 0.87 < kept < 0.94


def test_a_constant_score_gives_the_prevalence() -> None:
    truth = np.array([1.0] * 300 + [0.0] * 700)
    answer = calibrated(Scored({"a": np.zeros(1000)}, {"a": np.zeros(3)}), "a", truth)
    assert np.allclose(answer.chance, 0.3, atol=0.02)
