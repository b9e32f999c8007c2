"""Integrated gradients per value: shares, total and what is left."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from model.explain import value_path as module
from model.explain.asked import Asked
from model.explain.value_path import value_path
from model.network.inputs import ABSENT, VALUES
from model.synthetic.case import SynthCase


def test_shares_and_gap_add_up_to_what_the_values_change(
    ill: tuple[SynthCase, Asked],
) -> None:
    question = ill[1].question
    path = value_path(question)
    assert path is not None
    assert len(path.shares) == len(question.inputs.value_ids[0])
    assert sum(path.shares) + path.gap == pytest.approx(path.total, abs=1e-6)
    zero = torch.zeros_like(question.tokens.values)
    bare = replace(question.tokens, values=zero)
    with torch.no_grad():
        ends = [
            float(question.model.fuse(tokens, question.present).logits[0, 0])
            for tokens in (question.tokens, bare)
        ]
    assert not question.model.config.values.absent
    assert path.total == pytest.approx(ends[0] - ends[1], abs=1e-5)


def test_more_steps_leave_a_smaller_gap(
    ill: tuple[SynthCase, Asked], monkeypatch: pytest.MonkeyPatch
) -> None:
    rough_gaps, fine_gaps = [], []
    for steps, gaps in ((1, rough_gaps), (256, fine_gaps)):
        monkeypatch.setattr(module, "STEPS", steps)
        path = value_path(ill[1].question)
        assert path is not None
        gaps.append(abs(path.gap))
    assert fine_gaps[0] < rough_gaps[0]


def test_without_values_there_is_no_path(ill: tuple[SynthCase, Asked]) -> None:
    question = ill[1].question
    absent = replace(question, present=torch.tensor([[True, True, False]]))
    assert value_path(absent) is None
    nothing = replace(question, inputs=replace(question.inputs, value_ids=((),)))
    assert value_path(nothing) is None


def test_the_path_starts_at_the_absent_token_where_there_is_one(
    ill: tuple[SynthCase, Asked], monkeypatch: pytest.MonkeyPatch
) -> None:
    question = ill[1].question
    seen = []

    def encode(self: object, inputs: object, modality: int) -> tuple[object, object]:
        assert modality == VALUES
        seen.append(bool((inputs.flag == ABSENT).all()))  # type: ignore[attr-defined]
        return torch.ones_like(question.tokens.values), question.tokens.values_mask

    config = replace(
        question.model.config, values=replace(question.model.config.values, absent=True)
    )
    monkeypatch.setattr(question.model, "config", config)
    monkeypatch.setattr(type(question.model), "encode_modality", encode)
    path = value_path(question)
    assert seen == [True] and path is not None
    ones = torch.ones_like(question.tokens.values)
    with torch.no_grad():
        start = replace(question.tokens, values=ones)
        ends = [
            float(question.model.fuse(tokens, question.present).logits[0, 0])
            for tokens in (question.tokens, start)
        ]
    assert path.total == pytest.approx(ends[0] - ends[1], abs=1e-5)
