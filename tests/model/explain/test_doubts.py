"""Abstentions and warnings: each detector by its code, and which could look."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from fhir_adapters.patient_record import Modality, PatientRecord
from model.errors import CheckpointError, ConfigurationError, InferenceError
from model.inference.abstention import (
    DETAILS,
    AbstentionPolicy,
    promoted,
    usable_record,
    warnings_after,
    warnings_before,
)
from model.inference.calibration import Calibration, FeatureReference
from model.inference.checks import NOT_CHECKED, PASSED, RAISED
from model.inference.conformal import ConformalSet
from model.inference.photometry import BODY_PART_FLAG, fit_film_reference
from model.inference.predictor import Predictor, leading_estimate
from model.inference.weights import LoadedCheckpoint
from tests.model.checkpoint_samples import cases

RECORDS = cases(50)
FRESH = AbstentionPolicy()


def calibrated(loaded: LoadedCheckpoint, **changes: object) -> LoadedCheckpoint:
    return replace(loaded, calibration=replace(loaded.calibration, **changes))


def with_value(record: PatientRecord, number: str) -> PatientRecord:
    first = replace(record.values[0], value=Decimal(number), comparator=None)
    return replace(record, values=(first, *record.values[1:]))


@pytest.mark.component("A10")
def test_a_film_of_a_knee_is_left_out_and_alone_it_is_refused(
    untrained: LoadedCheckpoint,
) -> None:
    record = RECORDS[0]
    knee = replace(record.images[0], flags=(BODY_PART_FLAG + "KNEE",))
    said = Predictor.of(untrained, FRESH).predict(replace(record, images=(knee,)))
    assert said.states["image"] == "unreadable: wrong_body_part"
    assert said.checks["wrong_body_part"] == RAISED
    assert said.estimates and not said.presence["image"]
    nobody = replace(record.patient, sex=None, birth_date=None)
    bare = replace(record, images=(knee,), notes=(), values=(), patient=nobody)
    refused = Predictor.of(untrained, FRESH).predict(bare)
    assert [a.code for a in refused.abstentions] == ["wrong_body_part"]


@pytest.mark.component("A10")
def test_a_negative_is_named_where_the_checkpoint_can_tell(
    untrained: LoadedCheckpoint,
) -> None:
    record = RECORDS[0]
    negative = replace(record.images[0], pixels=1 - record.images[0].pixels)
    turned = replace(record, images=(negative,))
    unable = Predictor.of(untrained, FRESH).predict(turned)
    assert unable.checks["inverted_image"] == NOT_CHECKED
    films = fit_film_reference(r.images[0] for r in RECORDS)
    able = calibrated(untrained, films=films)
    said = Predictor.of(able, FRESH).predict(turned)
    assert said.states["image"] == "unreadable: inverted_image"
    assert said.checks["inverted_image"] == RAISED
    fine = Predictor.of(able, FRESH).predict(record)
    assert fine.checks["inverted_image"] == fine.checks["noise_image"] == PASSED


@pytest.mark.component("A10")
def test_an_impossible_value_is_left_out_with_a_warning(
    untrained: LoadedCheckpoint,
) -> None:
    record = with_value(RECORDS[1], "99999999")
    kept = usable_record(record, FRESH)
    assert len(kept.values) == len(record.values) - 1
    assert kept.skipped[-1].reason == "impossible_value"
    said = Predictor.of(untrained, FRESH).predict(record)
    assert "impossible_value" in [w.code for w in said.warnings]
    assert said.checks["impossible_value"] == RAISED
    alone = usable_record(replace(record, values=record.values[:1]), FRESH)
    assert alone.states[Modality.VALUES].reason == "impossible_value"
    assert usable_record(RECORDS[1], FRESH) is RECORDS[1]


def test_one_old_modality_is_a_warning_that_names_it() -> None:
    record = RECORDS[2]
    note = replace(record.notes[0], written_at=record.cutoff - timedelta(days=9))
    policy = AbstentionPolicy(max_age_by_modality={"text": 7.0})
    (warning,) = warnings_before(replace(record, notes=(note,)), policy)
    assert warning.code == "stale_data" and "note" in warning.detail
    assert warnings_before(record, policy) == ()


def test_modalities_that_disagree_and_open_sets_are_warnings() -> None:
    apart = {"x": {"image": 0.9, "text": 0.2}}
    codes = [w.code for w in warnings_after(apart, ["x"], FRESH)]
    assert codes == ["conformal_ambiguous", "modality_conflict"]
    near = {"x": {"image": 0.9, "text": 0.5}, "y": {"image": 0.1}}
    assert warnings_after(near, [], FRESH) == ()


@pytest.mark.component("A10")
def test_a_site_may_refuse_at_a_warning(untrained: LoadedCheckpoint) -> None:
    warnings = warnings_after({}, ["x"], FRESH)
    site = AbstentionPolicy(refuse=frozenset({"conformal_ambiguous"}))
    assert promoted(warnings, site) == (warnings, ())
    assert promoted(warnings, FRESH) == ((), warnings)
    open_set = ConformalSet(positive_from=0.0, negative_below=1.0)
    sets = {"image+text+values": {"pneumonia": open_set}}
    able = calibrated(untrained, conformal=sets)
    shown = Predictor.of(able, FRESH).predict(RECORDS[3])
    assert "conformal_ambiguous" in [w.code for w in shown.warnings]
    assert shown.checks["conformal_ambiguous"] == RAISED and shown.estimates
    # The set of this pattern decides where the stated threshold does not hold.
    refused = Predictor.of(able, site).predict(RECORDS[3])
    assert [a.code for a in refused.abstentions] == ["conformal_ambiguous"]
    assert refused.estimates == ()


@pytest.mark.component("A10")
@pytest.mark.parametrize(
    ("modality", "code"),
    [("image", "ood_image"), ("text", "ood_text"), ("values", "ood_labs")],
)
def test_a_record_unlike_all_others_is_refused_by_modality(
    untrained: LoadedCheckpoint, modality: str, code: str
) -> None:
    width = untrained.config.width
    far = FeatureReference(
        mean=(100.0,) * width,
        precision=tuple(tuple(row) for row in np.eye(width).tolist()),
        limit=1.0,
    )
    able = calibrated(untrained, references={modality: far})
    said = Predictor.of(able, FRESH).predict(RECORDS[4])
    assert [a.code for a in said.abstentions] == [code]
    assert said.abstentions[0].detail == DETAILS[code]
    assert said.checks[code] == RAISED and said.estimates == ()
    with pytest.raises(InferenceError):
        Predictor.of(able, FRESH).explain(RECORDS[4])


def test_one_modality_alone_cannot_disagree(untrained: LoadedCheckpoint) -> None:
    record = RECORDS[5]
    bare = replace(record, images=(), notes=())
    said = Predictor.of(untrained, FRESH).predict(bare)
    assert said.presence == {"image": False, "text": False, "values": True}
    assert "modality_conflict" not in said.checks
    both = Predictor.of(untrained, FRESH).predict(record)
    assert both.checks["modality_conflict"] in {PASSED, RAISED}


def test_a_calibration_with_every_part_survives_its_file(
    untrained: LoadedCheckpoint, tmp_path: Path
) -> None:
    films = fit_film_reference(r.images[0] for r in RECORDS)
    sets = {"image": {"pneumonia": ConformalSet(positive_from=0.4, negative_below=0.6)}}
    whole = replace(untrained.calibration, films=films, conformal=sets)
    whole.save(tmp_path)
    read = Calibration.load(tmp_path)
    assert read.films == films and read.conformal == sets
    assert read.conformal_of((True, False, False), "pneumonia") is not None
    assert read.conformal_of((True, True, False), "pneumonia") is None
    with pytest.raises(CheckpointError, match="no calibration"):
        read.of((True, True, True), "unknown")


def test_a_predictor_says_what_it_is(untrained: LoadedCheckpoint) -> None:
    predictor = Predictor.of(untrained, FRESH)
    assert predictor.model_sha256 == predictor.identity.sha256
    assert predictor.image_size == untrained.vocabulary.image_size
    said = predictor.predict(RECORDS[6])
    lead = leading_estimate(said)
    assert all(
        lead.probability - lead.threshold >= e.probability - e.threshold
        for e in said.estimates
    )
    with pytest.raises(ConfigurationError, match="precision"):
        Predictor(untrained.folder, "cpu", precision="fp8")
