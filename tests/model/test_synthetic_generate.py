"""Whole synthetic cases: reproducible, prefix-stable, consistent."""

from __future__ import annotations

import time
from datetime import timedelta

import numpy as np
import pytest

from model.synthetic import Knobs, Split, SynthCase, generate
from model.synthetic.case import Lobe, SpanKind


def same(one: SynthCase, other: SynthCase) -> bool:
    return (
        np.array_equal(one.image, other.image)
        and one.note == other.note
        and one.values == other.values
        and one.case_id == other.case_id
        and one.latents == other.latents
    )


def test_a_case_is_fixed_by_split_seed_and_index() -> None:
    long = list(generate(12, 3, image_size=32))
    short = list(generate(5, 3, image_size=32))
    assert all(same(a, b) for a, b in zip(long, short))
    assert len({case.case_id for case in long}) == 12


@pytest.mark.parametrize(
    "other", [{"seed": 4}, {"split": Split.TEST}, {"parameters": "P1"}]
)
def test_another_seed_split_or_parameter_set_has_other_case_ids(
    other: dict[str, object],
) -> None:
    usual = {"n": 4, "seed": 3, "image_size": 32}
    ids = {case.case_id for case in generate(**usual)}
    others = list(generate(**{**usual, **other}))
    assert ids.isdisjoint(case.case_id for case in others)


def test_training_and_test_cases_of_one_seed_differ() -> None:
    train = next(generate(1, 3, image_size=32))
    test = next(generate(1, 3, image_size=32, split=Split.TEST))
    assert not np.array_equal(train.image, test.image)
    assert train.note.text != test.note.text


def test_image_size_changes_the_film_and_nothing_else() -> None:
    small, large = (next(generate(1, 8, image_size=s)) for s in (32, 128))
    assert large.image.shape == (128, 128) and small.image.shape == (32, 32)
    assert small.note == large.note and small.values == large.values
    assert small.lobe is large.lobe


def test_cases_are_consistent_in_themselves() -> None:
    for case in generate(60, 2, image_size=32):
        assert case.side.value == case.lobe.value.split()[0]
        columns = np.nonzero(case.mask)[1]
        assert bool(columns.mean() < 16) is (case.side.value == "right")
        sides = {s.state for s in case.note.spans if s.kind is SpanKind.LATERALITY}
        assert sides == {case.side.value}
        assert case.film_at < case.note_at < case.cutoff
        assert case.film_at - timedelta(days=2) < min(
            v.measured_at for v in case.values
        )
        lived = (case.film_at.date() - case.birth_date).days / 365.25
        assert int(lived) == case.age_years
        assert case.sex in ("female", "male")
        assert case.label in (0, 1)


def test_age_sex_and_lobe_do_not_tell_the_label() -> None:
    cases = list(generate(1500, 6, image_size=32))
    label = np.array([case.label for case in cases])
    age = np.array([case.age_years for case in cases])
    assert abs(age[label == 1].mean() - age[label == 0].mean()) < 4.5
    for attribute in (
        [case.sex == "male" for case in cases],
        [case.lobe is Lobe.RIGHT_UPPER for case in cases],
    ):
        flags = np.array(attribute)
        assert abs(flags[label == 1].mean() - flags[label == 0].mean()) < 0.1


def test_knobs_reach_the_rendering() -> None:
    hard = Knobs(absence=1.0, distractors=1.0, wrong_side=1.0)
    usual = next(generate(1, 5, image_size=32))
    case = next(generate(1, 5, image_size=32, knobs=hard))
    assert case.values == () and len(case.absent) > 10
    assert len(case.distractors) == 3
    sides = {s.state for s in case.note.spans if s.kind is SpanKind.LATERALITY}
    assert sides == {"left" if case.side.value == "right" else "right"}
    assert case.latents == usual.latents and case.label == usual.label


def test_unknown_parameters_are_refused() -> None:
    with pytest.raises(ValueError, match="no parameter set"):
        next(generate(1, 1, "P9"))


def test_ten_thousand_cases_would_take_less_than_a_minute() -> None:
    start = time.process_time()
    assert sum(1 for _ in generate(200, 1)) == 200
    assert time.process_time() - start < 200 * 0.006
