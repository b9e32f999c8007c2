"""What the chart computes from resources: table, ages, notes, pixels."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from io import BytesIO

import numpy as np
import pydicom
import pytest
from PIL import Image

from deploy.sandbox.chart_view import NOT_RECORDED, notes_of, summarise, table_of
from deploy.sandbox.errors import RequestError
from deploy.sandbox.film_png import film_png
from deploy.sandbox.observation_table import observation_table
from tests.sandbox.conftest import SERIES, SOP, STUDY, gradient_film, observation


def row_of(*observations):
    """The only row of a table."""
    ((_, rows),) = observation_table(observations).items()
    (row,) = rows
    return row


def test_newest_first_with_earlier_and_trend() -> None:
    found = [
        observation(f"o{day}", "a", "1", float(day), f"2026-03-0{day}")
        for day in (2, 1, 3)
    ]
    row = row_of(*found)
    assert row.latest.text == "3"
    assert [r.text for r in row.earlier] == ["2", "1"]
    assert row.spark.split()[0] == "2.0,16.0" and row.spark.split()[-1] == "70.0,2.0"


def test_a_constant_trend_is_flat_and_two_values_are_no_trend() -> None:
    same = [observation(f"o{i}", "a", "1", 5.0, f"2026-03-0{i}") for i in (1, 2, 3)]
    assert {point.split(",")[1] for point in row_of(*same).spark.split()} == {"16.0"}
    assert row_of(*same[:2]).spark == ""


def test_what_was_entered_in_error_is_not_shown() -> None:
    wrong = observation("o", "a", "1", 1.0, "2026", status="entered-in-error")
    assert observation_table([wrong]) == {}


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"valueQuantity": {"value": 7, "comparator": "<"}}, "<7"),
        ({"valueQuantity": None, "valueString": "positive"}, "positive"),
        (
            {"valueQuantity": None, "valueCodeableConcept": {"text": "mild"}},
            "mild",
        ),
        ({"valueQuantity": None, "valueDateTime": "2026-01-01"}, "2026-01-01"),
        (
            {"valueQuantity": None, "dataAbsentReason": {"text": "haemolysed"}},
            "no number: haemolysed",
        ),
        ({"valueQuantity": None}, "no value"),
        (
            {
                "valueQuantity": None,
                "component": [
                    {"valueQuantity": {"value": 120, "unit": "mmHg"}},
                    {"valueQuantity": {"value": 80, "unit": "mmHg"}},
                ],
            },
            "120 / 80",
        ),
    ],
)
def test_values_of_every_kind(changes, text) -> None:
    row = row_of({**observation("o", "a", "1", 1.0, "2026"), **changes})
    assert row.latest.text == text
    assert row.latest.number is None


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        ({"low": {"value": 1.5}, "high": {"value": 4}}, "1.5 – 4"),
        ({"high": {"value": 4}}, "≤ 4"),
        ({"low": {"value": 4}}, "≥ 4"),
        ({"text": "see report"}, ""),
    ],
)
def test_reference_ranges(limits, text) -> None:
    seen = observation("o", "a", "1", 1.0, "2026", referenceRange=[limits])
    assert row_of(seen).limits == text


def test_flags_units_and_sections() -> None:
    high = observation("o", "a", "1", 1.0, "2026")
    high["interpretation"] = [{"coding": [{"code": "H"}]}]
    high["valueQuantity"] = {"value": 1, "code": "10*3/uL"}
    high["category"] = [{"coding": [{"code": "vital-signs"}]}]
    row = row_of(high)
    assert (row.latest.flag, row.latest.flag_text) == ("H", "high")
    assert row.unit == "10³/µL"
    other = {**observation("p", "a", "2", 1.0, "2026"), "category": []}
    other["code"] = {"coding": [{"code": "2"}]}
    assert list(observation_table([other, high])) == ["Vital signs", "Other"]


@pytest.mark.parametrize(
    ("changes", "age"),
    [
        ({"birthDate": "1990-01-01"}, datetime.now(UTC).year - 1990),
        ({"birthDate": "2999-01-01"}, None),
        ({"birthDate": "1990"}, None),
        ({}, None),
    ],
)
def test_the_age_is_computed_or_not_recorded(ehr, changes, age) -> None:
    patient = ehr.store.put({"resourceType": "Patient", "id": "z", **changes})
    assert summarise(ehr, patient).age == (f"{age} y" if age else NOT_RECORDED)


def test_a_recorded_age_is_shown_in_the_banner_and_not_as_a_result(ehr) -> None:
    ehr.store.put(observation("age", "c", "30525-0", 61, "2026-03-01"))
    patient = ehr.store.put(
        {
            "resourceType": "Patient",
            "id": "c",
            "name": [{"text": "Zofia Moorwen"}],
            "meta": {"tag": [{"code": "published-case"}]},
        }
    )
    summary = summarise(ehr, patient)
    assert (summary.age, summary.values) == ("61 y", 0)
    assert (summary.name, summary.source) == ("Zofia Moorwen", "Published case")
    assert table_of(ehr, "c") == {}


def test_notes_and_reports_that_have_text(ehr) -> None:
    data = base64.b64encode(b"Consolidation right.").decode()
    forms = [
        {"contentType": "text/plain", "data": data},
        {"contentType": "text/plain", "data": "!!"},
        {"contentType": "application/pdf", "data": data},
    ]
    report = {
        "resourceType": "DiagnosticReport",
        "id": "r",
        "code": {"text": "Chest film"},
        "subject": {"reference": "Patient/a"},
        "effectiveDateTime": "2026-03-03",
        "presentedForm": forms,
        "conclusion": "Pneumonia possible.",
    }
    ehr.store.put(report)
    ehr.store.put({**report, "id": "r2", "presentedForm": [], "conclusion": ""})
    first, second = notes_of(ehr, "a")
    assert first.title == "Chest film"
    assert first.text == "Consolidation right.\n\nPneumonia possible."
    assert second.title == "Admission note"


def png(path) -> np.ndarray:
    """Pixels of the rendered film."""
    return np.asarray(Image.open(BytesIO(film_png(path, 100))))


def test_monochrome1_is_shown_inverted(ehr, tmp_path) -> None:
    film = pydicom.dcmread(BytesIO(gradient_film("a", STUDY, SERIES, SOP)))
    film.PhotometricInterpretation = "MONOCHROME1"
    film.save_as(tmp_path / "inverted.dcm")
    plain = png(ehr.store.instances(STUDY)[0].path)
    assert (png(tmp_path / "inverted.dcm") == 255 - plain).all()


def test_colour_frames_and_blank_films_are_shown(tmp_path) -> None:
    film = pydicom.dcmread(BytesIO(gradient_film("a", STUDY, SERIES, SOP)))
    film.NumberOfFrames = 2
    film.PixelData = film.PixelData * 2
    film.save_as(tmp_path / "frames.dcm")
    assert png(tmp_path / "frames.dcm").shape == (32, 40)
    del film.NumberOfFrames
    film.PixelData = bytes(32 * 40 * 2)
    film.save_as(tmp_path / "blank.dcm")
    assert png(tmp_path / "blank.dcm").max() == 0


def test_a_film_without_pixels_is_refused(tmp_path) -> None:
    film = pydicom.dcmread(BytesIO(gradient_film("a", STUDY, SERIES, SOP)))
    del film.PixelData
    film.save_as(tmp_path / "empty.dcm")
    with pytest.raises(RequestError) as refused:
        film_png(tmp_path / "empty.dcm", 100)
    assert refused.value.status == 422
