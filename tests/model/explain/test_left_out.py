"""What leaving a value out changes: here, and over the other modalities."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from model.explain.asked import Asked
from model.explain.attribution import SHAPLEY_WEIGHTS, coalition_values, shapley
from model.explain.left_out import JOINED, changes_without, value_scores
from model.inference.weights import LoadedCheckpoint
from model.jobs.explanation import ValueScore
from model.network.inputs import VALUES
from model.synthetic.case import Carries, SynthCase
from model.synthetic.values import ITEMS


def loincs(demo: LoadedCheckpoint, asked: Asked) -> list[str]:
    inputs = asked.question.inputs
    codes = inputs.code[0].tolist()[: len(inputs.value_ids[0])]
    return [demo.vocabulary.codes[code].loinc for code in codes]


def test_the_weight_is_the_size_of_the_change_over_four_coalitions(
    demo: LoadedCheckpoint, ill: tuple[SynthCase, Asked]
) -> None:
    question = ill[1].question
    scores = value_scores(question, loincs(demo, ill[1]))
    assert len(JOINED) == 4 and all(pattern[VALUES] for pattern in JOINED)
    for token in (0, 3):
        total = 0.0
        for pattern in JOINED:
            only = replace(question, present=torch.tensor([pattern]))
            kept = only.inputs.obs_mask.clone()
            kept[0, token] = False
            ends = []
            for mask in (only.inputs.obs_mask, kept):
                fresh = replace(only.inputs, obs_mask=mask)
                encoded, valid = only.model.encode_modality(fresh, VALUES)
                tokens = replace(only.tokens, values=encoded, values_mask=valid)
                raw = only.model.fuse(tokens, only.present).logits[0, 0]
                platt = only.calibration.of(pattern, only.label)
                ends.append(platt.logit(float(raw)))
            total += SHAPLEY_WEIGHTS[sum(pattern) - 1] * abs(ends[0] - ends[1])
            if all(pattern):
                change = ends[0] - ends[1]
                assert scores[token].left_out == pytest.approx(change, abs=1e-4)
        assert scores[token].weight == pytest.approx(total, abs=1e-4)
        assert scores[token].importance == scores[token].weight


@pytest.mark.component("A19")
def test_what_is_shown_is_the_weight_with_the_sign_of_the_direction(
    demo: LoadedCheckpoint, ill: tuple[SynthCase, Asked]
) -> None:
    for score in value_scores(ill[1].question, loincs(demo, ill[1])):
        assert score.weight is not None and score.direction is not None
        assert abs(score.logit) == score.weight
        assert (score.logit > 0) is (score.direction > 0)


def test_two_values_divide_the_modalitys_own(
    demo: LoadedCheckpoint, ill: tuple[SynthCase, Asked]
) -> None:
    """First and last are all the orders of two: their mean is the Owen value."""
    mask = torch.zeros_like(ill[1].question.inputs.obs_mask)
    mask[0, :2] = True
    inputs = replace(ill[1].question.inputs, obs_mask=mask)
    encoded, valid = ill[1].question.model.encode_modality(inputs, VALUES)
    tokens = replace(ill[1].question.tokens, values=encoded, values_mask=valid)
    question = replace(ill[1].question, inputs=inputs, tokens=tokens)
    scores = value_scores(question, loincs(demo, ill[1])[:2])
    whole = shapley(coalition_values(question).logit)[VALUES]
    assert sum(s.direction or 0.0 for s in scores) == pytest.approx(whole, abs=1e-4)


def test_one_severe_value_tells_as_much_as_two() -> None:
    """Why leave-one-out has no sign to show: in the truth it changes nothing here."""
    told = [item for item in ITEMS if item.carries is Carries.SEVERITY]
    assert {"6690-2", "59408-5"} <= {item.loinc for item in told}
    for item in told:
        ends = sorted(item.bands)
        assert all(low[1] < high[0] for low, high in zip(ends, ends[1:])), item.name


def test_values_are_ranked_by_weight_and_without_one_by_change() -> None:
    assert ValueScore("Observation/o", "1988-5", -0.7).importance == 0.7
    assert ValueScore("Observation/o", "1988-5", -0.7, weight=0.2).importance == 0.2


def test_groups_left_out_together_are_one_change(
    demo: LoadedCheckpoint, ill: tuple[SynthCase, Asked]
) -> None:
    question = ill[1].question
    scores = value_scores(question, loincs(demo, ill[1]))
    none, first, both = changes_without(question, [set(), {0}, {0, 1}])
    assert none == 0
    assert first == pytest.approx(scores[0].left_out, abs=1e-5)
    assert both != pytest.approx(first, abs=1e-6)


def test_an_absent_film_is_absent_in_every_coalition(
    demo: LoadedCheckpoint, ill: tuple[SynthCase, Asked]
) -> None:
    codes = loincs(demo, ill[1])
    present = torch.tensor([[False, False, True]])
    question = replace(ill[1].question, present=present)
    for score in value_scores(question, codes):
        # All four coalitions are the values alone, so the sizes agree.
        assert score.weight == pytest.approx(abs(score.left_out), abs=1e-6)
