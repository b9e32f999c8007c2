"""ImagingStudy: UIDs, endpoints, and which series may be a chest radiograph."""

from __future__ import annotations

import pytest

from fhir_adapters.errors import ValueRejectedError
from fhir_adapters.policy import AdapterPolicy
from fhir_adapters.resources.imaging_study import (
    dicom_uid,
    endpoint_references,
    radiograph_series,
    read_imaging_study,
)
from tests.fhir_adapters.fhir_samples import (
    SERIES_UID,
    SOP_UID,
    STUDY_UID,
    concept,
    endpoint,
    imaging_study,
    series,
)

TOKEN = (
    "http://fhir.org/argonaut/smart-imaging/StructureDefinition/requires-access-token"
)


def read(resource, *endpoints):
    known = {f"Endpoint/{item['id']}": item for item in endpoints}
    return read_imaging_study(resource, known, AdapterPolicy())


def reason(resource):
    with pytest.raises(ValueRejectedError) as raised:
        read(resource)
    return raised.value.reason


def test_a_study_is_read_with_its_uids_and_endpoint():
    study = read(imaging_study(), endpoint())
    assert (study.reference, study.study_uid) == ("ImagingStudy/s1", STUDY_UID)
    (only,) = study.series
    assert (only.series_uid, only.instances) == (SERIES_UID, (SOP_UID,))
    assert only.chest is True
    assert only.endpoint.address == "https://pacs.example/dicomweb"
    assert not only.endpoint.requires_access_token


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"status": None}, "missing_status"),
        ({"status": "entered-in-error"}, "entered_in_error"),
        ({"status": "cancelled"}, "not_available"),
        ({"status": "registered"}, "not_available"),
        ({"identifier": None}, "no_study_uid"),
        ({"identifier": [{"system": "urn:dicom:uid", "value": "1.2"}]}, "no_study_uid"),
        (
            {"identifier": [{"system": "urn:dicom:uid", "value": "urn:oid:../x"}]},
            "no_study_uid",
        ),
        ({"modifierExtension": [{"url": "x"}]}, "modifier_extension"),
    ],
)
def test_studies_that_cannot_be_used(more, expected):
    assert reason(imaging_study(**more)) == expected


def test_the_older_identifier_system_is_understood():
    uid = [{"system": "urn:ietf:rfc:3986", "value": "urn:oid:1.2.3"}]
    assert read(imaging_study(identifier=uid)).study_uid == "1.2.3"


@pytest.mark.parametrize("uid", ["", "1.2/../3", "1.2%2f", "1" * 65, "urn:oid:", "a.b"])
def test_a_uid_that_could_change_a_url_is_none(uid):
    assert dicom_uid(uid) == ""


def test_a_contained_endpoint_and_a_series_endpoint_win():
    contained = endpoint("https://a.example/dw", id="in")
    study = read(
        imaging_study(
            contained=[contained],
            endpoint=[{"reference": "#in"}],
            series=[series(), series(endpoint=[{"reference": "Endpoint/own"}])],
        ),
        endpoint("https://b.example/dw", id="own"),
    )
    addresses = [item.endpoint.address for item in study.series]
    assert addresses == ["https://a.example/dw", "https://b.example/dw"]


@pytest.mark.parametrize(
    "more",
    [
        {"status": "off"},
        {"connectionType": {"code": "dicom-qido-rs"}},
        {"address": ""},
        {"connectionType": ["dicom-wado-rs"]},
    ],
)
def test_an_endpoint_that_serves_no_pixels_is_not_used(more):
    study = read(imaging_study(), {**endpoint(), **more})
    assert study.series[0].endpoint is None


@pytest.mark.parametrize(("value", "expected"), [(True, True), ("true", False)])
def test_the_token_is_wanted_only_when_it_says_true(value, expected):
    extension = [{"url": TOKEN, "valueBoolean": value}]
    study = read(imaging_study(), endpoint(extension=extension))
    assert study.series[0].endpoint.requires_access_token is expected


@pytest.mark.parametrize(
    ("item", "usable"),
    [
        (series(), True),
        (series(modality={"code": "CT"}), False),
        (series(modality={"code": "cr"}), True),
        (series(bodySite={"code": "8205005", "display": "Wrist"}), False),
        (series(bodySite={"display": "Chest, PA"}), True),
        (series(bodySite=None), True),
        (series(bodySite=None, description="CXR portable"), True),
        (series(uid="x"), False),
    ],
)
def test_which_series_may_be_a_chest_radiograph(item, usable):
    study = read(imaging_study(series=[item]))
    assert bool(radiograph_series(study)) is usable


def test_a_series_that_says_chest_comes_before_a_silent_one():
    silent = series(uid="1.2.3", bodySite=None)
    study = read(imaging_study(series=[silent, series()]))
    assert [item.series_uid for item in radiograph_series(study)] == [
        SERIES_UID,
        "1.2.3",
    ]


def test_a_study_speaks_for_its_silent_series():
    silent = [series(bodySite=None)]
    said = [
        {"description": "Chest two views"},
        {"procedureCode": [concept(("http://loinc.org", "36643-5"))]},
        {"procedureCode": [{"text": "XR thorax"}]},
    ]
    for more in said:
        assert read(imaging_study(series=silent, **more)).series[0].chest is True


def test_a_study_without_series_is_judged_by_its_modalities():
    study = read(imaging_study(series=None, modality=[{"code": "DX"}]), endpoint())
    assert study.may_be_chest_radiograph()
    assert study.endpoint is not None
    assert not read(
        imaging_study(series=None, modality=[{"code": "MR"}])
    ).may_be_chest_radiograph()


def test_a_start_nobody_can_place_falls_back_to_the_series():
    made = imaging_study(
        started="2026-03", series=[series(started="2026-02-01T00:00:00Z")]
    )
    assert read(made).started.month == 2
    assert read(imaging_study(started=None)).started is None


def test_endpoints_to_read_are_named_once_and_only_endpoints():
    made = imaging_study(
        endpoint=[{"reference": "#in"}, {"reference": "Patient/p1"}],
        series=[series(endpoint=[{"reference": "https://x.example/fhir/Endpoint/e9"}])],
    )
    assert endpoint_references(made) == {"Endpoint/e9"}
