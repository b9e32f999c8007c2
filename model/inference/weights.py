"""A checkpoint folder: written once, verified completely every time it is read.

Rules this module enforces:

1. The manifest lists every file with its SHA-256, and a folder holds no file that it
   does not list (attack: a file smuggled in beside the pinned ones).
2. Each file is hashed before it is parsed (attack: weights, vocabulary or calibration
   swapped; damage on disk).
3. Weights are safetensors, read without executing anything (attack: code in a pickle),
   and must fit the configured network exactly, name by name and shape by shape.
4. The model's digest is the SHA-256 of the manifest, so that it covers vocabulary,
   statistics and calibration too: another calibration is another model.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from model.errors import CheckpointError, CheckpointTamperedError, ConfigurationError
from model.inference.calibration import Calibration
from model.inference.vocabulary import InputVocabulary
from model.jobs.model_identity import read_identity, read_manifest
from model.jobs.prediction import ModelIdentity, Validation
from model.network.config import TriModalConfig
from model.network.fusion import TriModalModel

MANIFEST_FILE = "manifest.json"
CONFIG_FILE = "config.json"
WEIGHTS_FILE = "weights.safetensors"
TRAINING_FILE = "training.json"
CARD_FILE = "MODEL_CARD.md"
NOTICE_FILE = "NOTICE"
FORMAT = 1

# Parts of the CATM that stood at the top of the network before the fusion registry.
_MOVED = ("missing", "catm", "synergy", "label_queries", "decoder", "norm", "head")


@dataclass(frozen=True, slots=True)
class LabelSpec:
    """One label: its code, the words a clinician reads, its decision threshold."""

    label: str
    display: str
    threshold: float = 0.5


@dataclass(frozen=True)
class Description:
    """What a checkpoint says about itself, beyond its weights.

    ``training`` is free JSON: seeds, times, figures. ``half`` stores weights as fp16.
    """

    name: str
    version: str
    preset: str
    trained_on: str
    labels: tuple[LabelSpec, ...]
    validation: Validation | None = None
    training: Mapping[str, Any] = field(default_factory=dict)
    card: str = ""
    notice: str = ""
    half: bool = False


@dataclass(frozen=True)
class LoadedCheckpoint:
    """A verified checkpoint, its model in evaluation mode on its device."""

    folder: Path
    model: TriModalModel
    vocabulary: InputVocabulary
    calibration: Calibration
    config: TriModalConfig
    labels: tuple[LabelSpec, ...]
    identity: ModelIdentity
    preset: str
    training: Mapping[str, Any]


def save_checkpoint(
    folder: Path,
    model: TriModalModel,
    vocabulary: InputVocabulary,
    calibration: Calibration,
    description: Description,
) -> str:
    """Write a checkpoint folder, manifest last.

    Args:
        folder: Created when missing; files of an older checkpoint are replaced.
        model: The trained network.
        vocabulary: Fitted on the training records.
        calibration: Fitted on held-out records.
        description: Name, labels, figures, card.

    Returns:
        The model's digest (SHA-256 of the manifest, hex).

    Raises:
        CheckpointError: the labels do not fit the network's.
    """
    if tuple(item.label for item in description.labels) != model.config.labels:
        raise CheckpointError("labels of the description and of the network differ")
    folder.mkdir(parents=True, exist_ok=True)
    kind = torch.float16 if description.half else torch.float32
    state = {
        name: (x.to(kind) if x.is_floating_point() else x).detach().cpu().contiguous()
        for name, x in model.state_dict().items()
    }
    (folder / WEIGHTS_FILE).write_bytes(save_tensors(state))
    vocabulary.save(folder)
    calibration.save(folder)
    _write_json(folder / CONFIG_FILE, _config_json(model, description))
    _write_json(folder / TRAINING_FILE, dict(description.training))
    (folder / CARD_FILE).write_text(description.card, encoding="utf-8")
    (folder / NOTICE_FILE).write_text(description.notice, encoding="utf-8")
    return write_manifest(folder)


def _config_json(model: TriModalModel, description: Description) -> dict[str, Any]:
    validation = description.validation
    return {
        "format": FORMAT,
        "name": description.name,
        "version": description.version,
        "preset": description.preset,
        "labels": [asdict(label) for label in description.labels],
        "trained_on": description.trained_on,
        "validation": asdict(validation) if validation else None,
        "network": model.config.to_json(),
    }


def _write_json(path: Path, data: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")


def write_manifest(folder: Path) -> str:
    """Hash every file of the folder into its manifest; returns the model's digest."""
    files = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
        if path.name != MANIFEST_FILE
    }
    _write_json(folder / MANIFEST_FILE, {"format": FORMAT, "files": files})
    return hashlib.sha256((folder / MANIFEST_FILE).read_bytes()).hexdigest()


def verify_manifest(folder: Path) -> str:
    """Check every file of a checkpoint folder (rules 1 and 2).

    Returns:
        The model's digest.

    Raises:
        CheckpointError: no manifest, or one that cannot be read.
        CheckpointTamperedError: a file is changed, missing or not listed.
    """
    digest, listed = read_manifest(folder)
    found = {path.name for path in folder.iterdir()} - {MANIFEST_FILE}
    if found != set(listed):  # rule 1: smuggled or missing file
        raise CheckpointTamperedError("files and manifest of the checkpoint differ")
    for name, expected in listed.items():  # rule 2: swapped or damaged file
        if hashlib.sha256((folder / name).read_bytes()).hexdigest() != expected:
            raise CheckpointTamperedError(f"{name} differs from its digest")
    return digest


def load_checkpoint(
    folder: Path | str, device: torch.device | str = "cpu"
) -> LoadedCheckpoint:
    """Verify a checkpoint folder and build its model.

    Args:
        folder: As written by :func:`save_checkpoint`.
        device: Where the model shall live.

    Raises:
        CheckpointError: incomplete, malformed, or made for another network.
        CheckpointTamperedError: a file differs from the manifest.
    """
    folder = Path(folder)
    verify_manifest(folder)
    identity = read_identity(folder)
    data = _read_json(folder / CONFIG_FILE)
    try:
        if data["format"] != FORMAT:
            raise CheckpointError("checkpoint of another format")
        config = TriModalConfig.from_json(data["network"])
        labels = tuple(LabelSpec(**item) for item in data["labels"])
        preset = str(data["preset"])
    except (KeyError, TypeError, ConfigurationError) as error:
        raise CheckpointError("config.json is malformed") from error
    return LoadedCheckpoint(
        folder=folder,
        model=_load_model(folder, config, device),
        vocabulary=InputVocabulary.load(folder),
        calibration=Calibration.load(folder),
        config=config,
        labels=labels,
        identity=identity,
        preset=preset,
        training=_read_json(folder / TRAINING_FILE),
    )


def _load_model(
    folder: Path, config: TriModalConfig, device: torch.device | str
) -> TriModalModel:
    """Build the network and fill it (rule 3)."""
    model = TriModalModel(config)
    try:
        state = load_tensors((folder / WEIGHTS_FILE).read_bytes())
        state = {current_name(name): x for name, x in state.items()}
        wanted = model.state_dict()
        cast = {
            name: x.to(wanted[name].dtype) if name in wanted else x
            for name, x in state.items()
        }
        model.load_state_dict(cast, strict=True)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise CheckpointError("weights do not fit the network") from error
    return model.to(device).eval()


def current_name(name: str) -> str:
    """Where a weight of an older checkpoint lives today; others keep their name."""
    return f"fusion.{name}" if name.split(".")[0] in _MOVED else name


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"{path.name} is malformed") from error
