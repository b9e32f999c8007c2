"""Every fusion keeps the same contract: absence, order, determinism, gradients."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
import torch

from model.errors import ConfigurationError
from model.inference.weights import current_name, load_checkpoint
from model.network.config import FUSIONS, PRESETS, TriModalConfig, preset
from model.network.fusion import Tokens, TriModalModel
from model.network.fusions.concat import catm_parameters
from model.network.fusions.contract import FusionModule, Readable
from model.network.fusions.registry import REGISTRY, build_fusion
from model.network.inputs import MODALITIES, TriModalInputs
from model.settings import DEMO_CHECKPOINT
from model.training.stages import fusion_parameters, summarise
from tests.model.network_samples import batch, config, records

PATTERNS = [torch.tensor(p) for p in product([False, True], repeat=3)]
LABELS = ("a", "b")
DEMO_LOGITS = [2.1305156, -0.2361327]  # of the machine that trained it


def _network(fusion: str, seed: int = 0) -> TriModalModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return TriModalModel(replace(config(LABELS), fusion=fusion)).eval()


@pytest.fixture(scope="module", params=FUSIONS)
def model(request: pytest.FixtureRequest) -> TriModalModel:
    """One untrained network per fusion."""
    return _network(request.param)


@pytest.fixture(scope="module")
def inputs() -> TriModalInputs:
    """Four records with all modalities."""
    return batch()


def test_the_registry_and_the_configuration_name_the_same_fusions() -> None:
    assert tuple(REGISTRY) == FUSIONS
    with pytest.raises(ConfigurationError, match="sequential"):
        replace(config(), fusion="average")


def test_a_configuration_from_before_the_registry_means_the_catm() -> None:
    old = config().to_json()
    del old["fusion"]
    assert TriModalConfig.from_json(old).fusion == "catm"


@torch.no_grad()
def test_each_gives_logits_heads_attention_and_states(
    model: TriModalModel, inputs: TriModalInputs
) -> None:
    tokens = model.encode(inputs)
    output = model.fuse(tokens, inputs.present)
    total = sum(mask.shape[1] for mask in tokens.masks())
    assert output.logits.shape == (4, 2)
    assert output.unimodal.shape == (4, 3, 2)
    assert output.attention.shape == (4, 2, total + 6)
    assert torch.allclose(output.attention.sum(-1), torch.ones(4, 2))
    assert output.state.shape == (4, 2, 64)
    assert torch.allclose(output.pooled.norm(dim=-1), torch.ones(4))


@pytest.mark.component("A7")
@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda p: str(p.int().tolist()))
@torch.no_grad()
def test_absent_content_is_bit_exact_without_effect(
    model: TriModalModel, inputs: TriModalInputs, pattern: torch.Tensor
) -> None:
    present = pattern.expand(4, 3)
    tokens = model.encode(inputs)
    garbage = [
        x if keep else torch.full_like(x, float("nan"))
        for x, keep in zip(tokens.content(), pattern.tolist())
    ]
    clean = model.fuse(tokens, present)
    dirty = model.fuse(tokens.with_content(*garbage), present)
    assert torch.equal(clean.logits, dirty.logits)
    assert torch.equal(clean.state, dirty.state)
    assert torch.equal(clean.attention, dirty.attention)
    assert torch.isfinite(clean.logits).all()


@torch.no_grad()
def test_a_nan_in_one_record_s_absent_modality_leaves_the_others_alone(
    model: TriModalModel, inputs: TriModalInputs
) -> None:
    tokens = model.encode(inputs)
    for m in range(3):
        present = torch.ones(4, 3, dtype=torch.bool)
        present[1, m] = False
        content = [x.clone() for x in tokens.content()]
        content[m][1] = float("nan")
        dirty = model.fuse(tokens.with_content(*content), present)
        assert torch.equal(model.fuse(tokens, present).logits, dirty.logits)


@pytest.mark.component("A7")
@pytest.mark.parametrize("absent", range(3))
@torch.no_grad()
def test_dropped_equals_masked(
    model: TriModalModel, inputs: TriModalInputs, absent: int
) -> None:
    tokens = model.encode(inputs)
    alone = torch.ones(4, 3, dtype=torch.bool)
    alone[:, absent] = False  # nobody has it: dropped
    mixed = alone.clone()
    mixed[3, absent] = True  # one record has it: masked for the others
    dropped = model.fuse(tokens, alone).logits[:3]
    masked = model.fuse(tokens, mixed).logits[:3]
    assert torch.allclose(dropped, masked, atol=1e-6)


@torch.no_grad()
def test_nothing_present_gives_one_answer_for_everybody(
    model: TriModalModel, inputs: TriModalInputs
) -> None:
    nobody = torch.zeros(4, 3, dtype=torch.bool)
    logits = model.fuse(model.encode(inputs), nobody).logits
    assert torch.allclose(logits, logits[:1].expand_as(logits), atol=1e-6)


@torch.no_grad()
def test_each_modality_changes_the_answer(
    model: TriModalModel, inputs: TriModalInputs
) -> None:
    tokens = model.encode(inputs)
    answers = [model.fuse(tokens, p.expand(4, 3)).logits for p in PATTERNS]
    for i, one in enumerate(answers):
        for other in answers[i + 1 :]:
            assert not torch.allclose(one, other, atol=1e-4)


@torch.no_grad()
def test_the_order_of_values_does_not_matter(model: TriModalModel) -> None:
    kept = records()[:4]
    turned = [replace(r, values=tuple(reversed(r.values))) for r in kept]
    straight, reverse = model(batch(kept)).logits, model(batch(turned)).logits
    assert torch.allclose(straight, reverse, atol=1e-5)


@torch.no_grad()
def test_other_records_and_their_padding_do_not_matter(model: TriModalModel) -> None:
    together = model(batch()).logits
    alone = torch.cat([model(batch([record])).logits for record in records()[:4]])
    assert torch.allclose(together, alone, atol=1e-5)


@torch.no_grad()
def test_weights_survive_a_round_trip(
    model: TriModalModel, inputs: TriModalInputs
) -> None:
    other = _network(model.config.fusion, seed=1)
    assert not torch.equal(other(inputs).logits, model(inputs).logits)
    other.load_state_dict(model.state_dict(), strict=True)
    assert torch.equal(other(inputs).logits, model(inputs).logits)
    again = TriModalModel(TriModalConfig.from_json(model.config.to_json()))
    assert again.state_dict().keys() == model.state_dict().keys()


@torch.no_grad()
def test_the_same_seed_gives_the_same_network_and_answer(
    model: TriModalModel, inputs: TriModalInputs
) -> None:
    again = _network(model.config.fusion)
    assert torch.equal(again(inputs).logits, model(inputs).logits)
    assert torch.equal(model(inputs).logits, model(inputs).logits)


def test_gradients_reach_present_tokens_and_every_fusion_weight(
    model: TriModalModel, inputs: TriModalInputs
) -> None:
    with torch.no_grad():
        tokens = model.encode(inputs)
    leaves = [x.clone().requires_grad_(True) for x in tokens.content()]
    present = torch.tensor([[True, False, True]]).expand(4, 3)
    output = model.fuse(tokens.with_content(*leaves), present)
    image, text, values = torch.autograd.grad(
        output.logits.sum(), leaves, allow_unused=True, materialize_grads=True
    )
    assert image.abs().sum() > 0 and values.abs().sum() > 0
    assert text.abs().sum() == 0


def test_training_finds_the_fusion_apart_from_encoders_and_pools(
    model: TriModalModel,
) -> None:
    found = {id(p) for p in fusion_parameters(model)}
    wanted = [*model.fusion.parameters(), *model.unimodal_heads.parameters()]
    assert found == {id(p) for p in wanted}


@torch.no_grad()
def test_pooled_tokens_are_enough_to_fuse(
    model: TriModalModel, inputs: TriModalInputs
) -> None:
    pooled = summarise(model, model.encode(inputs))
    assert torch.isfinite(model.fuse(pooled, inputs.present).logits).all()


@torch.no_grad()
def test_late_fusion_is_the_mean_of_what_each_modality_says(
    inputs: TriModalInputs,
) -> None:
    model = _network("late")
    tokens = model.encode(inputs)
    alone = []
    for m in range(3):
        present = torch.zeros(4, 3, dtype=torch.bool)
        present[:, m] = True
        alone.append(model.fuse(tokens, present).logits)
    both = torch.tensor([[True, False, True]]).expand(4, 3)
    wanted = (alone[0] + alone[2]) / 2
    assert torch.allclose(model.fuse(tokens, both).logits, wanted, atol=1e-6)
    whole = model.fuse(tokens, torch.ones_like(both)).logits
    assert torch.allclose(whole, sum(alone) / 3, atol=1e-6)


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("labels", [("a",), tuple("abcdefghijklmn")])
def test_concat_has_the_parameter_count_of_the_catm(
    name: str, labels: tuple[str, ...]
) -> None:
    sizes = preset(name, vocabulary=8000, codes=60, labels=labels)
    sizes = replace(sizes, fusion="concat")
    with torch.device("meta"):
        own = sum(p.numel() for p in build_fusion(sizes).parameters())
    assert own == pytest.approx(catm_parameters(sizes), rel=0.05)


@torch.no_grad()
def test_sequential_shows_the_decision_after_each_modality(
    inputs: TriModalInputs,
) -> None:
    model = _network("sequential")
    tokens = model.encode(inputs)
    output = model.fuse(tokens, inputs.present)
    assert output.steps is not None and output.steps.shape == (4, 4, 2)
    assert torch.equal(output.steps[:, -1], output.logits)
    for count in range(4):
        present = torch.tensor([[m < count for m in range(3)]]).expand(4, 3)
        prefix = model.fuse(tokens, present).logits
        assert torch.allclose(output.steps[:, count], prefix, atol=1e-6)


@torch.no_grad()
def test_sequential_skips_what_is_absent(inputs: TriModalInputs) -> None:
    model = _network("sequential")
    present = torch.tensor([[True, False, True]]).expand(4, 3)
    steps = model.fuse(model.encode(inputs), present).steps
    assert steps is not None
    assert torch.equal(steps[:, 1], steps[:, 2])
    assert not torch.equal(steps[:, 2], steps[:, 3])


@torch.no_grad()
def test_cascade_looks_at_every_present_modality(inputs: TriModalInputs) -> None:
    model = _network("cascade")
    tokens = model.encode(inputs)
    attention = model.fuse(tokens, inputs.present).attention
    start = 3
    for m, mask in enumerate(tokens.masks()):
        part = attention[..., start : start + mask.shape[1] + 1]
        share = part.sum(-1) + attention[..., m]
        assert torch.allclose(share, torch.full_like(share, 1 / 3), atol=1e-6)
        start += mask.shape[1] + 1


@torch.no_grad()
def test_only_what_can_be_read_gets_uniform_attention(inputs: TriModalInputs) -> None:
    model = _network("late")
    present = torch.tensor([[True, False, False]]).expand(4, 3)
    attention = model.fuse(model.encode(inputs), present).attention
    assert attention.shape == (4, 2, 3 + 1 + 64)
    assert torch.allclose(attention, torch.full_like(attention, 1 / 68))


@pytest.mark.component("A7")
@pytest.mark.component("A9")
def test_every_direction_of_the_catm_has_its_own_logged_gate() -> None:
    network = _network("catm")
    gates = network.direction_gates()
    pairs = {f"{a}->{b}" for a in MODALITIES for b in MODALITIES if a != b}
    assert set(gates) == pairs and "text->image" in pairs
    layer = network.fusion.get_submodule("catm.0")
    with torch.no_grad():
        layer.get_parameter("gates")[1, 0] = 0.5
    changed = network.direction_gates()
    assert changed["text->image"] == pytest.approx([0.4621], abs=1e-4)
    assert {k: v for k, v in changed.items() if k != "text->image"} == {
        k: v for k, v in gates.items() if k != "text->image"
    }


@pytest.mark.component("A7")
@pytest.mark.parametrize("asked", range(3))
@pytest.mark.parametrize("step", (1, 2))
@torch.no_grad()
def test_every_modality_reads_every_other_through_its_own_gate_alone(
    inputs: TriModalInputs, asked: int, step: int
) -> None:
    model = _network("catm")
    layer = model.fusion.get_submodule("catm.0")
    told = (asked + step) % 3
    gates = layer.get_parameter("gates")
    gates.zero_()
    readable = model._readable(model.encode(inputs), inputs.present)
    valid = [torch.cat([m.new_ones(4, 1), m], dim=1) for m in readable.masks]
    missing = model.fusion.get_parameter("missing")

    def asker(streams: list[torch.Tensor]) -> torch.Tensor:
        found: torch.Tensor = layer(streams, missing, valid)[asked]
        return found

    changed = list(readable.streams)
    random = torch.Generator().manual_seed(0)
    changed[told] = torch.randn(changed[told].shape, generator=random)
    assert torch.equal(asker(list(readable.streams)), asker(changed))
    gates[asked, told] = 1.0
    assert not torch.allclose(asker(list(readable.streams)), asker(changed))


@pytest.mark.component("A7")
def test_the_shipped_checkpoint_states_the_gate_of_every_direction() -> None:
    loaded = load_checkpoint(DEMO_CHECKPOINT)
    stated, found = loaded.training["figures"]["gates"], loaded.model.direction_gates()
    assert set(stated) == set(found) and len(stated) == 6
    for name, gate in stated.items():
        assert found[name] == pytest.approx(gate, abs=1e-3), name


@pytest.mark.component("A9")
@torch.no_grad()
def test_a_closed_gate_closes_its_direction_only(inputs: TriModalInputs) -> None:
    model = _network("catm")
    assert isinstance(model.fusion, FusionModule)
    layer = model.fusion.get_submodule("catm.0")
    readable = model._readable(model.encode(inputs), inputs.present)
    valid = [torch.cat([m.new_ones(4, 1), m], dim=1) for m in readable.masks]
    missing = model.fusion.get_parameter("missing")

    def run(changed: Readable) -> list[torch.Tensor]:
        streams: list[torch.Tensor] = layer(list(changed.streams), missing, valid)
        return streams

    layer.get_parameter("gates")[1, 0] = 0.0  # text no longer reads the image
    other = replace(
        readable, streams=(readable.streams[0] * 2 + 1, *readable.streams[1:])
    )
    before, after = run(readable), run(other)
    assert torch.equal(before[1], after[1])
    assert not torch.equal(before[2], after[2])


def test_directions_exist_for_the_catm_only(model: TriModalModel) -> None:
    assert bool(model.direction_gates()) == (model.config.fusion == "catm")


def test_the_contract_itself_cannot_be_built() -> None:
    with pytest.raises(TypeError, match="abstract"):
        FusionModule(config())  # type: ignore[abstract]


def test_weights_from_before_the_registry_find_their_place() -> None:
    assert current_name("catm.0.gates") == "fusion.catm.0.gates"
    assert current_name("norm.weight") == "fusion.norm.weight"
    assert current_name("image_encoder.norm.weight") == "image_encoder.norm.weight"
    assert current_name("fusion.norm.weight") == "fusion.norm.weight"


@torch.no_grad()
def test_the_demonstration_checkpoint_answers_as_when_it_was_made() -> None:
    loaded = load_checkpoint(DEMO_CHECKPOINT)
    assert loaded.config.fusion == "catm"
    width = loaded.config.width
    generator = torch.Generator().manual_seed(3)
    content = [torch.randn(2, n, width, generator=generator) for n in (64, 20, 9)]
    masks = [torch.ones(2, n, dtype=torch.bool) for n in (64, 20, 9)]
    present = torch.tensor([[True, True, True], [True, False, True]])
    logits = loaded.model.fuse(Tokens(*content, *masks), present).logits
    assert logits.squeeze(1).tolist() == pytest.approx(DEMO_LOGITS, abs=1e-4)
