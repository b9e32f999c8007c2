"""L_con on tensors small enough for paper: masks, soft targets, patients, triples."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from model.network.fusion import Tokens
from model.training.contrastive import (
    Alignment,
    clamped,
    info_nce,
    same_findings,
    triple_loss,
)

NONE = torch.zeros(2, 2, dtype=torch.bool)
ONLY = torch.eye(2, dtype=torch.bool)
UNIT = torch.eye(2)


def _tokens(batch: int, width: int = 8, seed: int = 0) -> Tokens:
    random = torch.Generator().manual_seed(seed)
    content = [torch.randn(batch, n, width, generator=random) for n in (3, 4, 2)]
    masks = [torch.ones(batch, n, dtype=torch.bool) for n in (3, 4, 2)]
    return Tokens(*content, *masks)


@pytest.mark.component("A11b")
def test_info_nce_by_hand() -> None:
    scale = torch.tensor(math.log(2.0))
    # logits [[2, 0], [0, 2]]; both directions: log(1 + e^-2)
    loss = info_nce(UNIT, UNIT, scale, ~ONLY, ONLY)
    assert float(loss.detach()) == pytest.approx(math.log(1 + math.exp(-2)), rel=1e-5)


@pytest.mark.component("A11b")
def test_patients_who_share_findings_share_the_target() -> None:
    scale = torch.tensor(math.log(2.0))
    alike = torch.ones(2, 2, dtype=torch.bool)
    loss = info_nce(UNIT, UNIT, scale, ~ONLY, alike)
    # target .9 on itself and .1 on the other: log(1 + e^-2) + .1 * 2
    assert float(loss.detach()) == pytest.approx(
        math.log(1 + math.exp(-2)) + 0.2, rel=1e-5
    )


@pytest.mark.component("A11b")
def test_studies_of_one_patient_are_no_negatives_of_each_other() -> None:
    scale = torch.tensor(math.log(2.0))
    assert float(info_nce(UNIT, UNIT, scale, NONE, ONLY)) == pytest.approx(0.0)
    alike = torch.ones(2, 2, dtype=torch.bool)
    assert float(info_nce(UNIT, UNIT, scale, NONE, alike)) == pytest.approx(0.0)


def test_the_scale_stays_between_one_and_a_hundred() -> None:
    values = [float(clamped(torch.tensor(x))) for x in (-3.0, 0.0, 1.0, 9.0)]
    assert values == pytest.approx([1.0, 1.0, math.e, 100.0])
    scale = torch.tensor(9.0, requires_grad=True)
    clamped(scale).backward()
    assert scale.grad is not None and float(scale.grad) == 0.0


@pytest.mark.component("A11b")
def test_the_triple_product_by_hand() -> None:
    points = torch.stack([UNIT, UNIT, UNIT], dim=1)  # (2, 3, 2): one axis a patient
    scale = torch.tensor(0.0)
    # product 1 for (i, i, i), else 0; times sqrt(2); 3 rivals of logit 0 each
    wanted = -math.log(math.exp(math.sqrt(2)) / (math.exp(math.sqrt(2)) + 3))
    assert float(triple_loss(points, scale, ~ONLY)) == pytest.approx(wanted, rel=1e-5)
    assert float(triple_loss(points, scale, NONE)) == pytest.approx(0.0)


@pytest.mark.component("A11b")
def test_the_triple_term_sees_what_pairs_cannot() -> None:
    """Signs with product +1: every pair is independent, only the three agree."""
    right = torch.tensor(
        [[1.0, 1.0, 1.0], [1.0, -1.0, -1.0], [-1.0, 1.0, -1.0], [-1.0, -1.0, 1.0]]
    )
    rival = ~torch.eye(4, dtype=torch.bool)
    scale = torch.tensor(2.0)
    good = triple_loss(right.unsqueeze(-1), scale, rival)
    wrong = right.clone()
    wrong[:, 2] *= -1
    bad = triple_loss(wrong.unsqueeze(-1), scale, rival)
    assert float(good) < float(bad)
    eye = torch.eye(4, dtype=torch.bool)
    pair = [info_nce(x[:, :1], x[:, 2:], scale, rival, eye) for x in (right, wrong)]
    assert float(pair[0]) == pytest.approx(float(pair[1]))


def test_who_is_alike() -> None:
    findings = torch.tensor([[1, 0], [1, 0], [1, -1], [-1, -1], [-1, -1]])
    found = same_findings(findings)
    assert found[0].tolist() == [True, True, False, False, False]
    assert found[3].tolist() == [False, False, False, True, False]


def _loss(alignment: Alignment, tokens: Tokens, present: Tensor) -> Tensor:
    batch = len(present)
    return alignment.loss(
        tokens, present, torch.arange(batch), torch.zeros(batch, 0, dtype=torch.long)
    )


@pytest.mark.component("A11b")
def test_an_absent_modality_is_neither_query_nor_candidate() -> None:
    torch.manual_seed(0)
    alignment = Alignment(8, 6)
    tokens = _tokens(4)
    leaves = [x.requires_grad_() for x in tokens.content()]
    present = torch.ones(4, 3, dtype=torch.bool)
    present[2, 1] = False
    present[3] = torch.tensor([True, False, False])
    loss = _loss(alignment, tokens, present)
    gradients = torch.autograd.grad(loss, leaves)
    assert gradients[1][2].abs().sum() == 0, "absent text of row 2"
    assert all(g[3].abs().sum() == 0 for g in gradients), "row 3 has no pair"
    assert gradients[0][2].abs().sum() > 0 and gradients[2][2].abs().sum() > 0
    garbage = tokens.with_content(
        tokens.image.detach(),
        tokens.text.detach().index_fill(0, torch.tensor([2, 3]), float("nan")),
        tokens.values.detach(),
    )
    assert torch.equal(_loss(alignment, garbage, present), loss.detach())


def test_too_few_records_cost_nothing() -> None:
    alignment = Alignment(8, 6)
    present = torch.tensor([[True, True, True], [True, False, False]])
    assert float(_loss(alignment, _tokens(2), present).detach()) == 0.0
    tokens = _tokens(2)
    dropped = Tokens(
        tokens.image[:, :0],
        tokens.text,
        tokens.values,
        tokens.image_mask[:, :0],
        tokens.text_mask,
        tokens.values_mask,
    )
    points, there = alignment.embed(dropped, torch.ones(2, 3, dtype=torch.bool))
    assert there.tolist() == [[False, True, True]] * 2
    assert points[:, 1].norm(dim=-1).tolist() == pytest.approx([1.0, 1.0])
