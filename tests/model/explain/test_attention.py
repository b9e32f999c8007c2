"""Attention under its own name, token by token."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch

from model.explain.asked import Asked
from model.explain.attention import NOT_ATTRIBUTION, Attention, token_attention
from model.jobs.explanation import Explanation
from model.network.inputs import IMAGE, MODALITIES, TEXT, VALUES
from model.synthetic.case import SynthCase


@pytest.mark.component("A17")
def test_attention_is_never_called_attribution(ill: tuple[SynthCase, Asked]) -> None:
    for modality in (IMAGE, TEXT, VALUES):
        found = token_attention(ill[1].question, modality)
        assert found.kind == "attention, not attribution" == NOT_ATTRIBUTION
        assert found.modality == MODALITIES[modality]
    # What is shown as an explanation has no room for it.
    assert not any("attention" in field.name for field in fields(Explanation))


def test_each_token_has_the_weight_that_the_fusion_gave_it(
    ill: tuple[SynthCase, Asked],
) -> None:
    question = ill[1].question
    with torch.no_grad():
        row = question.model.fuse(question.tokens, question.present).attention[0, 0]
    parts = [token_attention(question, m).weights for m in (IMAGE, TEXT, VALUES)]
    assert [len(p) for p in parts] == [x.shape[1] for x in question.tokens.content()]
    start = 3
    for part in parts:
        start += 1  # the summary
        assert part == pytest.approx(row[start : start + len(part)].tolist())
        start += len(part)
    assert start == len(row)
    assert 0 < sum(map(sum, parts)) < 1


def test_an_absent_modality_has_no_weights_and_shifts_nothing(
    ill: tuple[SynthCase, Asked],
) -> None:
    question = ill[1].question
    less = replace(question, present=torch.tensor([[False, True, True]]))
    assert token_attention(less, IMAGE).weights == ()
    with torch.no_grad():
        row = less.model.fuse(less.tokens, less.present).attention[0, 0]
    values = token_attention(less, VALUES).weights
    assert values == pytest.approx(row[-len(values) :].tolist())


def test_weights_are_laid_out_in_rows_of_patches() -> None:
    attention = Attention("image", (1.0, 2.0, 3.0, 4.0, 5.0, 6.0))
    assert attention.grid(3) == ((1.0, 2.0, 3.0), (4.0, 5.0, 6.0))
