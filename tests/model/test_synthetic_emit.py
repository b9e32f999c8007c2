"""Emitted FHIR and DICOM: valid, and read back as the very same evidence."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal

import numpy as np
import pydicom
import pytest
from fhir.resources.R4B import get_fhir_model_class

from fhir_adapters.assemble import assemble
from fhir_adapters.code_systems import MEASUREMENTS
from fhir_adapters.dicom.image import load_image
from fhir_adapters.dicom.instance import ExpectedInstance
from fhir_adapters.patient_record import Modality, ModalityStatus, PatientRecord
from fhir_adapters.received import ImageOutcome, Received
from model.synthetic.case import SynthCase
from model.synthetic.dx_writer import FilmFacts, dx_instance
from model.synthetic.emit import EmittedCase, to_fhir, to_record
from model.synthetic.generate import Knobs, generate

UIDS = {"study_uid": "2.25.11", "series_uid": "2.25.12", "sop_uid": "2.25.13"}
STEP = 1 / 4095


@pytest.fixture(scope="module")
def cases() -> list[SynthCase]:
    return list(generate(6, 21, image_size=64))


@pytest.fixture(scope="module")
def emitted(cases: list[SynthCase]) -> list[EmittedCase]:
    return [to_fhir(case) for case in cases]


def read_back(case: SynthCase, emitted: EmittedCase) -> PatientRecord:
    """The case through JSON, DICOM and the adapters."""
    direct = to_record(case).images[0]
    expected = ExpectedInstance(
        study_uid=direct.study_uid,
        series_uid=direct.series_uid,
        sop_uid=direct.sop_uid,
        patient_ids=frozenset({case.case_id}),
    )
    reference = direct.provenance.reference
    image = load_image(
        emitted.instances[0], expected=expected, reference=reference, origin="dicomweb"
    )
    resources = [
        json.loads(json.dumps(r), parse_float=Decimal) for r in emitted.resources
    ]
    patient = next(r for r in resources if r["resourceType"] == "Patient")
    return assemble(
        patient,
        [Received(r, "fhir") for r in resources if r is not patient],
        [ImageOutcome(reference, image)],
        cutoff=case.cutoff,
    )


def test_resources_are_valid_r4(emitted: list[EmittedCase]) -> None:
    for one in emitted:
        for resource in one.resources:
            model = get_fhir_model_class(resource["resourceType"])
            model.model_validate(resource)


def test_the_validation_can_fail(emitted: list[EmittedCase]) -> None:
    broken = {**emitted[0].resources[0], "gender": 5}
    with pytest.raises(ValueError):
        get_fhir_model_class("Patient").model_validate(broken)


def test_one_resource_of_each_kind_and_an_observation_per_value(
    cases: list[SynthCase], emitted: list[EmittedCase]
) -> None:
    for case, one in zip(cases, emitted):
        kinds = [r["resourceType"] for r in one.resources]
        assert kinds.count("Observation") == len(case.values)
        for kind in (
            "Patient",
            "Encounter",
            "DocumentReference",
            "ImagingStudy",
            "Endpoint",
        ):
            assert kinds.count(kind) == 1
        ids = [(r["resourceType"], r["id"]) for r in one.resources]
        assert len(set(ids)) == len(ids)
        assert all(len(r["id"]) <= 64 for r in one.resources)


def test_the_note_is_the_attachment(
    cases: list[SynthCase], emitted: list[EmittedCase]
) -> None:
    for case, one in zip(cases, emitted):
        document = next(
            r for r in one.resources if r["resourceType"] == "DocumentReference"
        )
        attachment = document["content"][0]["attachment"]
        assert base64.b64decode(attachment["data"]).decode() == case.note.text
        assert attachment["size"] == len(case.note.text.encode())


def test_adapters_read_back_the_very_same_evidence(
    cases: list[SynthCase], emitted: list[EmittedCase]
) -> None:
    for case, one in zip(cases, emitted):
        direct, received = to_record(case), read_back(case, one)
        assert received.presence() == dict.fromkeys(Modality, True)
        assert set(received.references()) == set(direct.references())
        assert {s.reason for s in received.skipped} <= {"unused_type"}
        assert received.notes[0].text == direct.notes[0].text
        assert received.notes[0].sections == direct.notes[0].sections
        assert received.notes[0].kind == direct.notes[0].kind
        assert received.notes[0].written_at == direct.notes[0].written_at
        image, film = received.images[0], direct.images[0]
        assert np.abs(image.pixels - film.pixels).max() <= 0.51 * STEP
        assert image.flags == () and image.view == "PA"
        assert image.acquired_at == film.acquired_at
        by_code = {v.loinc: v for v in direct.values}
        assert len(received.values) == len(by_code)
        for value in received.values:
            twin = by_code[value.loinc]
            assert (value.value, value.unit) == (twin.value, twin.unit)
            assert value.measured_at == twin.measured_at
            assert value.interpretation == twin.interpretation
            assert value.reference_low == twin.reference_low
            assert value.reference_high == twin.reference_high
            assert value.flags == ()
        assert received.patient.sex == direct.patient.sex
        assert received.patient.birth_date == direct.patient.birth_date


def test_record_lists_values_newest_first_with_known_codes(
    cases: list[SynthCase],
) -> None:
    for case in cases:
        record = to_record(case)
        times = [v.measured_at for v in record.values]
        assert times == sorted(times, reverse=True)
        assert {v.loinc for v in record.values} <= set(MEASUREMENTS)
        assert record.cutoff > max(times)
        assert record.patient.age_years(record.cutoff) == pytest.approx(
            case.age_years + 0.5, abs=0.51
        )


def test_record_without_values_says_so() -> None:
    case = next(generate(1, 2, image_size=32, knobs=Knobs(absence=1.0)))
    state = to_record(case).states[Modality.VALUES]
    assert state.status is ModalityStatus.ABSENT and state.reason == "no_values"
    visit = to_fhir(case).resources[1]
    assert visit["period"]["start"] == case.film_at.isoformat()


def test_evidence_digest_is_that_of_the_case(cases: list[SynthCase]) -> None:
    first, again, other = cases[0], next(generate(1, 21, image_size=64)), cases[1]
    digest = to_record(first).evidence_sha256()
    assert digest == to_record(again).evidence_sha256()
    assert digest != to_record(other).evidence_sha256()


def test_patient_id_and_address_can_be_given(cases: list[SynthCase]) -> None:
    one = to_fhir(
        cases[0], dicomweb_address="https://pacs.example/wado", patient_id="pat-7"
    )
    for resource in one.resources:
        if resource["resourceType"] == "Patient":
            assert resource["id"] == resource["identifier"][0]["value"] == "pat-7"
        elif resource["resourceType"] == "Endpoint":
            assert resource["address"] == "https://pacs.example/wado"
        else:
            assert resource["subject"]["reference"] == "Patient/pat-7"
    assert read_film(one.instances[0]).PatientID == "pat-7"


def read_film(data: bytes) -> pydicom.Dataset:
    return pydicom.dcmread(io.BytesIO(data))


def test_film_is_a_dx_for_presentation_without_a_name(
    cases: list[SynthCase], emitted: list[EmittedCase]
) -> None:
    film = read_film(emitted[0].instances[0])
    assert film.SOPClassUID.name.startswith("Digital X-Ray Image Storage - For Pres")
    assert film.file_meta.TransferSyntaxUID.is_little_endian
    assert not film.file_meta.TransferSyntaxUID.is_implicit_VR
    assert str(film.PatientName) == ""
    assert (film.BitsAllocated, film.BitsStored, film.HighBit) == (16, 12, 11)
    assert film.PhotometricInterpretation == "MONOCHROME2"
    assert film.BurnedInAnnotation == "NO" and film.ViewPosition == "PA"
    pixels = film.pixel_array / 4095
    assert np.abs(pixels - cases[0].image).max() <= 0.51 * STEP


def test_study_resource_and_film_share_their_uids(emitted: list[EmittedCase]) -> None:
    for one in emitted:
        film = read_film(one.instances[0])
        study = next(r for r in one.resources if r["resourceType"] == "ImagingStudy")
        series = study["series"][0]
        assert study["identifier"][0]["value"] == f"urn:oid:{film.StudyInstanceUID}"
        assert series["uid"] == film.SeriesInstanceUID
        assert series["instance"][0]["uid"] == film.SOPInstanceUID
        assert film.StudyInstanceUID.startswith("2.25.")


def ramp() -> np.ndarray:
    return np.linspace(0, 1, 64 * 48, dtype=np.float32).reshape(48, 64)


def test_what_is_not_known_is_empty_or_left_out() -> None:
    facts = FilmFacts(derived=True, lossy=True, description="Chest AP supine")
    film = read_film(
        dx_instance(ramp(), patient_id="p1", view=None, facts=facts, **UIDS)
    )
    assert film.PatientSex == "" and film.PatientBirthDate == ""
    assert film.StudyDate == "" and film.StudyTime == ""
    assert film.ViewPosition == "" and "ViewCodeSequence" not in film
    for keyword in (
        "PatientOrientation",
        "BurnedInAnnotation",
        "ImagerPixelSpacing",
        "IssuerOfPatientID",
        "PixelIntensityRelationship",
        "TimezoneOffsetFromUTC",
    ):
        assert keyword not in film
    assert film.ImageType[:2] == ["DERIVED", "SECONDARY"]
    assert film.LossyImageCompression == "01"
    assert film.SeriesDescription == "Chest AP supine"


def test_what_is_known_is_written() -> None:
    facts = FilmFacts(
        acquired_at=datetime(2024, 2, 3, 4, 5, 6),
        sex="other",
        birth_date=date(1950, 6, 7),
        burned_in_annotation=True,
        pixel_spacing_mm=(0.2, 0.2),
    )
    film = read_film(
        dx_instance(ramp(), patient_id="p1", view="AP", facts=facts, **UIDS)
    )
    assert (film.StudyDate, film.StudyTime) == ("20240203", "040506")
    assert (film.PatientSex, film.PatientBirthDate) == ("O", "19500607")
    assert film.BurnedInAnnotation == "YES"
    assert film.ImagerPixelSpacing == [0.2, 0.2]
    assert film.ViewCodeSequence[0].CodeMeaning == "antero-posterior"
    assert "TimezoneOffsetFromUTC" not in film


def bad_images() -> Iterator[np.ndarray]:
    yield np.zeros((2, 3, 4))
    yield np.zeros((0, 4))
    yield np.full((4, 4), 1.5)
    yield np.full((4, 4), -0.1)
    yield np.full((4, 4), np.nan)


@pytest.mark.parametrize("pixels", [*bad_images()])
def test_pixels_that_are_no_grey_image_are_refused(pixels: np.ndarray) -> None:
    with pytest.raises(ValueError, match="film has two|within 0 and 1"):
        dx_instance(pixels, patient_id="p1", view="PA", **UIDS)


def test_malformed_uid_is_refused() -> None:
    uids = {**UIDS, "series_uid": "1.2.x"}
    with pytest.raises(ValueError, match="malformed UID"):
        dx_instance(ramp(), patient_id="p1", view="PA", **uids)
