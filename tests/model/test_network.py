"""The tri-modal network: shapes, presets, and the invariants of missing modalities."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
import torch

from model.errors import ConfigurationError
from model.network.blocks import AttentionPool, SelfAttention, blank_invalid
from model.network.config import PRESETS, TriModalConfig, preset
from model.network.fusion import TriModalModel
from model.network.inputs import MODALITIES
from model.network.losses import UNIMODAL_WEIGHT, masked_bce, tri_modal_loss
from tests.model.network_samples import batch, config, network, records

PATTERNS = [torch.tensor(p) for p in product([False, True], repeat=3)]


@torch.no_grad()
def test_a_batch_gives_one_logit_per_label_and_attention_that_sums_to_one() -> None:
    model, inputs = network(("a", "b")), batch()
    tokens = model.encode(inputs)
    output = model.fuse(tokens, inputs.present)
    total = sum(mask.shape[1] for mask in tokens.masks())
    assert tokens.image.shape == (4, 64, 64)
    assert tokens.text.shape == (4, inputs.input_ids.shape[1], 64)
    assert tokens.values.shape == (4, inputs.code.shape[1], 64)
    assert output.logits.shape == (4, 2)
    assert output.unimodal.shape == (4, 3, 2)
    assert output.attention.shape == (4, 2, total + 6)
    assert torch.allclose(output.attention.sum(-1), torch.ones(4, 2))
    assert output.state.shape == (4, 2, 64)
    assert torch.equal(model(inputs).logits, output.logits)


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda p: str(p.int().tolist()))
@torch.no_grad()
def test_what_an_absent_modality_holds_changes_nothing(pattern: torch.Tensor) -> None:
    model, inputs = network(), batch()
    present = pattern.expand(4, 3)
    tokens = model.encode(inputs)
    garbage = [
        x if keep else torch.full_like(x, float("nan"))
        for x, keep in zip(tokens.content(), pattern.tolist())
    ]
    clean = model.fuse(tokens, present).logits
    dirty = model.fuse(tokens.with_content(*garbage), present).logits
    assert torch.equal(clean, dirty)
    assert torch.isfinite(clean).all()


@torch.no_grad()
def test_garbage_in_one_record_s_absent_modality_stays_out_of_a_mixed_batch() -> None:
    model, inputs = network(), batch()
    present = torch.tensor([[True] * 3, [False, True, True], [True] * 3, [True] * 3])
    tokens = model.encode(inputs)
    dirty = tokens.image.clone()
    dirty[1] = float("inf")
    changed = tokens.with_content(dirty, tokens.text, tokens.values)
    assert torch.equal(
        model.fuse(tokens, present).logits, model.fuse(changed, present).logits
    )


@torch.no_grad()
def test_garbage_pixels_and_words_of_absent_modalities_change_nothing() -> None:
    model, inputs = network(), batch()
    present = torch.tensor([[False, False, True]]).expand(4, 3)
    inputs = replace(inputs, present=present)
    dirty = replace(
        inputs,
        pixels=torch.randn_like(inputs.pixels) * 50,
        input_ids=inputs.input_ids.flip(1),
    )
    assert torch.equal(model(inputs).logits, model(dirty).logits)


@pytest.mark.parametrize("absent", range(3))
@torch.no_grad()
def test_dropping_an_absent_modality_equals_masking_it(absent: int) -> None:
    model, inputs = network(), batch()
    tokens = model.encode(inputs)
    alone = torch.ones(4, 3, dtype=torch.bool)
    alone[:, absent] = False  # nobody has it: dropped
    mixed = alone.clone()
    mixed[3, absent] = True  # one record has it: masked for the others
    dropped = model.fuse(tokens, alone).logits[:3]
    masked = model.fuse(tokens, mixed).logits[:3]
    assert torch.allclose(dropped, masked, atol=1e-6)


@torch.no_grad()
def test_every_present_modality_matters() -> None:
    model, inputs = network(), batch()
    tokens = model.encode(inputs)
    whole = model.fuse(tokens, inputs.present).logits
    for m in range(3):
        fewer = inputs.present.clone()
        fewer[:, m] = False
        assert not torch.allclose(whole, model.fuse(tokens, fewer).logits, atol=1e-4)


@torch.no_grad()
def test_the_order_of_values_is_irrelevant() -> None:
    model = network()
    kept = records()[:4]
    turned = [replace(r, values=tuple(reversed(r.values))) for r in kept]
    straight, reverse = model(batch(kept)).logits, model(batch(turned)).logits
    assert torch.allclose(straight, reverse, atol=1e-5)


@torch.no_grad()
def test_padding_to_a_longer_batch_changes_nothing_much() -> None:
    model = network()
    together = model(batch()).logits
    alone = torch.cat([model(batch([record])).logits for record in records()[:4]])
    assert torch.allclose(together, alone, atol=1e-5)


def test_gradients_reach_the_tokens_of_present_modalities_only() -> None:
    model, inputs = network(), batch()
    tokens = model.encode(inputs)
    leaves = [x.detach().requires_grad_(True) for x in tokens.content()]
    present = torch.tensor([[True, False, True]]).expand(4, 3)
    output = model.fuse(tokens.with_content(*leaves), present)
    image, text, values = torch.autograd.grad(
        output.logits.sum(), leaves, allow_unused=True, materialize_grads=True
    )
    assert image.abs().sum() > 0 and values.abs().sum() > 0
    assert text.abs().sum() == 0


def test_each_direction_has_its_own_gate_that_starts_at_a_tenth() -> None:
    gates = network().direction_gates()
    assert len(gates) == 6 and "text->image" in gates
    assert all(v == pytest.approx(0.0997, abs=1e-3) for g in gates.values() for v in g)


@torch.no_grad()
def test_repeated_tokens_answer_all_patterns_in_one_batch() -> None:
    model, inputs = network(), batch(records()[:1])
    tokens = model.encode(inputs).repeat(8)
    patterns = torch.stack(PATTERNS)
    together = model.fuse(tokens, patterns).logits
    apart = torch.cat(
        [model.fuse(model.encode(inputs), p.unsqueeze(0)).logits for p in PATTERNS]
    )
    assert torch.allclose(together, apart, atol=1e-6)


@torch.no_grad()
def test_the_small_preset_runs_and_stays_below_twenty_million_parameters() -> None:
    sizes = preset("small", vocabulary=8000, codes=60, labels=("a", "b"))
    model = TriModalModel(sizes).eval()
    assert sum(p.numel() for p in model.parameters()) <= 20_000_000
    tokens, mask = model.image_encoder(
        torch.zeros(1, 1, 1, 224, 224), torch.ones(1, 1).bool()
    )
    assert tokens.shape == (1, 196, 256) and mask.shape == (1, 196)


def test_the_base_preset_has_the_published_sizes() -> None:
    with torch.device("meta"):
        model = TriModalModel(
            preset("base", vocabulary=28996, codes=200, labels=("a",))
        )
    vit = sum(p.numel() for p in model.image_encoder.vit.parameters())
    bert = sum(p.numel() for p in model.text_encoder.bert.parameters())
    assert vit == pytest.approx(85.8e6, rel=0.01)
    assert bert == pytest.approx(107.7e6, rel=0.01)
    assert model.image_encoder.grid == (14, 14)


def test_a_configuration_survives_json_and_refuses_nonsense() -> None:
    sizes = config()
    assert TriModalConfig.from_json(sizes.to_json()) == sizes
    assert sizes.image.grid == 8
    with pytest.raises(ConfigurationError):
        TriModalConfig.from_json({"labels": ["a"]})
    with pytest.raises(ConfigurationError):
        TriModalConfig.from_json({**sizes.to_json(), "surprise": 1})
    with pytest.raises(ConfigurationError, match=", ".join(PRESETS)):
        preset("huge", vocabulary=1, codes=1, labels=("a",))


@torch.no_grad()
def test_attention_without_any_valid_key_stays_finite() -> None:
    x, mask = torch.randn(2, 3, 8), torch.zeros(2, 3, dtype=torch.bool)
    assert torch.isfinite(SelfAttention(8, 2)(x, mask)).all()
    assert torch.isfinite(AttentionPool(8)(x, mask)).all()
    assert blank_invalid(x * float("nan"), mask).abs().sum() == 0


def test_inputs_can_be_picked_and_trimmed() -> None:
    inputs = batch()
    part = inputs.select([2, 0]).to("cpu")
    assert len(part) == 2
    assert part.image_ids == (inputs.image_ids[2], inputs.image_ids[0])
    assert part.attn.shape[1] == int(part.attn.sum(1).max())
    assert torch.equal(part.present, inputs.present[[2, 0]])


def test_unknown_labels_do_not_enter_the_loss() -> None:
    logits = torch.tensor([[2.0, -1.0]])
    targets = torch.tensor([[1.0, float("nan")]])
    known = torch.tensor([[True, False]])
    expected = torch.nn.functional.softplus(torch.tensor(-2.0))
    assert torch.allclose(masked_bce(logits, targets, known), expected)
    assert masked_bce(logits, targets, torch.zeros_like(known)) == 0


@torch.no_grad()
def test_the_loss_adds_a_share_of_the_present_modalities_own_heads() -> None:
    model, inputs = network(), batch()
    targets, known = torch.ones(4, 1), torch.ones(4, 1).bool()
    output = model(inputs)
    nobody = torch.zeros_like(inputs.present)
    fused = tri_modal_loss(output, targets, known, nobody)
    assert torch.allclose(fused, masked_bce(output.logits, targets, known))
    own = torch.nn.functional.softplus(-output.unimodal).mean()
    whole = tri_modal_loss(output, targets, known, inputs.present)
    assert torch.allclose(whole, fused + UNIMODAL_WEIGHT * own, atol=1e-6)
    assert len(MODALITIES) == output.unimodal.shape[1]
