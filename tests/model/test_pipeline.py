"""From raw bytes to tensors: one version, the same on every run and for every form."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
from dataclasses import fields
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import torch

from fhir_adapters.assemble import assemble
from fhir_adapters.dicom.image import load_image
from model.errors import CheckpointError
from model.inference.tensors import to_tensors
from model.inference.vocabulary import PIPELINE, VALUES_FILE, InputVocabulary
from model.inference.weights import load_checkpoint, write_manifest
from model.network.inputs import TriModalInputs
from model.settings import DEMO_CHECKPOINT
from tests.fhir_adapters.dicom_files import EXPECTED, LOSSLESS, in_syntax
from tests.fhir_adapters.fhir_samples import (
    attachment,
    document,
    observation,
    patient,
    quantity,
    received,
)

ROOT = Path(__file__).resolve().parents[2]
NOTE = "HPI: naïve patient, fever to 39 and cough for 3 days. RR 26, sats 90 % on air."
WHEN = datetime(2027, 1, 1, tzinfo=UTC)


def leukocytes(number: str, unit: str) -> dict[str, Any]:
    return observation("6690-2", quantity(Decimal(number), unit))


def tensors(
    syntax: str = "explicit",
    note: dict[str, Any] | None = None,
    value: dict[str, Any] | None = None,
) -> TriModalInputs:
    """One case by way of the adapters, with the demonstration's vocabulary."""
    image = load_image(
        in_syntax(syntax), expected=EXPECTED, reference="ImagingStudy/s1", origin="x"
    )
    sent = received(
        document(content=[{"attachment": note or attachment(NOTE)}]),
        value or leukocytes("14.0", "10*3/uL"),
    )
    record = assemble(patient(), sent, [image], cutoff=WHEN)
    assert all(record.presence().values()), record.skipped
    return to_tensors([record], InputVocabulary.load(DEMO_CHECKPOINT))


def digest(inputs: TriModalInputs) -> str:
    """SHA-256 over every tensor, its shape and its kind."""
    found = hashlib.sha256()
    for item in fields(inputs):
        x = getattr(inputs, item.name)
        if isinstance(x, torch.Tensor):
            found.update(f"{item.name} {tuple(x.shape)} {x.dtype}".encode())
            found.update(x.contiguous().numpy().tobytes())
    return found.hexdigest()


@pytest.fixture(scope="module")
def usual() -> str:
    return digest(tensors())


@pytest.mark.component("A22")
@pytest.mark.parametrize("syntax", sorted(LOSSLESS))
def test_every_lossless_form_of_a_film_gives_the_same_tensors(
    syntax: str, usual: str
) -> None:
    assert digest(tensors(syntax)) == usual


@pytest.mark.component("A22")
@pytest.mark.parametrize(
    ("number", "unit"), [("14.0", "10*9/L"), ("14000", "/uL"), ("14", "10*3/uL")]
)
def test_the_same_amount_in_another_unit_gives_the_same_tensors(
    number: str, unit: str, usual: str
) -> None:
    assert digest(tensors(value=leukocytes(number, unit))) == usual


@pytest.mark.component("A22")
@pytest.mark.parametrize("charset", ["utf-8", "ISO-8859-1", "windows-1252"])
def test_the_same_note_in_another_encoding_gives_the_same_tensors(
    charset: str, usual: str
) -> None:
    data = base64.b64encode(NOTE.encode(charset)).decode()
    sent = {"contentType": f"text/plain; charset={charset}", "data": data}
    assert digest(tensors(note=sent)) == usual


@pytest.mark.component("A22")
def test_another_process_makes_the_same_tensors(usual: str) -> None:
    program = "from tests.model.test_pipeline import *; print(digest(tensors()))"
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
        assert done.stdout.strip() == usual


@pytest.mark.component("A22")
def test_version_and_statistics_travel_with_the_checkpoint(tmp_path: Path) -> None:
    import shutil

    loaded = load_checkpoint(DEMO_CHECKPOINT)
    assert loaded.vocabulary.pipeline == PIPELINE
    assert len(loaded.vocabulary.codes) > 10 and loaded.vocabulary.follows
    crp = loaded.vocabulary.codes[loaded.vocabulary.code_rows["1988-5"]]
    assert crp.decimals == 1 and 5 < crp.median < 120 and crp.iqr > 0
    copy = tmp_path / "copy"
    shutil.copytree(DEMO_CHECKPOINT, copy)
    data = json.loads((copy / VALUES_FILE).read_text())
    data["pipeline"] = PIPELINE + 1
    (copy / VALUES_FILE).write_text(json.dumps(data))
    write_manifest(copy)
    with pytest.raises(CheckpointError, match="newer"):
        load_checkpoint(copy)
    del data["pipeline"]  # from before there was a number
    (copy / VALUES_FILE).write_text(json.dumps(data))
    write_manifest(copy)
    assert load_checkpoint(copy).vocabulary.pipeline == 1
