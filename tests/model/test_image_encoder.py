"""Image encoders by name: tokens on a grid, global state, views, slices."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from model.errors import ConfigurationError
from model.inference.tensors import to_tensors
from model.inference.weights import load_checkpoint
from model.network.config import ImageConfig, TriModalConfig
from model.network.image_backbone import grid_of
from model.network.image_encoder import ImageEncoder, patch_tokens
from model.network.inputs import VIEW_KINDS
from model.settings import DEMO_CHECKPOINT
from model.synthetic.latents import Split
from model.training.synthetic_set import synthetic_cases, synthetic_set

SMALL_VIT = (("embed_dim", 24), ("depth", 1), ("num_heads", 2))
SMALL_SWIN = (("embed_dim", 12), ("depths", (1, 1)), ("num_heads", (2, 2)))
NAMED = {
    "vit": ImageConfig(32, backbone="vit_tiny_patch16_224", arguments=SMALL_VIT),
    "deit": ImageConfig(
        64, backbone="deit_tiny_distilled_patch16_224", arguments=SMALL_VIT
    ),
    "registers": ImageConfig(
        28, backbone="vit_small_patch14_reg4_dinov2", arguments=SMALL_VIT
    ),
    "swin": ImageConfig(
        64, backbone="swin_tiny_patch4_window7_224", arguments=SMALL_SWIN
    ),
    "convolutional": ImageConfig(64, backbone="resnet10t"),
}
GRIDS = {
    "vit": (2, 2),
    "deit": (4, 4),
    "registers": (2, 2),
    "swin": (8, 8),
    "convolutional": (2, 2),
}


def _encoder(config: ImageConfig, seed: int = 0) -> ImageEncoder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ImageEncoder(config, 16).eval()


def _pixels(config: ImageConfig, views: int = 1, batch: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    size = config.size
    return torch.randn(batch, views, 1, size, size, generator=generator)


@pytest.mark.component("A1")
@pytest.mark.parametrize("name", NAMED)
@torch.no_grad()
def test_any_backbone_gives_patch_tokens_on_its_own_grid_and_a_global_state(
    name: str,
) -> None:
    config = NAMED[name]
    encoder = _encoder(config)
    pixels, mask = _pixels(config), torch.ones(2, 1, dtype=torch.bool)
    rows, columns = encoder.grid
    assert (rows, columns) == GRIDS[name]
    found = encoder.features(pixels, mask)
    assert found.tokens.shape == (2, rows * columns, 16)
    assert found.whole.shape == (2, 1, 16)
    assert found.mask.all() and torch.isfinite(found.tokens).all()
    assert not torch.allclose(found.whole[0], found.whole[1])
    tokens, _ = encoder(pixels, mask)
    assert torch.equal(tokens, found.tokens)
    assert torch.equal(_encoder(config)(pixels, mask)[0], tokens)


def test_all_prefix_tokens_are_dropped_however_many() -> None:
    deit, registers = (_encoder(NAMED[n]).vit for n in ("deit", "registers"))
    assert (deit.num_prefix_tokens, registers.num_prefix_tokens) == (2, 5)
    features = torch.arange(9.0).view(1, 9, 1)
    assert patch_tokens(registers, features).flatten().tolist() == [5, 6, 7, 8]


@torch.no_grad()
def test_a_map_is_read_row_by_row_whatever_its_layout() -> None:
    swin, plain = (_encoder(NAMED[n]).vit for n in ("swin", "convolutional"))
    cells = torch.arange(6.0)
    assert torch.equal(patch_tokens(swin, cells.view(1, 2, 3, 1)).flatten(), cells)
    assert torch.equal(patch_tokens(plain, cells.view(1, 1, 2, 3)).flatten(), cells)


@torch.no_grad()
def test_the_place_of_a_patch_is_its_place_on_the_film() -> None:
    encoder = _encoder(NAMED["convolutional"])
    pixels = torch.zeros(1, 1, 1, 64, 64)
    mask = torch.ones(1, 1, dtype=torch.bool)
    before, _ = encoder(pixels, mask)
    pixels[..., 60:, 60:] = 5.0  # lower right
    after, _ = encoder(pixels, mask)
    assert int((after - before).norm(dim=-1)[0].argmax()) == 3


@pytest.mark.parametrize(
    "config",
    [
        ImageConfig(backbone="no_such_backbone"),
        ImageConfig(backbone="hf-hub:someone/something"),
        ImageConfig(backbone="local-dir:/tmp"),
        ImageConfig(64, backbone="vit_tiny_patch16_224", arguments=(("heads", 2),)),
    ],
)
def test_what_cannot_be_built_here_is_refused(config: ImageConfig) -> None:
    with pytest.raises(ConfigurationError):
        _encoder(config)


class _Strange(torch.nn.Module):
    """A backbone whose features are no map, or that fails."""

    def __init__(self, shape: tuple[int, ...] | None) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.shape = shape

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Features of the stated shape."""
        if self.shape is None:
            raise RuntimeError("too small")
        return x.new_zeros(self.shape)


@pytest.mark.parametrize("shape", [None, (1, 7, 3)])
def test_a_backbone_without_a_map_of_features_is_refused(
    shape: tuple[int, ...] | None,
) -> None:
    with pytest.raises(ConfigurationError):
        grid_of(_Strange(shape), 16)


def test_backbone_arguments_survive_json() -> None:
    config = TriModalConfig(image=NAMED["swin"])
    data = config.to_json()
    data["image"]["arguments"] = [
        [name, list(value) if isinstance(value, tuple) else value]
        for name, value in data["image"]["arguments"]
    ]
    assert TriModalConfig.from_json(data) == config
    with pytest.raises(ConfigurationError):
        TriModalConfig.from_json({**data, "image": {"arguments": ["x"]}})


SEVERAL = replace(ImageConfig(16, 8, 16, 1, 2), views=3)


@torch.no_grad()
def test_views_that_do_not_exist_are_not_read() -> None:
    encoder = _encoder(SEVERAL)
    pixels = _pixels(SEVERAL, views=3)
    mask = torch.tensor([[True, False, False], [True, True, True]])
    dirty = pixels.clone()
    dirty[0, 1:] = float("nan")
    clean, found = encoder(pixels, mask)
    assert torch.equal(encoder(dirty, mask)[0], clean)
    assert found.sum(1).tolist() == [4, 12] and (clean[0, 4:] == 0).all()
    alone, _ = encoder(pixels[:, :1], mask[:, :1])
    assert torch.allclose(alone[0], clean[0, :4], atol=1e-6)
    nothing, none = encoder(pixels, torch.zeros_like(mask))
    assert nothing.shape == clean.shape and not none.any() and (nothing == 0).all()


@torch.no_grad()
def test_kind_age_and_place_of_a_view_matter_once_they_are_learnt() -> None:
    encoder = _encoder(SEVERAL)
    pixels = _pixels(SEVERAL, views=3)
    mask = torch.ones(2, 3, dtype=torch.bool)
    frontal, _ = encoder(pixels, mask)
    kinds = torch.full((2, 3), VIEW_KINDS.index("prior"))
    days, place = torch.full((2, 3), 30.0), torch.full((2, 3), 0.5)
    assert torch.equal(encoder(pixels, mask, kinds, days, place)[0], frontal)
    for part in (encoder.view, encoder.age, encoder.place):
        torch.nn.init.normal_(part.weight)
    plain, _ = encoder(pixels, mask)
    for given in ((kinds, None, None), (None, days, None), (None, None, place)):
        assert not torch.allclose(encoder(pixels, mask, *given)[0], plain)


@torch.no_grad()
def test_the_global_state_can_follow_the_patches_as_one_more_token() -> None:
    config = replace(SEVERAL, global_token=True)
    encoder = _encoder(config)
    mask = torch.tensor([[True, True, False]])
    found = encoder.features(_pixels(config, 3, 1), mask)
    assert found.tokens.shape == (1, 15, 16)
    assert torch.equal(found.tokens[:, 12:], found.whole)
    assert found.mask[0].tolist() == [True] * 8 + [False] * 4 + [True, True, False]


@pytest.mark.component("A1")
@torch.no_grad()
def test_the_trained_encoder_s_films_tell_their_findings_to_a_probe() -> None:
    loaded = load_checkpoint(DEMO_CHECKPOINT)
    data = synthetic_set(synthetic_cases(320, 77, split=Split.DEMO))
    inputs = to_tensors(data.records, loaded.vocabulary)
    tokens, mask = loaded.model.encode_modality(inputs, 0)
    pooled = loaded.model.pools[0](tokens, mask).numpy()
    for finding in data.questions("image"):
        probe = LogisticRegression(max_iter=500).fit(pooled[:200], finding.target[:200])
        assert np.mean(probe.predict(pooled[200:]) == finding.target[200:]) >= 0.97
