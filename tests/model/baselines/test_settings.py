"""Settings of a comparison: what is refused, what names the kept results."""

from __future__ import annotations

from dataclasses import replace

import pytest

from model.baselines.settings import CompareSettings
from model.errors import ConfigurationError
from model.training.optimise import Schedule


def test_sizes_that_nothing_can_be_learnt_from_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="at least one seed"):
        CompareSettings(seeds=0)
    with pytest.raises(ConfigurationError, match="50 cases"):
        CompareSettings(tested=10)


def test_seeds_are_distinct_and_their_purposes_too() -> None:
    seeds = CompareSettings(seeds=3).seed_list()
    assert seeds == [7, 17, 27]
    assert CompareSettings().recipe(17).seed == 17


def test_what_changes_results_changes_the_digest_and_nothing_else_does() -> None:
    plain = CompareSettings()
    quiet = replace(plain, seeds=1, draws=5, train=replace(plain.train, progress=False))
    assert quiet.digest() == plain.digest()
    assert quiet.encoder_digest() == plain.encoder_digest()
    other = replace(plain, contrastive=Schedule(epochs=1, rate=1e-3))
    assert other.digest() != plain.digest()
    assert other.encoder_digest() == plain.encoder_digest()
    fewer = replace(plain, cases=100)
    assert fewer.encoder_digest() != plain.encoder_digest()
