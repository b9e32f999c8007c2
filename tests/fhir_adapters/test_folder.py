"""The folder command: every Observation is used or skipped, and the table says so."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest

import fhir_adapters
from fhir_adapters.__main__ import main
from fhir_adapters.errors import ResourceTooLargeError
from fhir_adapters.folder import read_folder
from tests.fhir_adapters.fhir_samples import (
    attachment,
    bundle,
    document,
    endpoint,
    observation,
    patient,
)
from tests.services import data_folder

TABLES = Path(fhir_adapters.__file__).parent


def plain(resource):
    return json.loads(json.dumps(resource, default=float))


def transaction(*resources):
    made = bundle(*(plain(resource) for resource in resources))
    for entry in made["entry"]:
        entry["fullUrl"] = f"urn:uuid:{entry['resource']['id']}"
        if "subject" in entry["resource"]:
            entry["resource"]["subject"]["reference"] = "urn:uuid:p1"
    return made


def test_a_transaction_bundle_becomes_a_record(tmp_path, capsys):
    made = transaction(
        patient(),
        observation(),
        observation("4548-4", id="x"),
        document(content=[{"attachment": attachment("A note.")}]),
        endpoint(),
    )
    (tmp_path / "one.json.gz").write_bytes(gzip.compress(json.dumps(made).encode()))
    assert main([str(tmp_path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == {
        "patients": 1,
        "observations": 2,
        "used": 1,
        "skipped": {"unmapped_code": 1},
        "records": [
            {"patient": "p1", "image": "absent", "text": "present", "values": "present"}
        ],
    }


def test_ndjson_files_are_grouped_by_patient(tmp_path, capsys):
    lines = [observation(), observation(id="b", subject={"reference": "Patient/p2"})]
    stray = observation(id="c", subject={"reference": "Patient/p9"})
    undated = observation(id="d", effectiveDateTime=None)
    text = "\n".join(json.dumps(plain(r)) for r in (*lines, stray, undated)) + "\n\n"
    (tmp_path / "Observation.ndjson").write_text(text)
    people = "\n".join(json.dumps(p) for p in (patient(), patient(id="p2")))
    (tmp_path / "Patient.ndjson.gz").write_bytes(gzip.compress(people.encode()))
    (tmp_path / "notes.txt").write_text("not FHIR")
    assert main([str(tmp_path), "--report"]) == 0
    rows = [line.rsplit(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    table = {name: value for name, value in rows}
    assert (table["patients"], table["observations"], table["used"]) == ("2", "4", "2")
    assert table["skipped: no_patient_resource"] == "1"
    assert table["skipped: no_timestamp"] == "1"
    assert table["used of mapped codes"] == "50.0%"


def test_a_folder_without_observations_has_a_report(tmp_path, capsys):
    (tmp_path / "p.json").write_text(json.dumps(patient()))
    assert main([str(tmp_path)]) == 0
    assert "0.0%" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.txt", b"{}"),
        ("x.json", b"{"),
        ("x.json.gz", b"no gzip"),
        ("x.json.gz", gzip.compress(b"{}" * 99)[:-12]),
    ],
)
def test_a_folder_that_cannot_be_read_ends_with_2(tmp_path, capsys, name, content):
    (tmp_path / name).write_bytes(content)
    assert main([str(tmp_path)]) == 2
    assert "cannot read" in capsys.readouterr().err


def test_a_bomb_stops_at_the_cap(tmp_path):
    (tmp_path / "x.json.gz").write_bytes(gzip.compress(b" " * 100_000))
    with pytest.raises(ResourceTooLargeError):
        read_folder(tmp_path, progress=False, max_file_bytes=1000)


# An Observation may be skipped for these reasons and no other in the two folders; each
# says something about the Observation that the independent reading below can see.
SEEN_BY_EYE = {"data_absent", "duplicate", "implausible_value", "unmapped_code"}


@pytest.mark.parametrize("name", ["synthea-r4", "mimic-iv-fhir-demo"])
def test_real_folders_agree_with_an_independent_reading_of_the_files(capsys, name):
    """Counts from the raw files with nothing of the adapters but the two tables."""
    folder = data_folder(name)
    table = {
        line.split("|")[0]
        for line in (TABLES / "loinc_ucum.csv").read_text().splitlines()
    }
    local = {
        tuple(line.split("|")[:2])
        for line in (TABLES / "site_codes.csv").read_text().splitlines()
    }
    counted = Counter(count_by_eye(folder, table, local))
    assert main([str(folder), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    skipped = found["skipped"]
    assert found["observations"] == sum(counted.values())
    assert found["used"] + sum(skipped.values()) == found["observations"]
    assert found["used"] > 0 and skipped.keys() <= SEEN_BY_EYE
    assert skipped["unmapped_code"] == counted["unmapped"]
    assert skipped.get("data_absent", 0) == counted["absent"]
    # What has a known code and a value is used, or is out of range, or stands twice.
    rest = found["used"] + skipped["duplicate"] + skipped.get("implausible_value", 0)
    assert rest == counted["valued"]
    assert found["used"] >= 0.9 * (found["observations"] - counted["unmapped"])
    assert len(found["records"]) == found["patients"] == counted_patients(folder)


def count_by_eye(folder, table, local):
    """``unmapped``, ``absent`` or ``valued`` for each Observation of the files."""
    for resource in raw_resources(folder):
        if resource["resourceType"] != "Observation":
            continue
        nodes = [resource, *resource.get("component", [])]
        known = [node for node in nodes if mapped(node, table, local)]
        if not known:
            yield "unmapped"
        elif any("valueQuantity" in node for node in nodes):
            yield "valued"
        else:
            yield "absent"


def mapped(node, table, local):
    return any(
        (coding["system"] == "http://loinc.org" and coding["code"] in table)
        or (coding["system"], coding["code"]) in local
        for coding in node["code"].get("coding", [])
    )


def raw_resources(folder):
    for path in sorted(folder.glob("*.gz")):
        with gzip.open(path, "rt") as stream:
            if path.name.endswith(".ndjson.gz"):
                yield from map(json.loads, stream)
            else:
                yield from (entry["resource"] for entry in json.load(stream)["entry"])


def counted_patients(folder):
    return sum(r["resourceType"] == "Patient" for r in raw_resources(folder))
