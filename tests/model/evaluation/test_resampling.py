"""Bootstrap intervals: coverage, patients kept together, pairs on the same cases."""

from __future__ import annotations

import time

import numpy as np
import pytest

from model.errors import ConfigurationError
from model.evaluation.resampling import (
    Difference,
    Interval,
    bootstrap,
    paired_bootstrap,
    resamples,
)
from model.evaluation.scores import accuracy, auroc, recall


def _cases(n: int, gain: float = 1.5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    truth = (random.random(n) < 0.4).astype(np.float64)
    return 1 / (1 + np.exp(-(gain * truth - 0.7 + random.normal(size=n)))), truth


@pytest.mark.component("A25b")
def test_an_interval_holds_its_score_and_agrees_with_itself() -> None:
    chance, truth = _cases(400)
    found = bootstrap(auroc, chance, truth, draws=200)
    assert found.low < found.value < found.high
    assert found.value == auroc(chance, truth) and found.n == 400
    assert bootstrap(auroc, chance, truth, draws=200) == found
    assert bootstrap(auroc, chance, truth, draws=200, seed=1) != found


def test_the_width_is_that_of_the_binomial() -> None:
    chance, truth = np.full(900, 0.9), np.r_[np.ones(810), np.zeros(90)]
    found = bootstrap(accuracy, chance, truth, draws=1000)
    error = (0.9 * 0.1 / 900) ** 0.5
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.1)


def test_whole_patients_are_drawn() -> None:
    groups = np.array([0, 0, 0, 1, 1, 2])
    for rows in resamples(6, groups, draws=20, seed=0):
        times = np.bincount(rows, minlength=6)
        assert times[0] == times[1] == times[2] and times[3] == times[4]
        assert list(rows) == sorted(rows)


def test_copies_of_a_patient_do_not_narrow_an_interval() -> None:
    chance, truth = _cases(150)
    alone = bootstrap(auroc, chance, truth, draws=300)
    names = np.array([f"patient-{i}" for i in range(150)])
    many = [np.repeat(column, 4) for column in (chance, truth, names)]
    kept = bootstrap(auroc, many[0], many[1], groups=many[2], draws=300)
    loose = bootstrap(auroc, many[0], many[1], draws=300)
    width = alone.high - alone.low
    assert kept.high - kept.low == pytest.approx(width, rel=0.25)
    assert loose.high - loose.low < 0.7 * width


def test_a_pair_is_compared_on_the_same_cases() -> None:
    chance, truth = _cases(500)
    random = np.random.default_rng(1)
    worse = chance + random.normal(size=500)
    found = paired_bootstrap(auroc, chance, worse, truth, draws=300)
    assert found.value == pytest.approx(auroc(chance, truth) - auroc(worse, truth))
    assert 0 < found.low < found.value < found.high
    assert found.p == pytest.approx(2 / 301)
    other = paired_bootstrap(auroc, worse, chance, truth, draws=300)
    assert other.value == -found.value and other.p == found.p
    grouped = paired_bootstrap(
        auroc, chance, worse, truth, groups=np.arange(500), draws=300
    )
    assert grouped.low > 0


def test_equal_models_do_not_differ() -> None:
    chance, truth = _cases(60)
    found = paired_bootstrap(auroc, chance, chance, truth, draws=50)
    assert found == Difference(0.0, 0.0, 0.0, 1.0, 60)


def test_draws_without_a_score_are_left_out() -> None:
    found = bootstrap(auroc, [0.2, 0.3, 0.9], [0, 0, 1], draws=100)
    assert found.value == found.low == found.high == 1.0


def test_nothing_defined_is_null_in_json() -> None:
    found = bootstrap(auroc, [0.2, 0.3], [0, 0], draws=5)
    assert found.to_json() == {"value": None, "low": None, "high": None, "n": 2}
    pair = paired_bootstrap(auroc, [0.2, 0.3], [0.1, 0.2], [0, 0], draws=5)
    assert pair.to_json()["p"] is None
    assert Interval(0.5, 0.4, 0.6, 9).to_json()["low"] == 0.4


def test_groups_must_match() -> None:
    with pytest.raises(ConfigurationError):
        bootstrap(auroc, [0.2, 0.3], [0, 1], groups=[1], draws=5)


def test_a_thousand_draws_of_ten_thousand_cases_take_seconds() -> None:
    chance, truth = _cases(10_000)
    start = time.process_time()
    bootstrap(auroc, chance, truth)
    bootstrap(recall, chance, truth)
    assert time.process_time() - start < 8
