"""Encoders from this disk in the place of a preset's, and a comparison on top."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from model.baselines.biovil_t import biovil_t
from model.baselines.chexzero import chexzero
from model.baselines.compare import run_comparison
from model.baselines.medclip import medclip
from model.baselines.registry import METHODS
from model.baselines.settings import CompareSettings
from model.baselines.shared import prepare_shared
from model.cli import main
from model.errors import ConfigurationError, EncoderWeightsError, RemoteModelError
from model.inference.torchvision_ops import declare_missing_operators
from model.inference.vocabulary import SPECIAL
from model.synthetic.latents import Split
from model.training.local_encoders import LocalEncoders, build_with
from model.training.optimise import Schedule
from model.training.synthetic_set import synthetic_cases, synthetic_set
from model.training.train_settings import TrainSettings
from model.training.training_set import TrainingSet

SHORT = Schedule(epochs=1, rate=2e-3, batch=32)
QUICK = TrainSettings(
    encoders=(SHORT, SHORT, SHORT), pooled=SHORT, fusion=SHORT, progress=False
)
NAME = "vit_tiny_patch16_224"
SMALL = (("embed_dim", 24), ("depth", 1), ("num_heads", 2))
WORDS = [*SPECIAL, *"abcdefghijklmnopqrstuvwxyz", "Fever", "fever", "cough", "no", "."]
PIECES = [*WORDS, *(f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz")]


@pytest.fixture(scope="module")
def image_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A colour model of another image size, as somebody else trained it."""
    declare_missing_operators()
    import timm  # after the operators exist

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        model = timm.create_model(NAME, num_classes=4, img_size=64, **dict(SMALL))
    path = tmp_path_factory.mktemp("image") / "model.safetensors"
    save_file(model.state_dict(), path)
    return path


@pytest.fixture(scope="module", params=["Bert", "MegatronBert"])
def text_folder(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A cased folder as transformers writes it, with its vocabulary."""
    declare_missing_operators()
    import transformers  # after the operators exist

    folder = tmp_path_factory.mktemp(request.param)
    config = getattr(transformers, f"{request.param}Config")(
        vocab_size=len(PIECES) + 3,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = getattr(transformers, f"{request.param}Model")(config)
    model.save_pretrained(folder)
    (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in PIECES))
    return folder


@pytest.fixture(scope="module")
def training() -> TrainingSet:
    """Sixty synthetic cases."""
    return synthetic_set(synthetic_cases(60, 3, split=Split.TRAIN))


@pytest.mark.component("A1")
@pytest.mark.component("A2")
@torch.no_grad()
def test_both_encoders_start_from_their_files(
    image_file: Path, text_folder: Path, training: TrainingSet
) -> None:
    local = LocalEncoders(NAME, str(image_file), 64, SMALL, str(text_folder))
    model, words = build_with(training, QUICK, local)
    stored = load_file(image_file)
    vit = model.image_encoder.vit.state_dict()
    assert torch.equal(vit["norm.weight"], stored["norm.weight"])
    grey = stored["patch_embed.proj.weight"].sum(1, keepdim=True)
    assert torch.allclose(vit["patch_embed.proj.weight"], grey, atol=1e-6)
    bert = model.text_encoder.bert.state_dict()
    text = load_file(text_folder / "model.safetensors")
    name = "embeddings.word_embeddings.weight"
    assert torch.equal(bert[name], text[name])
    assert words.pieces == tuple(PIECES) and words.lowercase is False
    assert (words.max_tokens, words.image_size) == (64, 64)
    encoded = words.tokenizer.encode("Fever fever", add_special_tokens=False)
    assert encoded.tokens == ["Fever", "fever"]


def test_what_is_not_asked_for_is_the_presets_own(training: TrainingSet) -> None:
    assert not LocalEncoders() and LocalEncoders(image_size=32)
    model, words = build_with(training, QUICK, LocalEncoders(image_size=32))
    assert model.image_encoder.grid == (4, 4) and words.image_size == 32
    assert model.config.text.vocabulary == len(words.pieces)
    assert words.lowercase


def test_what_does_not_fit_is_refused(
    image_file: Path, text_folder: Path, training: TrainingSet, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match="name of their backbone"):
        LocalEncoders(image_weights=str(image_file))
    wide = (("embed_dim", 32), *SMALL[1:])
    with pytest.raises(EncoderWeightsError):
        build_with(training, QUICK, LocalEncoders(NAME, str(image_file), 64, wide))
    for local in (
        LocalEncoders(NAME, "hf-hub:timm/vit_tiny_patch16_224", 64, SMALL),
        LocalEncoders(text="dmis-lab/biobert-v1.1"),
    ):
        with pytest.raises(RemoteModelError):
            build_with(training, QUICK, local)
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((text_folder / name).read_bytes())
    longer = [*PIECES, "one", "two", "three", "four"]
    (tmp_path / "vocab.txt").write_text("".join(f"{piece}\n" for piece in longer))
    with pytest.raises(ConfigurationError, match="more pieces"):
        build_with(training, QUICK, LocalEncoders(text=str(tmp_path)))


@pytest.mark.component("A24a")
@pytest.mark.component("A24b")
@pytest.mark.component("A24c")
def test_the_contrastive_baselines_train_on_encoders_from_disk(
    image_file: Path, text_folder: Path, tmp_path: Path
) -> None:
    """Same split, same encoders and same table as the cross-attention model."""
    settings = CompareSettings(
        seeds=1,
        cases=60,
        held_out=50,
        tested=50,
        train=QUICK,
        contrastive=SHORT,
        head=SHORT,
        draws=5,
        local=LocalEncoders(NAME, str(image_file), 64, SMALL, str(text_folder)),
    )
    plain = replace(settings, local=LocalEncoders())
    assert settings.encoder_digest() != plain.encoder_digest()
    shared = prepare_shared(settings, 7, tmp_path / "encoders")
    assert shared.model.config.image.backbone == NAME
    assert shared.training.tokens.image.shape == (60, 16, 64)
    for method in (biovil_t, medclip, chexzero):
        found = method(shared)
        assert set(found.tested) == {"image+text", "image"}
        assert all(len(x) == 50 for x in found.tested.values())
    named = [m for m in METHODS if m.name in ("biovil_t", "m_llm")]
    (result,) = run_comparison(
        settings, folder=tmp_path / "kept", methods=named, progress=False
    )
    lengths = {len(x) for s in result.methods.values() for x in s.tested.values()}
    assert lengths == {50} == {len(result.tested)}


def test_the_command_hands_encoders_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[CompareSettings] = []

    def refuse(settings: CompareSettings, **_: Any) -> None:
        asked.append(settings)
        raise ConfigurationError("seen enough")

    monkeypatch.setattr("model.baselines.compare.run_comparison", refuse)
    options = ["--image-backbone", NAME, "--image-weights", "w", "--image-size", "96"]
    assert main(["compare", *options, "--text-folder", "t", "--quiet"]) == 2
    assert asked[0].local == LocalEncoders(NAME, "w", 96, text="t")
    assert "seen enough" in capsys.readouterr().err
    assert main(["compare", "--image-weights", "w", "--quiet"]) == 2
