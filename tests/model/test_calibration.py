"""Calibration per presence pattern, thresholds, and distances from the usual."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from model.errors import CheckpointError
from model.inference.calibration import (
    PATTERNS,
    Calibration,
    FeatureReference,
    Platt,
    mean_token,
    pattern_name,
)
from model.network.fusion import Tokens
from model.training.calibrate import (
    Charts,
    conformal_threshold,
    fit_platt,
    fit_references,
)


def test_every_pattern_has_one_name() -> None:
    names = [pattern_name(p) for p in PATTERNS]
    assert len(set(names)) == 8
    assert names[0] == "none" and names[-1] == "image+text+values"


def test_platt_is_a_sigmoid_that_does_not_overflow() -> None:
    platt = Platt(2.0, 0.5)
    assert platt.logit(1.0) == 2.5
    assert platt.probability(1.0) == pytest.approx(0.9241, abs=1e-4)
    assert platt.probability(-1e6) == 0.0 and platt.probability(1e6) == 1.0


def test_platt_recovers_an_overconfident_model() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(0, 1.5, 20_000)
    y = (rng.random(20_000) < 1 / (1 + np.exp(-truth))).astype(float)
    fitted = fit_platt(truth * 3 + 1, y, Platt(1.0, 0.0))
    assert fitted.slope == pytest.approx(1 / 3, abs=0.03)
    assert fitted.intercept == pytest.approx(-1 / 3, abs=0.06)


def test_platt_without_records_falls_back_to_its_anchor() -> None:
    anchor = Platt(0.7, -0.2)
    assert fit_platt(np.zeros(0), np.zeros(0), anchor) == anchor


def test_the_threshold_misses_at_most_a_tenth_of_positives() -> None:
    rng = np.random.default_rng(1)
    chance, y = rng.random(999), np.ones(999)
    threshold = conformal_threshold(chance, y)
    missed = int((chance < threshold).sum())
    assert 0 < (missed + 1) / 1000 <= 0.10
    assert conformal_threshold(chance[:8], y[:8]) == 0.5


def _tokens(shift: float = 0.0, n: int = 40) -> Tokens:
    random = torch.Generator().manual_seed(3)
    x = torch.randn(n, 4, 6, generator=random) + shift
    mask = torch.ones(n, 4, dtype=torch.bool)
    empty = torch.zeros(n, 4, dtype=torch.bool)
    return Tokens(x, x, x, mask, mask, empty)


def test_features_unlike_all_others_are_far_outside() -> None:
    usual = _tokens()
    charts = Charts(usual, usual)
    calibration = Calibration("1", {}, fit_references(charts, charts))
    assert set(calibration.references) == {"image", "text"}
    assert (calibration.outside(usual)["image"] <= 1).float().mean() > 0.95
    assert (calibration.outside(_tokens(5.0))["image"] > 2).all()


def test_sparse_charts_widen_the_limit() -> None:
    usual, other = _tokens(), _tokens(1.0)
    narrow = fit_references(Charts(usual, usual), Charts(usual, usual))
    wide = fit_references(Charts(usual, usual), Charts(usual, other))
    assert wide["text"].limit > narrow["text"].limit


def test_an_absent_modality_is_not_outside() -> None:
    reference = FeatureReference((9.0,) * 6, tuple(map(tuple, np.eye(6))), 1.0)
    calibration = Calibration("1", {}, {"values": reference})
    assert calibration.outside(_tokens())["values"].tolist() == [0.0] * 40


def test_the_mean_token_ignores_padding() -> None:
    x = torch.tensor([[[1.0], [float("nan")], [3.0]]])
    mask = torch.tensor([[True, False, True]])
    assert mean_token(x, mask).tolist() == [[2.0]]
    assert mean_token(x, torch.zeros_like(mask)).tolist() == [[0.0]]


def test_a_calibration_survives_its_file(tmp_path: Path) -> None:
    full = pattern_name(PATTERNS[-1])
    written = Calibration(
        "v1",
        {full: {"a": Platt(1.5, -0.25)}},
        fit_references(Charts(_tokens(), _tokens()), Charts(_tokens(), _tokens())),
        {"a": 0.125},
    )
    written.save(tmp_path)
    loaded = Calibration.load(tmp_path)
    assert loaded == written
    assert loaded.of(PATTERNS[-1], "a") == Platt(1.5, -0.25)
    with pytest.raises(CheckpointError):
        loaded.of(PATTERNS[0], "a")


def test_the_identity_takes_logits_at_their_word() -> None:
    plain = Calibration.identity(["a"])
    assert all(plain.of(p, "a") == Platt(1.0, 0.0) for p in PATTERNS)


@pytest.mark.parametrize("text", ["", "[]", '{"version": "1"}', '{"platt": 3}'])
def test_a_malformed_calibration_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "calibration.json").write_text(text)
    with pytest.raises(CheckpointError):
        Calibration.load(tmp_path)
