"""Encoder weights from this disk: timm checkpoints, BERT folders, every refusal."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from model.errors import EncoderWeightsError, RemoteModelError
from model.inference.torchvision_ops import declare_missing_operators
from model.network.config import ImageConfig
from model.network.image_encoder import ImageEncoder
from model.network.local_weights import (
    load_image_weights,
    load_text_weights,
    read_text_config,
    read_weights,
)
from model.network.text_encoder import TextEncoder

VIT = (("embed_dim", 24), ("depth", 1), ("num_heads", 2))
SWIN = (("embed_dim", 12), ("depths", (1, 1)), ("num_heads", (2, 2)))
BACKBONES = [
    ("vit_tiny_patch16_224", VIT),
    ("deit_tiny_distilled_patch16_224", VIT),
    ("swin_tiny_patch4_window7_224", SWIN),
    ("resnet10t", ()),
]


def _foreign(name: str, arguments: Any, size: int) -> Any:
    """A colour model with a classifier, as somebody else would have trained it."""
    declare_missing_operators()
    import timm  # after the operators exist

    sized = {} if name.startswith("resnet") else {"img_size": size}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return timm.create_model(name, num_classes=4, **dict(arguments), **sized).eval()


@pytest.mark.component("A1")
@pytest.mark.parametrize(("name", "arguments"), BACKBONES)
@torch.no_grad()
def test_a_colour_checkpoint_reads_grey_films_as_if_they_were_colour(
    name: str, arguments: Any, tmp_path: Path
) -> None:
    foreign = _foreign(name, arguments, 64)
    save_file(foreign.state_dict(), tmp_path / "model.safetensors")
    encoder = ImageEncoder(ImageConfig(64, backbone=name, arguments=arguments), 8)
    load_image_weights(encoder.eval(), tmp_path)
    grey = torch.randn(2, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    wanted = foreign.forward_features(grey.expand(-1, 3, -1, -1))
    assert torch.allclose(encoder.vit.forward_features(grey), wanted, atol=1e-4)


@torch.no_grad()
def test_another_image_size_resamples_the_position_table(tmp_path: Path) -> None:
    foreign = _foreign("vit_tiny_patch16_224", VIT, 64)
    save_file(foreign.state_dict(), tmp_path / "trained.safetensors")
    config = ImageConfig(96, backbone="vit_tiny_patch16_224", arguments=VIT)
    encoder = ImageEncoder(config, 8)
    load_image_weights(encoder, tmp_path / "trained.safetensors")
    assert encoder.grid == (6, 6)
    assert encoder.vit.pos_embed.shape == (1, 37, 24)
    assert torch.allclose(encoder.vit.pos_embed[:, 0], foreign.pos_embed[:, 0])
    assert torch.equal(encoder.vit.norm.weight, foreign.norm.weight)


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    save_file(
        _foreign("vit_tiny_patch16_224", VIT, 64).state_dict(),
        tmp_path / "model.safetensors",
    )
    for name, arguments in (BACKBONES[2], BACKBONES[3]):
        other = ImageEncoder(ImageConfig(64, backbone=name, arguments=arguments), 8)
        with pytest.raises(EncoderWeightsError):
            load_image_weights(other, tmp_path)
    wide = (("embed_dim", 32), *VIT[1:])
    config = ImageConfig(64, backbone="vit_tiny_patch16_224", arguments=wide)
    with pytest.raises(EncoderWeightsError):
        load_image_weights(ImageEncoder(config, 8), tmp_path)


def test_a_name_is_no_path() -> None:
    encoder = ImageEncoder(ImageConfig(16, 8, 16, 1, 2), 8)
    for name in ("hf-hub:timm/vit_tiny_patch16_224", "dmis-lab/biobert-v1.1"):
        with pytest.raises(RemoteModelError):
            load_image_weights(encoder, name)
        with pytest.raises(RemoteModelError):
            read_text_config(name)


@pytest.mark.parametrize("name", ["a.pth", "a.pt", "pytorch_model.bin"])
def test_a_pickle_is_refused_unread(name: str, tmp_path: Path) -> None:
    torch.save({"state_dict": {"x": Path("/")}}, tmp_path / name)
    with pytest.raises(EncoderWeightsError, match="safetensors"):
        read_weights(tmp_path / name)
    if not name.endswith(".bin"):  # the one weight file of its folder
        with pytest.raises(EncoderWeightsError, match="convert"):
            read_weights(tmp_path)


def test_files_without_readable_tensors_are_refused(tmp_path: Path) -> None:
    save_file({}, tmp_path / "empty.safetensors")
    with pytest.raises(EncoderWeightsError, match="no named tensors"):
        read_weights(tmp_path)
    (tmp_path / "empty.safetensors").write_bytes(b"not a weight file")
    with pytest.raises(EncoderWeightsError, match="readable"):
        read_weights(tmp_path)


def test_prefixes_of_training_are_taken_off(tmp_path: Path) -> None:
    save_file({"module.x": torch.ones(2)}, tmp_path / "a.safetensors")
    assert list(read_weights(tmp_path / "a.safetensors")) == ["x"]


def test_a_folder_must_hold_one_weight_file(tmp_path: Path) -> None:
    with pytest.raises(EncoderWeightsError, match="exactly one"):
        read_weights(tmp_path)
    for name in ("a.safetensors", "b.safetensors"):
        save_file({"x": torch.ones(1)}, tmp_path / name)
    with pytest.raises(EncoderWeightsError, match="exactly one"):
        read_weights(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(EncoderWeightsError, match="readable"):
        read_weights(tmp_path)


SIZES: dict[str, Any] = {
    "vocab_size": 40,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 64,
}


def _bert_folder(folder: Path, family: str, **save: Any) -> Any:
    """A random stack with pooler, written as transformers writes it."""
    declare_missing_operators()
    import transformers  # after the operators exist

    config = getattr(transformers, f"{family}Config")(**SIZES)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = getattr(transformers, f"{family}Model")(config).eval()
    model.save_pretrained(folder, **save)
    return model


@pytest.mark.component("A2")
@pytest.mark.parametrize("family", ["Bert", "MegatronBert"])
@torch.no_grad()
def test_a_folder_s_stack_answers_as_it_did_where_it_came_from(
    family: str, tmp_path: Path
) -> None:
    foreign = _bert_folder(tmp_path, family)
    config = read_text_config(tmp_path, max_tokens=32)
    assert (config.max_tokens, config.positions, config.width) == (32, 64, 16)
    encoder = TextEncoder(config, 8).eval()
    load_text_weights(encoder, tmp_path)
    ids = torch.tensor([[2, 7, 8, 3]])
    wanted = foreign(input_ids=ids).last_hidden_state
    assert torch.allclose(encoder.bert(input_ids=ids).last_hidden_state, wanted)


@torch.no_grad()
def test_names_of_the_first_releases_and_of_whole_language_models_are_known(
    tmp_path: Path,
) -> None:
    foreign = _bert_folder(tmp_path, "Bert")
    state = load_file(tmp_path / "model.safetensors")
    old = {
        "bert."
        + name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): tensor
        for name, tensor in state.items()
    }
    old["cls.predictions.bias"] = torch.zeros(40)
    (tmp_path / "model.safetensors").unlink()
    save_file(old, tmp_path / "pytorch_model.safetensors")
    encoder = TextEncoder(read_text_config(tmp_path), 8)
    load_text_weights(encoder, tmp_path)
    name = "embeddings.word_embeddings.weight"
    assert torch.equal(encoder.bert.state_dict()[name], foreign.state_dict()[name])


def test_text_weights_of_other_sizes_are_refused(tmp_path: Path) -> None:
    _bert_folder(tmp_path, "Bert")
    config = read_text_config(tmp_path)
    for change in ({"depth": 2}, {"vocabulary": 41}, {"architecture": "megatron-bert"}):
        other = TextEncoder(replace(config, **change), 8)  # type: ignore[arg-type]
        with pytest.raises(EncoderWeightsError):
            load_text_weights(other, tmp_path)


@pytest.mark.component("A2")
@pytest.mark.parametrize(
    "change",
    [
        {"auto_map": {"AutoModel": "code.Model"}},
        {"model_type": "llama"},
        {"model_type": None},
        {"hidden_size": "wide"},
        {"vocab_size": None},
    ],
)
def test_a_folder_that_is_no_plain_bert_is_refused(
    change: dict[str, object], tmp_path: Path
) -> None:
    data = {"model_type": "bert", **SIZES, **change}
    (tmp_path / "config.json").write_text(json.dumps(data))
    with pytest.raises(EncoderWeightsError):
        read_text_config(tmp_path)


@pytest.mark.parametrize("text", ["", "[1]", None])
def test_a_folder_without_configuration_is_refused(
    text: str | None, tmp_path: Path
) -> None:
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(EncoderWeightsError):
        read_text_config(tmp_path)
