"""L_exp by hand: each part on a few numbers, and what its gradient may reach."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from model.network.fusion import Tokens
from model.network.inputs import IMAGE
from model.network.losses import masked_bce
from model.training.cached_tokens import Prepared
from model.training.explanation_loss import (
    Twin,
    attention_of,
    consistency_loss,
    explanation_loss,
    focus_loss,
    normalised,
    reason_loss,
    relevance,
    shown_loss,
)
from model.training.loss_weights import LossWeights
from model.training.objective import Objective, fitted
from model.training.twins import (
    film_source,
    make_twins,
    mirrored_and_moved,
    word_source,
)
from tests.model.network_samples import batch, network, records, vocabulary

EXP = LossWeights.of(["cls", "exp"])


@pytest.mark.component("A11c")
def test_reason_is_the_share_inside_the_mask() -> None:
    r = torch.tensor([[1.0, 3.0], [2.0, 2.0], [0.0, 0.0]], requires_grad=True)
    inside = torch.tensor([[0.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    wanted = torch.tensor([True, False, True])
    loss = reason_loss(r, inside, wanted)  # row 2 has no relevance: it is left out
    assert float(loss.detach()) == pytest.approx(-math.log(3 / 4.001), rel=1e-5)
    loss.backward()
    assert r.grad is not None and r.grad[1:].abs().sum() == 0
    # d/dr of log(sum) - log(inside): 1/4 and 1/4 - 1/3
    assert r.grad[0].tolist() == pytest.approx([1 / 4, 1 / 4 - 1 / 3], rel=1e-2)


@pytest.mark.component("A11c")
def test_shown_is_a_divergence_from_relevance_to_attention() -> None:
    r = torch.tensor([[1.0, 1.0, 0.0]], requires_grad=True)
    attention = torch.tensor([[0.1, 0.3, 0.4]], requires_grad=True)
    keep = torch.tensor([[True, True, False]])
    loss = shown_loss(r, attention, keep)  # attention renormalised to 1/4, 3/4
    wanted = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    assert float(loss.detach()) == pytest.approx(wanted, rel=1e-5)
    loss.backward()
    assert r.grad is None, "relevance is held fixed"
    assert attention.grad is not None and attention.grad[0, 2] == 0


@pytest.mark.component("A11c")
def test_focus_charges_smeared_relevance_only() -> None:
    keep = torch.ones(3, 4, dtype=torch.bool)
    keep[2, 1:] = False
    r = torch.tensor([[1.0, 1.0, 1.0, 1.0], [1.0, 0.0, 0.0, 0.0], [1.0, 0, 0, 0]])
    # entropies log 4 / log 4 = 1 and 0; a single token has no entropy to speak of
    assert float(focus_loss(r, keep, 0.7)) == pytest.approx(0.3 / 2, rel=1e-5)
    half = torch.tensor([[1.0, 1.0, 0.0, 0.0]])
    assert float(focus_loss(half, keep[:1], 0.4)) == pytest.approx(0.1, rel=1e-4)
    sparse = torch.tensor([[1.0, 0.0, 0.0, 0.0]], requires_grad=True)
    focus_loss(sparse, keep[:1], 0.0).backward()
    assert sparse.grad is not None and sparse.grad.isfinite().all()


@pytest.mark.component("A11c")
def test_consistency_follows_the_moved_tokens() -> None:
    r = torch.tensor([[1.0, 3.0, 4.0]])
    source = torch.tensor([[-1, 2, 1]])
    assert float(consistency_loss(r, torch.tensor([[9.0, 4.0, 3.0]]), source)) < 1e-6
    # moved (4/7, 3/7) against (1/2, 1/2): half of |1/14| + |1/14|
    other = consistency_loss(r, torch.tensor([[9.0, 2.0, 2.0]]), source)
    assert float(other) == pytest.approx(1 / 14, rel=1e-5)
    assert float(consistency_loss(r, torch.zeros(1, 3), source)) == 0.0


def _inputs(n: int = 4) -> tuple[Tokens, torch.Tensor]:
    with torch.no_grad():
        inputs = batch(records()[:n])
        return network().encode(inputs), inputs.present


@pytest.mark.component("A11c")
def test_relevance_is_what_the_maps_show_and_can_be_differentiated() -> None:
    tokens, present = _inputs()
    model = network()
    column = torch.zeros(4, dtype=torch.long)
    r, output = relevance(model, tokens, present, column)
    leaf = tokens.image.clone().requires_grad_()
    logits = model.fuse(tokens.with_content(leaf, tokens.text, tokens.values), present)
    (g,) = torch.autograd.grad(logits.logits.sum(), leaf)
    wanted = (g * leaf).sum(-1).clamp(min=0)
    assert torch.allclose(r[IMAGE], wanted, atol=1e-6)
    for m, part in enumerate(r):
        assert attention_of(output, r, m).shape == (4, 1, part.shape[1])
    seen = sum(attention_of(output, r, m).sum() for m in range(3))
    assert 0 < float(seen.detach()) < 4, "missing tokens and summaries hold the rest"
    with pytest.raises(IndexError):
        attention_of(output, r, 3)


@pytest.mark.component("A11c")
def test_the_gradient_passes_through_the_fusion_alone() -> None:
    model = network()
    inputs = batch(records()[:4])
    twins = make_twins(model, inputs, vocabulary())
    tokens = model.encode(inputs)  # with a graph into the encoders
    loss = explanation_loss(
        model,
        tokens,
        inputs.present,
        torch.zeros(4, dtype=torch.long),
        torch.ones(4, tokens.image.shape[1]).tril(),
        EXP,
        twins.encoded_now(model)(torch.arange(4)),
    )
    loss.backward()
    touched = {n for n, p in model.named_parameters() if p.grad is not None}
    assert touched and not any("_encoder." in name for name in touched)
    moved = [
        p.grad.abs().sum() for p in model.fusion.parameters() if p.grad is not None
    ]
    assert float(torch.stack(moved).sum()) > 0
    assert all(
        p.grad.isfinite().all() for p in model.parameters() if p.grad is not None
    )


@pytest.mark.component("A11c")
def test_a_few_steps_move_relevance_into_the_mask() -> None:
    torch.manual_seed(0)
    model = network()
    tokens, present = _inputs(8)
    column = torch.zeros(8, dtype=torch.long)
    inside = torch.zeros(8, tokens.image.shape[1])
    inside[:, :20] = 1.0
    only = replace(EXP, shown=0.0, focus=0.0, consistent=0.0)
    steps = torch.optim.Adam(model.fusion.parameters(), lr=1e-3)

    def mass() -> float:
        share, _ = normalised(relevance(model, tokens, present, column)[0][IMAGE])
        return float((share * inside).sum(1).mean().detach())

    before = mass()
    for _ in range(10):
        steps.zero_grad()
        called = model.fuse(tokens, present).logits  # stays positive: r must not vanish
        loss = explanation_loss(model, tokens, present, column, inside, only)
        (
            loss + masked_bce(called, torch.ones(8, 1), torch.ones(8, 1).bool())
        ).backward()
        steps.step()
    assert mass() > before + 0.2


def test_absent_modalities_are_survived() -> None:
    model = network()
    tokens, present = _inputs()
    present = present.clone()
    present[:, 0] = False
    present[0, 2] = False
    column = torch.zeros(4, dtype=torch.long)
    inside = torch.ones(4, tokens.image.shape[1])
    twin = Twin(
        tokens,
        torch.arange(tokens.image.shape[1]).expand(4, -1),
        torch.arange(tokens.text.shape[1]).expand(4, -1),
    )
    loss = explanation_loss(model, tokens, present, column, inside, EXP, twin)
    assert loss.isfinite()
    off = replace(EXP, reason=0.0, shown=0.0, focus=0.0, consistent=0.0)
    nothing = explanation_loss(model, tokens, present, column, None, off, twin)
    assert float(nothing.detach()) == 0.0


def test_only_positive_known_labels_are_explained() -> None:
    model = network()
    inputs = batch(records()[:4])
    tokens = model.encode(inputs)
    rows = torch.arange(4)
    total = torch.zeros(())
    data = Prepared(inputs, torch.zeros(4, 1), torch.ones(4, 1).bool(), None)
    goal = Objective(EXP)
    assert float(goal.and_more(total, model, data, rows, tokens)) == 0.0
    positive = replace(data, targets=torch.ones(4, 1), lesion=torch.ones(4, 64))
    assert float(goal.and_more(total, model, positive, rows, tokens).detach()) > 0
    unknown = replace(positive, known=torch.zeros(4, 1).bool())
    assert float(goal.and_more(total, model, unknown, rows, tokens)) == 0.0
    assert fitted(torch.ones(2, 3), 5).tolist() == [[1, 1, 1, 0, 0]] * 2


def test_a_film_is_mirrored_then_moved_and_its_patches_are_known() -> None:
    film = torch.arange(8.0).view(1, 1, 1, 2, 4)
    assert mirrored_and_moved(film, 1)[0, 0, 0].tolist() == [[0, 3, 2, 1], [0, 7, 6, 5]]
    assert film_source(2, 4).tolist() == [-1, 3, 2, 1, -1, 7, 6, 5]


def test_sentences_come_in_the_opposite_order() -> None:
    model, inputs = network(), batch(records()[:2])
    stop = vocabulary().pieces.index(".")
    source = word_source(inputs, [stop])
    assert source.shape == inputs.input_ids.shape
    assert all(sorted(row) == list(range(len(row))) for row in source.tolist())
    length = int(inputs.attn[0].sum())
    ids, order = inputs.input_ids[0].tolist(), source[0].tolist()
    assert order[0] == 0 and order[length - 1] == length - 1, "[CLS] and [SEP] stay"
    first_end = ids.index(stop)
    at = order.index(1)  # the first word of the first sentence now stands late
    assert at > length // 2
    assert order[at : at + first_end] == list(range(1, first_end + 1))
    twins = make_twins(model, inputs, vocabulary())
    again = twins.cached(model)(torch.tensor([1]))
    assert again.film_source.shape[1] == again.tokens.image.shape[1]
    assert again.word_source.shape[1] == again.tokens.text.shape[1]
