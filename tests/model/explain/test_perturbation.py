"""Taking away what an explanation names: pixels and words."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from model.explain.asked import Asked
from model.explain.attribution import text_path_gradient
from model.explain.perturbation import (
    FILM_SHARES,
    Place,
    alone,
    blurred,
    film_curves,
    films_alone,
    note_changes,
    note_drops,
)
from model.explain.phrases import note_words
from model.explain.scoring import WORD_SHARES
from model.network.inputs import IMAGE, TEXT
from model.synthetic.case import SynthCase


def places(asked: Asked) -> list[Place]:
    text = [note.text for note in asked.record.notes]
    words = note_words(asked.question, text_path_gradient(asked.question), text)
    return [
        (w.note, w.start, w.end) for w in sorted(words, key=lambda word: -word.share)
    ]


def test_a_blur_keeps_flat_films_and_flattens_points() -> None:
    flat = torch.full((1, 1, 9, 9), 3.0)
    assert torch.allclose(blurred(flat), flat)
    point = torch.zeros(1, 1, 9, 9)
    point[0, 0, 4, 4] = 49.0
    assert float(blurred(point)[0, 0, 4, 4]) == pytest.approx(1.0)


def test_curves_begin_and_end_at_the_film_and_its_blur(
    ill: tuple[SynthCase, Asked],
) -> None:
    case, asked = ill
    curves = film_curves(asked.question, case.mask.astype(float))
    assert len(curves.deletion) == len(curves.insertion) == len(FILM_SHARES)
    (whole,) = alone(asked.question, asked.question.tokens, IMAGE)
    assert curves.deletion[0] == pytest.approx(whole, abs=1e-5)
    assert curves.insertion[-1] == pytest.approx(whole, abs=1e-5)
    assert curves.deletion[-1] == pytest.approx(curves.insertion[0], abs=1e-6)
    # The lesion covers less than a seventh: without it the film says little.
    taken = FILM_SHARES.index(0.15)
    assert curves.deletion[taken] < whole - 0.1
    assert curves.insertion[taken] > curves.insertion[0] + 0.1


def test_the_same_film_gives_the_same_estimate(ill: tuple[SynthCase, Asked]) -> None:
    question = ill[1].question
    again = films_alone(question, question.inputs.pixels[0, :1].repeat(2, 1, 1, 1))
    (whole,) = alone(question, question.tokens, IMAGE)
    assert again == pytest.approx([whole, whole], abs=1e-5)


def test_words_out_and_words_kept_are_two_sides_of_one_note(
    ill: tuple[SynthCase, Asked],
) -> None:
    asked = ill[1]
    order = places(asked)
    drops = note_drops(asked.question, order)
    assert len(drops.without) == len(drops.only) == len(WORD_SHARES)
    (whole,) = alone(asked.question, asked.question.tokens, TEXT)
    assert drops.whole == pytest.approx(whole, abs=1e-5)
    assert max(drops.without) > 0.2
    backwards = note_drops(asked.question, order[::-1])
    assert np.mean(backwards.without) < np.mean(drops.without)


def test_taking_nothing_out_changes_nothing(ill: tuple[SynthCase, Asked]) -> None:
    asked = ill[1]
    order = places(asked)
    groups = [set(order[:count]) for count in (0, 1, 10)]
    none, one, ten = note_changes(asked.question, groups)
    assert none == pytest.approx(0.0, abs=1e-6)
    assert one != 0 and ten > one
    assert all(a <= b for a, b in pairwise((none, abs(one), ten)))
