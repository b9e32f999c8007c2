"""Text stacks: architectures, windows, sections."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from model.errors import ConfigurationError
from model.inference.tensors import to_tensors
from model.inference.weights import load_checkpoint
from model.network.config import TextConfig
from model.network.text_encoder import TextEncoder, window_slots
from model.settings import DEMO_CHECKPOINT
from model.synthetic.latents import Split
from model.training.synthetic_set import synthetic_cases, synthetic_set

SIZES = TextConfig(50, 16, 1, 2, 32, max_tokens=6)


def _encoder(config: TextConfig) -> TextEncoder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return TextEncoder(config, 8).eval()


@pytest.mark.component("A2")
@pytest.mark.parametrize("architecture", ["bert", "megatron-bert"])
@torch.no_grad()
def test_both_architectures_give_a_token_per_piece(architecture: str) -> None:
    config = replace(SIZES, architecture=architecture, positions=32)
    encoder = _encoder(config)
    ids = torch.tensor([[2, 7, 8, 3], [2, 9, 3, 0]])
    attn = ids > 0
    tokens = encoder(ids, attn)
    assert tokens.shape == (2, 4, 8) and torch.isfinite(tokens).all()
    ids[1, 3] = 11  # padding
    assert torch.equal(encoder(ids, attn)[1, :3], tokens[1, :3])
    positions = dict(encoder.bert.named_parameters())
    name = "embeddings.position_embeddings.weight"
    assert positions[name].shape == (32, 16)
    assert not any("pooler" in key for key in positions)


@pytest.mark.parametrize(
    "change", [{"architecture": "gpt2"}, {"activation": "loud"}, {"heads": 3}]
)
def test_what_cannot_be_built_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError):
        _encoder(replace(SIZES, **change))  # type: ignore[arg-type]


@torch.no_grad()
def test_each_window_is_read_alone_and_goes_back_to_its_place() -> None:
    encoder = _encoder(replace(SIZES, windows=3))
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, 50, (2, 11), generator=generator)
    window = torch.tensor([[0] * 6 + [1] * 5, [0] * 4 + [1] * 3 + [0] * 4])
    attn = torch.tensor([[True] * 11, [True] * 7 + [False] * 4])
    tokens = encoder(ids, attn, None, window)
    for row, start, stop in ((0, 0, 6), (0, 6, 11), (1, 0, 4), (1, 4, 7)):
        part = ids[row : row + 1, start:stop]
        alone = encoder(part, torch.ones_like(part, dtype=torch.bool))
        assert torch.allclose(tokens[row, start:stop], alone[0], atol=1e-5)
    assert torch.isfinite(tokens).all()
    empty = encoder(ids, torch.zeros_like(attn), None, window)
    assert torch.isfinite(empty).all()


@torch.no_grad()
def test_one_window_is_read_as_ever() -> None:
    ids = torch.tensor([[2, 7, 8, 3]])
    attn = torch.ones_like(ids, dtype=torch.bool)
    one, several = _encoder(SIZES), _encoder(replace(SIZES, windows=2))
    wanted = one(ids, attn)
    assert torch.equal(one(ids, attn, None, torch.zeros_like(ids)), wanted)
    assert torch.equal(several(ids, attn), wanted)
    by_window = several(ids, attn, None, torch.zeros_like(ids))
    assert torch.allclose(by_window, wanted, atol=1e-6)


def test_slots_give_every_window_its_own_places() -> None:
    attn = torch.tensor([[True, True, True, True, False]])
    slots, sizes = window_slots(attn, torch.tensor([[0, 0, 0, 1, 0]]), 2, 3)
    assert slots.tolist() == [[0, 1, 2, 3, 6]] and sizes.tolist() == [[3, 1]]


@torch.no_grad()
def test_the_kind_of_section_matters_once_it_is_learnt() -> None:
    encoder = _encoder(replace(SIZES, sections=True))
    ids = torch.tensor([[2, 7, 8, 3]])
    attn, kinds = torch.ones_like(ids, dtype=torch.bool), torch.full_like(ids, 3)
    plain = encoder(ids, attn)
    assert torch.equal(encoder(ids, attn, kinds), plain)
    torch.nn.init.normal_(encoder.section.weight)
    assert not torch.allclose(encoder(ids, attn, kinds), plain)


@pytest.mark.component("A2")
@torch.no_grad()
def test_the_trained_encoder_s_notes_tell_their_findings_to_a_probe() -> None:
    loaded = load_checkpoint(DEMO_CHECKPOINT)
    data = synthetic_set(synthetic_cases(320, 77, split=Split.DEMO))
    inputs = to_tensors(data.records, loaded.vocabulary)
    tokens, mask = loaded.model.encode_modality(inputs, 1)
    pooled = loaded.model.pools[1](tokens, mask).numpy()
    for finding in data.questions("text"):
        probe = LogisticRegression(max_iter=500).fit(pooled[:200], finding.target[:200])
        assert np.mean(probe.predict(pooled[200:]) == finding.target[200:]) >= 0.97
