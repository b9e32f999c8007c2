"""Import of published cases: faithful, without labels, valid FHIR and DICOM."""

from __future__ import annotations

import base64
import importlib
import json
import os
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deploy.sandbox.case_resources import case_uid
from deploy.sandbox.errors import ImportFolderError
from deploy.sandbox.import_cases import CaseFilter, import_folder
from deploy.sandbox.store import Store

DAY = date(2026, 3, 9)


def case(name: str, **changes) -> dict:
    """One line of cases.jsonl with every field that must not get through."""
    return {
        "case_id": name,
        "patient_id": "pt-secret",
        "split": "test",
        "subset": "secret-subset",
        "primary": True,
        "image": f"images/{name}.jpg",
        "view": "PA",
        "note": "Raw words: the diagnosis is secretosis.",
        "note_masked": "Cough. The diagnosis is [MASK].",
        "age": 62.0,
        "sex": "female",
        "structured": {
            "crp": {
                "value": 38.5,
                "unit": "mg/L",
                "loinc": "1988-5",
                "day_offset": -2.0,
            },
            "d_dimer": {
                "value": None,
                "unit": "mg/L",
                "loinc": None,
                "day_offset": 3.0,
                "interpretation": "above detection limit",
            },
            "spo2": {"value": 89.0, "unit": "%", "loinc": "59408-5"},
        },
        "structured_from_note": {"ldh": {"value": 1.0, "unit": "U/L"}},
        "finding": "secret-finding",
        "outcome": {"survived": "secret-outcome"},
        "licence": "CC BY 4.0",
        "credit": "A\tcredit line\nsecret-credit",
        "url": "https://secret.example/case",
        "doi": None,
        "provenance": {"location": "secret-place", "date": "1987"},
        **changes,
    }


def write_folder(folder: Path, *rows: dict) -> Path:
    """A folder of cases with a small JPEG for each."""
    (folder / "images").mkdir(parents=True)
    ramp = np.tile(np.linspace(0, 255, 30, dtype=np.uint8), (20, 1))
    for row in rows:
        Image.fromarray(ramp).save(folder / "images" / f"{row['case_id']}.jpg")
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "cases.jsonl").write_text(lines, encoding="utf-8")
    return folder


def run(tmp_path: Path, *rows: dict, wanted: CaseFilter = CaseFilter()) -> Store:
    """A store after the import of these rows."""
    store = Store(tmp_path / "store")
    folder = write_folder(tmp_path / "source", *rows)
    import_folder(folder, store, wanted, DAY, quiet=True)
    return store


def validate(store: Store) -> int:
    """Check every resource with the R4B models; number of resources."""
    count = 0
    for kind in store.types():
        module = importlib.import_module(f"fhir.resources.R4B.{kind.lower()}")
        for resource in store.all(kind):
            getattr(module, kind).model_validate(resource)
            count += 1
    return count


def test_a_case_becomes_valid_resources(tmp_path: Path) -> None:
    store = run(tmp_path, case("cx-1"))
    assert store.types() == {
        "DocumentReference": 1,
        "ImagingStudy": 1,
        "Observation": 4,
        "Patient": 1,
    }
    assert validate(store) == 7


def test_nothing_that_tells_the_label_gets_into_the_chart(tmp_path: Path) -> None:
    store = run(tmp_path, case("cx-1"))
    for path in (store.folder / "resources").rglob("*.json"):
        text = path.read_text()
        for word in ("secret", "Raw words", "1987", "CC BY"):
            assert word not in text, f"{word} in {path.name}"
    assert b"secret" not in store.instances(store.studies()[0])[0].read()
    note = store.get("DocumentReference", "cx-1-note")
    data = note["content"][0]["attachment"]["data"]
    assert base64.b64decode(data) == b"Cough. The diagnosis is [MASK]."


def test_credits_stand_beside_the_resources(tmp_path: Path) -> None:
    store = run(tmp_path, case("cx-1"), case("cx-2", licence="CC0"))
    again = Store(store.folder)
    source = tmp_path / "source"
    import_folder(source, again, CaseFilter(limit=1), date(2026, 4, 1), quiet=True)
    lines = (store.folder / "CREDITS.tsv").read_text().splitlines()
    rows = [line.split("\t") for line in lines if not line.startswith("#")]
    assert [row[:4] for row in rows[1:]] == [
        ["cx-1", "2026-04-01", "CC BY 4.0", "A credit line secret-credit"],
        ["cx-2", "2026-03-09", "CC0", "A credit line secret-credit"],
    ]


def test_the_patient_has_no_invented_name_or_birth_date(tmp_path: Path) -> None:
    store = run(tmp_path, case("cx-1"), case("cx-2", age=None, sex=None))
    patient = store.get("Patient", "cx-1")
    assert patient["gender"] == "female"
    assert "name" not in patient and "birthDate" not in patient
    age = store.get("Observation", "cx-1-age")
    assert age["code"]["coding"][0]["code"] == "30525-0"
    assert age["valueQuantity"] == {
        "value": 62,
        "unit": "a",
        "system": "http://unitsofmeasure.org",
        "code": "a",
    }
    assert "gender" not in store.get("Patient", "cx-2")
    assert store.get("Observation", "cx-2-age") is None


def test_values_keep_their_code_unit_and_distance_in_days(tmp_path: Path) -> None:
    store = run(tmp_path, case("cx-1"))
    crp = store.get("Observation", "cx-1-crp")
    assert crp["code"]["coding"] == [{"system": "http://loinc.org", "code": "1988-5"}]
    assert crp["valueQuantity"]["value"] == 38.5
    dimer = store.get("Observation", "cx-1-d-dimer")
    assert dimer["code"]["coding"][0]["system"] == "urn:trivium:sandbox:value"
    # the latest item is three days after the film: it lies on the import day
    film = store.get("ImagingStudy", "cx-1-film")
    assert film["started"] == "2026-03-06T00:00:00+00:00"
    assert crp["effectiveDateTime"] == "2026-03-04T00:00:00+00:00"
    assert dimer["effectiveDateTime"] == "2026-03-09T00:00:00+00:00"
    vital = store.get("Observation", "cx-1-spo2")
    assert vital["category"][0]["coding"][0]["code"] == "vital-signs"


@pytest.mark.parametrize(
    ("said", "code"),
    [("above detection limit", ">"), ("below detection limit", "<"), (None, None)],
)
def test_a_value_off_the_scale_has_no_number(tmp_path: Path, said, code) -> None:
    off = {"value": None, "unit": "mg/L", "loinc": "1988-5", "interpretation": said}
    store = run(tmp_path, case("cx-1", structured={"crp": off}))
    crp = store.get("Observation", "cx-1-crp")
    assert "valueQuantity" not in crp
    assert crp["dataAbsentReason"]["coding"][0]["code"] == "unknown"
    codings = crp.get("interpretation", [{"coding": [{"code": None}]}])[0]["coding"]
    assert codings[0]["code"] == code
    assert validate(store) == 5


def test_a_case_without_note_has_no_document(tmp_path: Path) -> None:
    store = run(tmp_path, case("cx-1", note_masked=None), case("cx-2", note_masked=""))
    assert store.all("DocumentReference") == []


@pytest.mark.parametrize(
    ("view", "stored", "described"),
    [
        ("PA", "PA", ""),
        ("AP_SUPINE", "AP", "Chest AP supine"),
        ("LATERAL", "LATERAL", ""),
        ("unknown", "", ""),
    ],
)
def test_the_film_says_what_is_known(tmp_path: Path, view, stored, described) -> None:
    store = run(tmp_path, case("cx-1", view=view))
    film = store.instances(store.studies()[0])[0].dataset()
    assert film.ViewPosition == stored
    assert film.get("SeriesDescription", "") == described
    assert (film.PatientID, film.PatientName, film.PatientSex) == ("cx-1", "", "F")
    assert film.PatientBirthDate == "" and film.Manufacturer == ""
    assert film.LossyImageCompression == "01"
    assert film.ImageType[0] == "DERIVED"
    assert "BurnedInAnnotation" not in film
    assert film.pixel_array.shape == (20, 30)
    study = store.get("ImagingStudy", "cx-1-film")
    assert study["identifier"][0]["value"] == f"urn:oid:{film.StudyInstanceUID}"
    instance = study["series"][0]["instance"][0]
    assert instance["uid"] == film.SOPInstanceUID
    assert store.study_patient(film.StudyInstanceUID) == "cx-1"


def test_the_filter(tmp_path: Path) -> None:
    rows = [
        case("cx-1"),
        case("cx-2", split="train"),
        case("cx-3", primary=False),
        case("cx-4"),
    ]
    folder = write_folder(tmp_path / "source", *rows)

    def made(**wanted) -> list[str]:
        store = Store(tmp_path / "-".join(sorted(wanted)))
        return import_folder(folder, store, CaseFilter(**wanted), DAY, quiet=True)

    assert made(split="test") == ["cx-1", "cx-3", "cx-4"]
    assert made(primary=True, split="test") == ["cx-1", "cx-4"]
    assert made(limit=2) == ["cx-1", "cx-2"]
    assert made(ids=frozenset({"cx-4"})) == ["cx-4"]
    with pytest.raises(ImportFolderError, match="1 of the ids"):
        made(ids=frozenset({"cx-4", "cx-9"}))


def test_bad_folders_are_named(tmp_path: Path) -> None:
    def fails(folder: Path, match: str) -> None:
        with pytest.raises(ImportFolderError, match=match):
            import_folder(folder, Store(tmp_path / "s"), CaseFilter(), DAY, quiet=True)

    fails(tmp_path, "no readable cases.jsonl")
    broken = write_folder(tmp_path / "broken", case("cx-1"))
    (broken / "cases.jsonl").write_text("{\n")
    fails(broken, "line 1")
    (broken / "cases.jsonl").write_text("[1]\n")
    fails(broken, "line 1")
    (broken / "cases.jsonl").write_text('{"case_id": "x"}\n')
    fails(broken, "line 1 lacks image")
    outside = write_folder(tmp_path / "out", case("cx-1", image="../../etc/passwd"))
    fails(outside, "outside the folder")
    gone = write_folder(tmp_path / "gone", case("cx-1", image="images/none.jpg"))
    fails(gone, "unreadable")


@pytest.mark.data("trimodal")
def test_the_real_folder_imports_whole(tmp_path: Path) -> None:
    root = os.environ.get("TRIVIUM_DATA")
    if not root:
        pytest.skip("TRIVIUM_DATA is not set: import of the published cases")
    folder = Path(root) / "trimodal"
    store = Store(tmp_path)
    wanted = CaseFilter(split="test", primary=True)
    made = import_folder(folder, store, wanted, DAY, quiet=True)
    lines = (folder / "cases.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    rows = [r for r in rows if r["case_id"] in set(made)]
    assert len(made) == len(rows) == 25
    values = sum(len(r["structured"]) + (r["age"] is not None) for r in rows)
    assert store.types()["Observation"] == values
    notes = sum(bool(r["note_masked"]) for r in rows)
    assert store.types()["DocumentReference"] == notes
    assert validate(store) == 2 * len(made) + values + notes
    told = "".join(p.read_text() for p in (tmp_path / "resources").rglob("*.json"))
    for row in rows:
        assert row["url"] not in told
        assert not row["credit"] or row["credit"] not in told


def test_a_folder_with_the_required_columns_only_is_imported(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    (folder / "images").mkdir(parents=True)
    Image.fromarray(np.full((8, 8), 90, np.uint8)).save(folder / "images" / "a.png")
    row = {"case_id": "own-1", "image": "images/a.png", "structured": {"spo2": 93}}
    (folder / "cases.jsonl").write_text(json.dumps(row) + "\n\n")
    store = Store(tmp_path / "store")
    wanted = CaseFilter(primary=True)
    made = import_folder(folder, store, wanted, date(2026, 3, 1), quiet=True)
    assert made == ["own-1"]
    assert list(store.all("Observation", "own-1")) == []
    (film,) = store.instances(case_uid("own-1", "study"))
    assert film.dataset(pixels=False).get("LossyImageCompression") != "01"
    (folder / "cases.jsonl").write_text(json.dumps({**row, "case_id": "own_1"}))
    with pytest.raises(ImportFolderError, match="case_id"):
        import_folder(folder, store, wanted, date(2026, 3, 1), quiet=True)


@pytest.mark.parametrize(
    "entry",
    [
        {"value": 93},
        {"value": 93, "unit": ""},
        {"value": "high", "unit": "%", "loinc": "59408-5"},
        {"value": True, "unit": "%"},
        {"value": None, "unit": "%", "loinc": "59408-5"},
    ],
)
def test_a_value_without_number_or_unit_is_marked_absent(tmp_path: Path, entry) -> None:
    store = run(tmp_path, case("cx-1", structured={"spo2": entry}))
    found = store.get("Observation", "cx-1-spo2")
    assert "valueQuantity" not in found
    assert found["dataAbsentReason"]["coding"][0]["code"] == "unknown"
    assert validate(store) == 5


@pytest.mark.parametrize(
    "structured",
    [
        {"spo2": 93},
        {"spo2": {"value": 93, "unit": "%", "day_offset": "soon"}},
        {"spo2": {"value": 93, "unit": "%", "day_offset": 1e9}},
        {"spo2": {"value": None, "day_offset": [1]}},
        [1],
        None,
    ],
)
def test_an_entry_that_cannot_be_read_is_left_out(tmp_path: Path, structured) -> None:
    row = case("cx-1", structured=structured, age="unknown", note_masked=5, sex=[1])
    store = run(tmp_path, row)
    assert store.types() == {"ImagingStudy": 1, "Patient": 1}


def test_a_number_in_quotes_and_an_odd_name_are_imported(tmp_path: Path) -> None:
    odd = {"value": "93.5", "unit": "%", "day_offset": "-1"}
    store = run(tmp_path, case("c" * 64, structured={"oxygen (ear)": odd}, age=None))
    (found,) = store.all("Observation")
    assert found["valueQuantity"]["value"] == 93.5
    assert found["effectiveDateTime"] == "2026-03-08T00:00:00+00:00"
    assert validate(store) == 4


def test_sixteen_bit_greys_are_not_clipped_and_not_lossy(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "source", case("cx-1", image="images/deep.png"))
    ramp = np.tile(np.linspace(0, 65535, 30, dtype=np.uint16), (20, 1))
    Image.fromarray(ramp).save(folder / "images" / "deep.png")
    store = Store(tmp_path / "store")
    import_folder(folder, store, CaseFilter(), DAY, quiet=True)
    film = store.instances(store.studies()[0])[0].dataset()
    assert np.abs(film.pixel_array / 4095 - ramp / 65535).max() < 1e-3
    assert film.LossyImageCompression == "00"
    Image.fromarray(ramp.astype(np.float32)).save(folder / "images" / "deep.tiff")
    row = case("cx-1", image="images/deep.tiff")
    (folder / "cases.jsonl").write_text(json.dumps(row))
    with pytest.raises(ImportFolderError, match="floating-point"):
        import_folder(folder, store, CaseFilter(), DAY, quiet=True)
