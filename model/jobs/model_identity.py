"""Which model a checkpoint folder holds, without loading it: for the web process.

The model's digest is the SHA-256 of its ``manifest.json``, which in turn names the
digest of every other file. So one hash names weights, vocabulary, statistics and
calibration together, and web and worker can compare models without torch.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from model.errors import CheckpointError, CheckpointTamperedError
from model.jobs.prediction import ModelIdentity, Validation

MANIFEST = "manifest.json"
CONFIG = "config.json"


def read_manifest(folder: Path) -> tuple[str, dict[str, str]]:
    """The model's digest, and the digest of each file by its name.

    Raises:
        CheckpointError: there is no readable manifest.
    """
    data = _read(folder / MANIFEST)
    try:
        files = json.loads(data)["files"]
        named = {str(name): str(digest) for name, digest in files.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise CheckpointError("manifest.json is malformed") from exc
    return hashlib.sha256(data).hexdigest(), named


def read_identity(checkpoint_folder: Path) -> ModelIdentity:
    """Name, version, digest, training data and validation of a checkpoint.

    Raises:
        CheckpointError: a file is missing or malformed.
        CheckpointTamperedError: the configuration differs from the manifest.
    """
    digest, files = read_manifest(checkpoint_folder)
    data = _read(checkpoint_folder / CONFIG)
    if files.get(CONFIG) != hashlib.sha256(data).hexdigest():
        raise CheckpointTamperedError("config.json differs from the manifest")
    try:
        config: dict[str, Any] = json.loads(data)
        validation = config.get("validation")
        return ModelIdentity(
            name=config["name"],
            version=config["version"],
            sha256=digest,
            trained_on=config["trained_on"],
            validation=Validation(**validation) if validation else None,
        )
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise CheckpointError("config.json is malformed") from exc


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise CheckpointError(f"{path.name} cannot be read") from exc
