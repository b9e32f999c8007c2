"""The bench: both ways of scoring agree where nothing is refused."""

from __future__ import annotations

import numpy as np

from model.evaluation.bench import Bench, called, probability, refused


def test_forced_and_served_estimates_are_the_same(bench: Bench) -> None:
    answers = bench.serve(bench.records[:8], "served")
    kept = ~refused(answers)
    served = [a.estimates[0].probability for a in answers if a.estimates]
    assert np.allclose(bench.chance[:8][kept], served, atol=1e-5)
    above = bench.chance[:8] >= bench.threshold
    assert (called(answers) == (above & kept)).all()


def test_probability_of_far_logits() -> None:
    assert probability(np.array([-800.0, 0.0, 800.0])).tolist() == [0.0, 0.5, 1.0]


def test_streams_are_apart_and_repeat(bench: Bench) -> None:
    assert bench.random(1, 2).random() == bench.random(1, 2).random()
    assert bench.random(1, 2).random() != bench.random(1, 3).random()
    assert bench.shifted == slice(0, 400)
