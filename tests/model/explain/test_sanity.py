"""Maps against those of a model whose fusion knows nothing."""

from __future__ import annotations

import pytest
import torch

from model.explain import sanity
from model.explain.asked import Asked
from model.explain.sanity import (
    film_map,
    phrase_map,
    randomised,
    sanity_rows,
    word_map,
)
from model.synthetic.case import SynthCase
from model.training.stages import fusion_parameters


def test_only_the_fusion_is_randomised(ill: tuple[SynthCase, Asked]) -> None:
    model = ill[1].question.model
    before = [p.clone() for p in model.parameters()]
    blind = randomised(model, torch.Generator().manual_seed(1))
    fused = {id(p) for p in fusion_parameters(blind)}
    pairs = zip(model.parameters(), blind.parameters())
    changed = {id(b): not torch.equal(a, b) for a, b in pairs}
    assert all(changed[one] for one in fused)
    assert not any(was for one, was in changed.items() if one not in fused)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters()))


def test_draws_repeat_themselves_by_seed(ill: tuple[SynthCase, Asked]) -> None:
    model = ill[1].question.model
    made = [randomised(model, torch.Generator().manual_seed(s)) for s in (1, 1, 2)]
    first, again, other = (next(iter(fusion_parameters(m))) for m in made)
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_a_row_says_size_sign_and_the_worst_draw(ill: tuple[SynthCase, Asked]) -> None:
    rows = sanity_rows([ill[1]], 4, modules=3)
    for name in ("film", "words", "phrases"):
        size = rows[f"sanity_{name}"]
        assert size["target"] == "<= 0.2" and size["n"] == 3
        signed = rows[f"sanity_{name}_with_sign"]["value"]
        assert abs(signed) <= size["value"] + 1e-9
        assert size["value"] <= rows[f"sanity_{name}_largest"]["value"] + 1e-9
        assert size["low"] <= size["value"] <= size["high"]


def test_a_model_that_is_not_randomised_would_be_caught(
    ill: tuple[SynthCase, Asked], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sanity, "randomised", lambda model, _: model)
    rows = sanity_rows([ill[1]], 4, modules=1)
    assert all(rows[f"sanity_{n}"]["value"] > 0.99 for n in ("film", "words"))
    assert rows["sanity_film"]["holds"] is False


def test_each_map_has_one_number_for_each_place(ill: tuple[SynthCase, Asked]) -> None:
    asked = ill[1]
    assert len(film_map(asked)) == asked.question.tokens.image.shape[1]
    words = word_map(asked)
    assert len(words) > 20 and min(words) == 0 < max(words)
    phrases = phrase_map(asked)
    assert 1 < len(phrases) < len(words) and all(0 <= p <= 1 for p in phrases)
