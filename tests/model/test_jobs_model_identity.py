"""Which model a folder holds, told without loading it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from model.errors import CheckpointError, CheckpointTamperedError
from model.jobs.model_identity import read_identity, read_manifest
from model.jobs.prediction import ModelIdentity, Validation

CONFIG = {
    "name": "demo",
    "version": "1.2",
    "trained_on": "artificial cases",
    "validation": {
        "metric": "AUROC",
        "value": 0.9,
        "low": 0.88,
        "high": 0.92,
        "n": 2000,
        "method": "artificial test split",
    },
}


def write(folder: Path, config: object = CONFIG, manifest: object = None) -> str:
    """A folder with a configuration and a manifest; returns the manifest's digest."""
    text = json.dumps(config).encode()
    (folder / "config.json").write_bytes(text)
    if manifest is None:
        manifest = {"files": {"config.json": hashlib.sha256(text).hexdigest()}}
    data = json.dumps(manifest).encode()
    (folder / "manifest.json").write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def test_the_digest_is_that_of_the_manifest(tmp_path: Path) -> None:
    digest = write(tmp_path)
    validation = Validation("AUROC", 0.9, 0.88, 0.92, 2000, "artificial test split")
    assert read_identity(tmp_path) == ModelIdentity(
        "demo", "1.2", digest, "artificial cases", validation
    )


def test_another_file_is_another_model(tmp_path: Path) -> None:
    first = write(tmp_path)
    files = {**read_manifest(tmp_path)[1], "weights.safetensors": "00"}
    assert write(tmp_path, manifest={"files": files}) != first


def test_a_model_without_validation_says_so(tmp_path: Path) -> None:
    write(tmp_path, {**CONFIG, "validation": None})
    assert read_identity(tmp_path).validation is None


@pytest.mark.parametrize(
    "manifest", [{}, {"files": ["config.json"]}, {"files": {}}, {"files": {"a": "b"}}]
)
def test_a_manifest_that_does_not_vouch_for_the_configuration_is_refused(
    tmp_path: Path, manifest: object
) -> None:
    write(tmp_path, manifest=manifest)
    with pytest.raises(CheckpointError):
        read_identity(tmp_path)


def test_a_changed_configuration_is_tampering(tmp_path: Path) -> None:
    write(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(path.read_text().replace("1.2", "9.9"))
    with pytest.raises(CheckpointTamperedError):
        read_identity(tmp_path)


@pytest.mark.parametrize(
    "config", [{"name": "demo"}, [], {**CONFIG, "validation": {"metric": "AUROC"}}]
)
def test_a_malformed_configuration_is_refused(tmp_path: Path, config: object) -> None:
    write(tmp_path, config)
    with pytest.raises(CheckpointError):
        read_identity(tmp_path)


@pytest.mark.parametrize("missing", ["config.json", "manifest.json"])
def test_a_missing_file_is_named(tmp_path: Path, missing: str) -> None:
    write(tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(CheckpointError, match=missing):
        read_identity(tmp_path)


def test_a_manifest_that_is_no_json_is_refused(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "manifest.json").write_bytes(b"\xff not json")
    with pytest.raises(CheckpointError, match="malformed"):
        read_identity(tmp_path)
