"""Checkpoint folders: round trip, and every kind of tampering refused."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save as save_tensors

from model.errors import CheckpointError, CheckpointTamperedError
from model.inference.calibration import Calibration
from model.inference.weights import (
    Description,
    LabelSpec,
    load_checkpoint,
    save_checkpoint,
    verify_manifest,
    write_manifest,
)
from model.jobs.prediction import Validation
from model.settings import DEMO_CHECKPOINT
from tests.model.network_samples import LABELS, batch, network, vocabulary

VALIDATION = Validation("AUROC", 0.9, 0.8, 0.95, 100, "a test")


def _description(**changes: object) -> Description:
    settings: dict[str, object] = {
        "name": "test",
        "version": "1",
        "preset": "tiny",
        "trained_on": "nothing",
        "labels": (LabelSpec("pneumonia", "Pneumonia", 0.4),),
        "validation": VALIDATION,
        "training": {"seeds": {"train": 1}},
        "card": "# Card\n",
        "notice": "None.\n",
    }
    return Description(**{**settings, **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of an untrained network."""
    folder = tmp_path_factory.mktemp("written")
    save_checkpoint(
        folder, network(), vocabulary(), Calibration.identity(LABELS), _description()
    )
    return folder


@pytest.fixture()
def folder(written: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    return Path(shutil.copytree(written, tmp_path / "copy"))


@torch.no_grad()
def test_a_checkpoint_comes_back_as_it_was(folder: Path) -> None:
    loaded = load_checkpoint(folder)
    assert torch.equal(loaded.model(batch()).logits, network()(batch()).logits)
    assert not loaded.model.training
    assert loaded.vocabulary == vocabulary()
    assert loaded.labels == (LabelSpec("pneumonia", "Pneumonia", 0.4),)
    assert loaded.identity.validation == VALIDATION
    assert loaded.preset == "tiny" and loaded.training["seeds"] == {"train": 1}


def test_the_digest_is_that_of_the_manifest(folder: Path) -> None:
    raw = (folder / "manifest.json").read_bytes()
    digest = hashlib.sha256(raw).hexdigest()
    assert verify_manifest(folder) == digest == load_checkpoint(folder).identity.sha256


@torch.no_grad()
def test_half_precision_halves_the_file_and_keeps_the_answer(tmp_path: Path) -> None:
    identity = Calibration.identity(LABELS)
    half = _description(half=True, validation=None)
    save_checkpoint(tmp_path / "half", network(), vocabulary(), identity, half)
    save_checkpoint(
        tmp_path / "full", network(), vocabulary(), identity, _description()
    )
    sizes = [
        (tmp_path / name / "weights.safetensors").stat().st_size
        for name in ("half", "full")
    ]
    assert sizes[0] < 0.55 * sizes[1]
    logits = load_checkpoint(tmp_path / "half").model(batch()).logits
    assert torch.allclose(logits, network()(batch()).logits, atol=0.01)


FILES = ["weights.safetensors", "vocab.txt", "values.json", "calibration.json"]


@pytest.mark.parametrize("name", [*FILES, "config.json", "MODEL_CARD.md", "NOTICE"])
def test_a_changed_file_is_refused(folder: Path, name: str) -> None:
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(bytes(data))
    with pytest.raises(CheckpointTamperedError):
        load_checkpoint(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_refused(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(CheckpointTamperedError):
        load_checkpoint(folder)


def test_a_smuggled_file_is_refused(folder: Path) -> None:
    (folder / "extra.bin").write_bytes(b"x")
    with pytest.raises(CheckpointTamperedError):
        load_checkpoint(folder)


@pytest.mark.parametrize("text", ["", "[]", "{}", None])
def test_without_a_readable_manifest_nothing_is_loaded(
    folder: Path, text: str | None
) -> None:
    if text is None:
        (folder / "manifest.json").unlink()
    else:
        (folder / "manifest.json").write_text(text)
    with pytest.raises(CheckpointError):
        load_checkpoint(folder)


def _reconfigure(folder: Path, change: dict[str, object]) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    write_manifest(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"format": 99},
        {"network": {}},
        {"labels": [{"name": "x"}]},
        {"validation": {"metric": "AUROC"}},
    ],
)
def test_a_pinned_but_malformed_configuration_is_refused(
    folder: Path, change: dict[str, object]
) -> None:
    _reconfigure(folder, change)
    with pytest.raises(CheckpointError):
        load_checkpoint(folder)


def test_weights_of_another_network_are_refused(folder: Path) -> None:
    (folder / "weights.safetensors").write_bytes(save_tensors({"x": torch.zeros(2)}))
    write_manifest(folder)
    with pytest.raises(CheckpointError, match="do not fit"):
        load_checkpoint(folder)
    (folder / "weights.safetensors").write_bytes(b"no tensors at all")
    write_manifest(folder)
    with pytest.raises(CheckpointError, match="do not fit"):
        load_checkpoint(folder)


def test_a_malformed_training_record_is_refused(folder: Path) -> None:
    (folder / "training.json").write_text("{")
    write_manifest(folder)
    with pytest.raises(CheckpointError):
        load_checkpoint(folder)


def test_labels_must_be_those_of_the_network(tmp_path: Path) -> None:
    other = _description(labels=(LabelSpec("other", "Other"),))
    with pytest.raises(CheckpointError):
        save_checkpoint(
            tmp_path, network(), vocabulary(), Calibration.identity(LABELS), other
        )


def test_the_demonstration_checkpoint_loads_and_is_honest() -> None:
    loaded = load_checkpoint(DEMO_CHECKPOINT)
    size = sum(path.stat().st_size for path in DEMO_CHECKPOINT.iterdir())
    card = (DEMO_CHECKPOINT / "MODEL_CARD.md").read_text()
    assert size <= 12_000_000
    assert "synthetic cases only" in loaded.identity.trained_on
    assert "Not for clinical use" in card
    assert loaded.identity.validation is not None
    assert loaded.labels[0].display == "Pneumonia"
