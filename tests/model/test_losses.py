"""The label losses, by hand: masks, positive weights, single-label questions."""

from __future__ import annotations

import math

import pytest
import torch

from model.datasets.chexpert_labels import Uncertain, one_policy
from model.datasets.chexpert_labels import targets as mark_targets
from model.errors import ConfigurationError
from model.network.fusion import FusionOutput
from model.network.losses import (
    UNKNOWN_CLASS,
    masked_bce,
    masked_cross_entropy,
    tri_modal_loss,
)
from model.training.loss_weights import LOSSES, LossWeights
from model.training.objective import positive_weights


def _output(logits: torch.Tensor, unimodal: torch.Tensor) -> FusionOutput:
    nothing = torch.zeros(1)
    return FusionOutput(logits, unimodal, nothing, nothing)


@pytest.mark.component("A11")
@pytest.mark.component("A11a")
def test_masked_bce_is_the_mean_over_known_labels_and_blind_to_the_rest() -> None:
    logits = torch.tensor([[0.0, 2.0], [1.0, -3.0]], requires_grad=True)
    targets = torch.tensor([[1.0, float("nan")], [0.0, 1.0]])
    known = torch.tensor([[True, False], [True, False]])
    loss = masked_bce(logits, targets, known)
    # -log sigmoid(0) = log 2 and -log(1 - sigmoid(1)) = log(1 + e)
    assert float(loss.detach()) == pytest.approx(
        (math.log(2) + math.log(1 + math.e)) / 2
    )
    loss.backward()
    assert logits.grad is not None
    assert logits.grad[:, 1].tolist() == [0.0, 0.0]
    # (sigmoid(x) - y) / 2 for the two known entries
    assert logits.grad[0, 0].item() == pytest.approx((0.5 - 1.0) / 2)
    sigmoid = 1 / (1 + math.exp(-1.0))
    assert logits.grad[1, 0].item() == pytest.approx(sigmoid / 2)


@pytest.mark.component("A11a")
def test_the_gradients_of_both_losses_are_those_of_small_steps() -> None:
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 3, dtype=torch.float64, generator=random)
    logits.requires_grad_(True)
    targets = torch.randint(0, 2, (5, 3), generator=random).double()
    known = torch.rand(5, 3, generator=random) > 0.3
    weights = torch.tensor([2.0, 1.0, 0.5], dtype=torch.float64)
    check = torch.autograd.gradcheck
    assert check(lambda x: masked_bce(x, targets, known), (logits,))
    assert check(lambda x: masked_bce(x, targets, known, weights), (logits,))
    classes = torch.tensor([0, UNKNOWN_CLASS, 2, 1, UNKNOWN_CLASS])
    assert check(lambda x: masked_cross_entropy(x, classes), (logits,))


@pytest.mark.component("A11a")
def test_an_uncertain_mark_is_masked_like_an_unknown_one() -> None:
    """As the label file has it: 1 yes, 0 no, -1 uncertain, nothing not mentioned."""
    marks = (1, 0, -1, None, *([None] * 10))
    found = mark_targets("film", marks, one_policy(Uncertain.IGNORE))
    targets = torch.from_numpy(found.value[None, :4])  # (1, 4)
    known = torch.from_numpy(found.known[None, :4])
    assert known[0].tolist() == [True, True, False, False]
    logits = torch.tensor([[0.3, -0.2, 4.0, -4.0]], requires_grad=True)
    masked_bce(logits, targets, known).backward()
    assert logits.grad is not None
    assert (logits.grad[0] != 0).tolist() == [True, True, False, False]


def test_nothing_known_costs_nothing() -> None:
    logits = torch.ones(2, 1, requires_grad=True)
    loss = masked_bce(logits, torch.ones(2, 1), torch.zeros(2, 1, dtype=torch.bool))
    loss.backward()
    assert float(loss.detach()) == 0.0 and logits.grad is not None
    assert logits.grad.abs().sum() == 0


def test_positive_weights_make_both_classes_count_alike() -> None:
    targets = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    known = torch.tensor([[True] * 3, [True] * 3, [True, True, False]])
    weights = positive_weights(targets, known)
    assert weights.tolist() == [2.0, 1.0, 1.0]  # 2 of 1; no positive; no negative
    logits = torch.zeros(3, 1)
    first = masked_bce(logits, targets[:, :1], known[:, :1], weights[:1])
    # (2 log 2 + log 2 + log 2) / 3
    assert float(first.detach()) == pytest.approx(4 * math.log(2) / 3)
    rare = positive_weights(torch.eye(100)[:, :1], torch.ones(100, 1).bool())
    assert rare.tolist() == [20.0]


@pytest.mark.component("A11a")
def test_single_label_questions_leave_out_the_unknown() -> None:
    logits = torch.tensor([[0.0, 0.0], [5.0, 1.0]], requires_grad=True)
    loss = masked_cross_entropy(logits, torch.tensor([1, UNKNOWN_CLASS]))
    assert float(loss.detach()) == pytest.approx(math.log(2))
    loss.backward()
    assert logits.grad is not None and logits.grad[1].tolist() == [0.0, 0.0]
    nothing = masked_cross_entropy(logits, torch.tensor([UNKNOWN_CLASS] * 2))
    assert float(nothing.detach()) == 0.0


def test_every_modality_head_counts_a_share_and_an_absent_one_nothing() -> None:
    unimodal = torch.zeros(1, 3, 1, requires_grad=True)
    output = _output(torch.zeros(1, 1), unimodal)
    one, known = torch.ones(1, 1), torch.ones(1, 1).bool()
    present = torch.tensor([[True, False, True]])
    loss = tri_modal_loss(output, one, known, present)
    assert float(loss.detach()) == pytest.approx(math.log(2) * 1.15)
    loss.backward()
    assert unimodal.grad is not None and unimodal.grad[0, 1, 0] == 0
    weighed = tri_modal_loss(
        output, one, known, present, classification=2.0, unimodal=0.0
    )
    assert float(weighed.detach()) == pytest.approx(2 * math.log(2))
    heavy = tri_modal_loss(output, one, known, present, positive=torch.tensor([3.0]))
    assert float(heavy.detach()) == pytest.approx(3 * math.log(2) * 1.15)


@pytest.mark.component("A11")
def test_every_loss_is_a_switch() -> None:
    assert LossWeights().names() == ("cls", "uni")
    for name in LOSSES:
        if name in ("con", "exp"):
            assert LossWeights.of(["cls", name]).names() == ("cls", name)
    weights = LossWeights.of(["cls", "con", "exp", "uni"])
    assert (weights.contrastive, weights.explanation, weights.unimodal) == (
        0.1,
        0.05,
        0.15,
    )


def test_losses_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="no such loss"):
        LossWeights.of(["cls", "kld"])
    with pytest.raises(ConfigurationError, match="neither"):
        LossWeights.of(["con"])
    with pytest.raises(ConfigurationError, match="negative"):
        LossWeights(reason=-1.0)
