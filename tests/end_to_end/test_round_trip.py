"""Synthetic cases through FHIR and DICOM give the logits of the direct tensors."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import torch

from fhir_adapters.assemble import assemble
from fhir_adapters.dicom.image import load_image
from fhir_adapters.dicom.instance import ExpectedInstance
from fhir_adapters.patient_record import PatientRecord
from fhir_adapters.received import Received
from model.inference.tensors import to_tensors
from model.inference.weights import load_checkpoint
from model.synthetic.case import SynthCase
from model.synthetic.emit import to_fhir, to_record
from model.synthetic.generate import generate
from model.synthetic.latents import Split

DEMO = Path(__file__).resolve().parents[2] / "model" / "checkpoints" / "demo"
CASES = 500
TOLERANCE = 0.02


def read_back(case: SynthCase) -> PatientRecord:
    """The case as an EHR and a PACS would have sent it."""
    emitted = to_fhir(case)
    resources: list[dict[str, Any]] = [
        json.loads(json.dumps(r, default=str), parse_float=Decimal)
        for r in emitted.resources
    ]
    patient = next(r for r in resources if r["resourceType"] == "Patient")
    study = next(r for r in resources if r["resourceType"] == "ImagingStudy")
    series = study["series"][0]
    expected = ExpectedInstance(
        study_uid=study["identifier"][0]["value"].removeprefix("urn:oid:"),
        series_uid=series["uid"],
        sop_uid=series["instance"][0]["uid"],
        patient_ids=frozenset({patient["identifier"][0]["value"]}),
    )
    reference = f"ImagingStudy/{study['id']}#{expected.sop_uid}"
    image = load_image(
        emitted.instances[0], expected=expected, reference=reference, origin="dicomweb"
    )
    received = [Received(r, "fhir") for r in resources if r is not patient]
    return assemble(patient, received, [image], cutoff=case.cutoff)


@pytest.fixture(scope="module")
def cases() -> list[SynthCase]:
    return list(generate(CASES, 77, split=Split.TEST))


@pytest.fixture(scope="module")
def records(cases: list[SynthCase]) -> list[PatientRecord]:
    return [read_back(case) for case in cases]


def test_no_planted_value_is_skipped(
    cases: list[SynthCase], records: list[PatientRecord]
) -> None:
    for case, record in zip(cases, records):
        planted = {(v.loinc, v.value) for v in case.values}
        assert {(v.loinc, v.value) for v in record.values} == planted
        assert all(record.presence().values())
        assert record.notes[0].text == case.note.text
        assert record.skipped == ()


def test_logits_equal_those_of_the_direct_tensors(
    cases: list[SynthCase], records: list[PatientRecord]
) -> None:
    loaded = load_checkpoint(DEMO, "cpu")
    direct = [to_record(case) for case in cases]
    worst = 0.0
    with torch.inference_mode():
        for start in range(0, CASES, 100):
            pair = [
                loaded.model(
                    to_tensors(some[start : start + 100], loaded.vocabulary)
                ).logits
                for some in (direct, records)
            ]
            worst = max(worst, float((pair[0] - pair[1]).abs().max()))
    assert worst <= TOLERANCE
