"""From record to prediction: calibrated per pattern, honest about what is missing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fhir_adapters.patient_record import (
    Modality,
    ModalityState,
    ModalityStatus,
    PatientRecord,
)
from model.errors import (
    CheckpointTamperedError,
    ConfigurationError,
    DeviceMemoryError,
    DeviceUnavailableError,
    InferenceError,
    UnknownLabelError,
)
from model.inference.abstention import AbstentionPolicy
from model.inference.calibration import FeatureReference
from model.inference.predictor import Predictor, leading_estimate
from model.jobs.model_identity import read_identity
from model.network.fusion import TriModalModel
from tests.model.checkpoint_samples import LABELS, calibration, cases, write_checkpoint

RECORDS = cases(24)
ABSENT = ModalityState(ModalityStatus.ABSENT, "no_study")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained checkpoint."""
    return write_checkpoint(tmp_path_factory.mktemp("model") / "untrained", RECORDS)


@pytest.fixture(scope="module")
def predictor(folder: Path) -> Predictor:
    """On the CPU, in float32."""
    return Predictor(folder, "cpu", threads=1)


def without(record: PatientRecord, *missing: Modality) -> PatientRecord:
    """The record with these modalities absent."""
    content = {
        Modality.IMAGE: {"images": ()},
        Modality.TEXT: {"notes": ()},
        Modality.VALUES: {"values": (), "history": ()},
    }
    states = dict(record.states)
    changes: dict[str, object] = {}
    for modality in missing:
        states[modality] = ABSENT
        changes.update(content[modality])
    return replace(record, states=states, **changes)  # type: ignore[arg-type]


def test_a_prediction_says_what_it_rests_on(predictor: Predictor, folder: Path) -> None:
    record = RECORDS[0]
    prediction = predictor.predict(record)
    assert prediction.model == read_identity(folder)
    assert prediction.device == "cpu fp32"
    assert prediction.presence == {"image": True, "text": True, "values": True}
    assert set(prediction.states.values()) == {"present"}
    assert prediction.calibration == "test-1:image+text+values"
    assert prediction.evidence_sha256 == record.evidence_sha256()
    assert set(record.references()) >= set(prediction.inputs) - {
        f"Patient/{record.patient.patient_id}"
    }
    assert record.images[0].provenance.reference in prediction.inputs
    assert record.notes[0].provenance.reference in prediction.inputs
    assert [e.label for e in prediction.estimates] == [label.label for label in LABELS]
    assert prediction.abstentions == ()
    assert len(prediction.prediction_id) == 32


@pytest.mark.parametrize(
    "missing",
    [
        (),
        (Modality.IMAGE,),
        (Modality.TEXT,),
        (Modality.VALUES,),
        (Modality.IMAGE, Modality.TEXT),
        (Modality.IMAGE, Modality.VALUES),
        (Modality.TEXT, Modality.VALUES),
    ],
)
def test_each_presence_pattern_has_its_own_calibration(
    predictor: Predictor, missing: tuple[Modality, ...]
) -> None:
    prediction = predictor.predict(without(RECORDS[1], *missing))
    there = [m for m in Modality if m not in missing]
    pattern = "+".join(there)
    assert prediction.calibration == f"test-1:{pattern}"
    assert prediction.presence == {m.value: m in there for m in Modality}
    for modality in missing:
        assert prediction.states[modality.value] == "absent: no_study"
    platt = calibration().platt[pattern]
    for estimate in prediction.estimates:
        expected = 1 / (
            1
            + np.exp(
                -platt[estimate.label].slope * estimate.logit
                - platt[estimate.label].intercept
            )
        )
        assert estimate.probability == pytest.approx(expected)


def test_the_same_record_gives_the_same_numbers(predictor: Predictor) -> None:
    first, second = (predictor.predict(RECORDS[2]) for _ in range(2))
    assert first.estimates == second.estimates
    assert first.prediction_id != second.prediction_id


def test_threads_share_one_predictor(predictor: Predictor) -> None:
    alone = [predictor.assess(record) for record in RECORDS[:8]]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(predictor.assess, RECORDS[:8]))
    for (a, a_why), (b, b_why) in zip(alone, together):
        assert a.estimates == b.estimates
        assert a_why is not None and b_why is not None
        assert a_why.words == b_why.words
        assert a_why.heat_maps == b_why.heat_maps
        assert a_why.values == b_why.values
        assert a_why.modalities == b_why.modalities


def test_a_record_without_evidence_is_an_abstention(predictor: Predictor) -> None:
    prediction, explanation = predictor.assess(without(RECORDS[0], *Modality))
    assert [a.code for a in prediction.abstentions] == ["no_modality"]
    assert prediction.estimates == () and explanation is None
    assert prediction.calibration == "test-1:none"
    with pytest.raises(InferenceError):
        predictor.explain(without(RECORDS[0], *Modality))


def test_a_blank_film_is_named_and_not_read(predictor: Predictor) -> None:
    record = RECORDS[3]
    grey = replace(record.images[0], pixels=np.full((64, 64), 0.4, np.float32))
    prediction = predictor.predict(replace(record, images=(grey,)))
    assert prediction.states["image"] == "unreadable: blank_image"
    assert not prediction.presence["image"]
    assert grey.provenance.reference not in prediction.inputs
    bare = predictor.predict(without(record, Modality.IMAGE))
    assert [e.logit for e in prediction.estimates] == [e.logit for e in bare.estimates]


def test_values_that_the_model_does_not_know_are_absent_not_zero(
    predictor: Predictor,
) -> None:
    record = RECORDS[4]
    unknown = replace(record.values[0], loinc="99999-9")
    prediction = predictor.predict(replace(record, values=(unknown,)))
    assert prediction.states["values"] == "absent: no_values"
    assert unknown.provenance.reference not in prediction.inputs


def test_old_evidence_is_refused_by_the_sites_policy(folder: Path) -> None:
    record = RECORDS[5]
    strict = Predictor(folder, "cpu", policy=AbstentionPolicy(max_age_days=1e-9))
    assert [a.code for a in strict.predict(record).abstentions] == ["stale_data"]


@pytest.mark.parametrize(
    "modality,code", [("image", "ood_image"), ("text", "ood_text")]
)
def test_a_record_unlike_all_others_is_refused(
    tmp_path: Path, modality: str, code: str
) -> None:
    width = 64
    eye = tuple(tuple(float(i == j) for j in range(width)) for i in range(width))
    far = FeatureReference((1000.0,) * width, eye, 1.0)
    checkpoint = write_checkpoint(
        tmp_path / "ood", RECORDS, calibrated=calibration(references={modality: far})
    )
    prediction, explanation = Predictor(checkpoint, "cpu").assess(RECORDS[0])
    assert [a.code for a in prediction.abstentions] == [code]
    assert prediction.estimates == () and explanation is None


def test_a_model_that_gives_no_number_is_an_error(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "nan", RECORDS)
    broken = Predictor(checkpoint, "cpu")
    model = broken._loaded.model
    assert isinstance(model, TriModalModel)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(float("nan"))
    with pytest.raises(InferenceError, match="no finite number"):
        broken.predict(RECORDS[0])


def test_memory_that_runs_out_is_a_typed_error(folder: Path) -> None:
    crowded = Predictor(folder, "cpu")

    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("tried to allocate")

    crowded._loaded.model.register_forward_pre_hook(full)
    crowded._loaded.model.text_encoder.register_forward_pre_hook(full)
    with pytest.raises(DeviceMemoryError):
        crowded.predict(RECORDS[0])


def test_a_changed_checkpoint_is_not_loaded(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "changed", RECORDS)
    with (checkpoint / "calibration.json").open("a") as file:
        file.write(" ")
    with pytest.raises(CheckpointTamperedError):
        Predictor(checkpoint, "cpu")


def test_an_unknown_precision_or_label_is_refused(
    folder: Path, predictor: Predictor
) -> None:
    with pytest.raises(ConfigurationError):
        Predictor(folder, "cpu", precision="int3")
    with pytest.raises(UnknownLabelError):
        predictor.explain(RECORDS[0], "gout")


def test_the_label_asked_for_is_the_label_explained(predictor: Predictor) -> None:
    for label in predictor.labels:
        assert predictor.explain(RECORDS[0], label).label == label
    prediction, explanation = predictor.assess(RECORDS[0])
    assert explanation is not None
    assert explanation.label == leading_estimate(prediction).label
    assert predictor.explain(RECORDS[0]).label == explanation.label


def test_warming_up_needs_no_patient(predictor: Predictor) -> None:
    predictor.warm_up()


def test_bfloat16_encoders_stay_within_the_parity_bound(
    folder: Path, predictor: Predictor
) -> None:
    half = Predictor(folder, "cpu", precision="bf16", threads=1)
    assert half.device == "cpu bf16"
    gap = largest_gap(predictor, half)
    assert 0 < gap <= 0.02


@pytest.mark.cuda
def test_a_gpu_agrees_with_the_cpu(folder: Path, predictor: Predictor) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device: parity of GPU and CPU is not tested")
    gpu = Predictor(folder, "cuda")
    assert gpu.device.startswith("cuda") and gpu.device.endswith("bf16")
    assert largest_gap(predictor, gpu) <= 0.02
    assert gpu.explain(RECORDS[0]).label


def test_a_gpu_that_is_not_there_is_a_typed_error(folder: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device: its absence is not tested")
    with pytest.raises(DeviceUnavailableError):
        Predictor(folder, "cuda")
    assert Predictor(folder, "auto").device == "cpu fp32"


def largest_gap(one: Predictor, other: Predictor) -> float:
    """Largest difference of a logit between two predictors."""
    return max(
        abs(a.logit - b.logit)
        for record in RECORDS
        for a, b in zip(one.predict(record).estimates, other.predict(record).estimates)
    )


def test_prediction_and_explanation_leave_no_gradient_behind(
    predictor: Predictor,
) -> None:
    predictor.assess(RECORDS[0])
    model = predictor._loaded.model
    assert all(p.grad is None and not p.requires_grad for p in model.parameters())
    assert not model.training
