"""Synthetic patients, Bundles and NDJSON in the store, and the command line."""

from __future__ import annotations

import gzip
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from deploy.sandbox.__main__ import main
from deploy.sandbox.app import create_app, serve
from deploy.sandbox.errors import ImportFolderError, SandboxError
from deploy.sandbox.load_folder import load_folder
from deploy.sandbox.store import Store
from deploy.sandbox.synthetic_cases import add_synthetic
from tests.sandbox.test_import_cases import case, validate, write_folder

NOW = datetime(2026, 3, 9, 12, tzinfo=UTC)


def test_synthetic_patients_are_named_flagged_and_have_holes(tmp_path: Path) -> None:
    store = Store(tmp_path)
    names = add_synthetic(store, 6, 5, NOW, image_size=32, quiet=True)
    assert names == [f"synthetic-5-{i}" for i in range(1, 7)]
    validate(store)
    held = {
        name: tuple(
            bool(store.all(kind, name))
            for kind in ("ImagingStudy", "DocumentReference", "Observation")
        )
        for name in names
    }
    assert Counter(held.values()) == {
        (True, True, True): 3,
        (False, True, True): 1,
        (True, False, True): 1,
        (True, True, False): 1,
    }
    assert len(store.studies()) == 5
    shown = set()
    for kind in store.types():
        for resource in store.all(kind):
            assert resource["meta"]["tag"][0]["code"] == "HTEST"
    for patient in store.all("Patient"):
        shown.add((patient["name"][0]["family"], patient["name"][0]["given"][0]))
    assert len(shown) == 6
    study = store.all("ImagingStudy")[0]
    assert study["endpoint"] == [{"reference": "Endpoint/sandbox-dicomweb"}]


def test_synthetic_films_are_hours_old_and_ages_stay(tmp_path: Path) -> None:
    store = Store(tmp_path)
    add_synthetic(store, 2, 5, NOW, image_size=32, quiet=True)
    (study,) = store.all("ImagingStudy", "synthetic-5-1")
    film_at = datetime.fromisoformat(study["started"])
    assert film_at == NOW - timedelta(hours=2)
    born = store.get("Patient", "synthetic-5-1")["birthDate"]
    assert 19 < NOW.year - int(born[:4]) < 92
    for value in store.all("Observation", "synthetic-5-1"):
        assert datetime.fromisoformat(value["effectiveDateTime"]) <= NOW
    assert store.study_patient(store.studies()[0]) == "synthetic-5-1"


def bundle() -> dict:
    """A transaction Bundle in Synthea's form."""
    patient = {"resourceType": "Patient", "id": "p1"}
    value = {
        "resourceType": "Observation",
        "id": "o1",
        "status": "final",
        "code": {"text": "x"},
        "subject": {"reference": "urn:uuid:p1"},
        "performer": [{"reference": "Practitioner?identifier=1"}],
        "hasMember": [{"reference": "urn:uuid:elsewhere"}],
    }
    claim = {"resourceType": "Claim", "id": "c1"}
    entries = [{"fullUrl": "urn:uuid:p1", "resource": patient}]
    entries += [{"resource": value}, {"resource": claim}, {"request": {}}]
    return {"resourceType": "Bundle", "type": "transaction", "entry": entries}


def test_bundles_are_taken_apart_and_their_references_resolved(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    with gzip.open(folder / "one.json.gz", "wt") as out:
        json.dump(bundle(), out)
    encounter = {"resourceType": "Encounter", "id": "e1"}
    (folder / "single.json").write_text(json.dumps(encounter))
    (folder / "README.md").write_text("not FHIR")
    store = Store(tmp_path / "store")
    stored, left_out = load_folder(folder, store, quiet=True)
    assert stored == {"Patient": 1, "Observation": 1, "Encounter": 1}
    assert left_out == {"Claim": 1}
    (value,) = store.all("Observation", "p1")
    assert value["subject"] == {"reference": "Patient/p1"}
    assert value["performer"][0]["reference"] == "Practitioner?identifier=1"
    assert value["hasMember"][0]["reference"] == "urn:uuid:elsewhere"


def test_ndjson_is_loaded_line_by_line(tmp_path: Path) -> None:
    lines = '{"resourceType": "Patient", "id": "a"}\n\n'
    lines += '{"resourceType": "Location", "id": "l"}\n'
    with gzip.open(tmp_path / "some.ndjson.gz", "wt") as out:
        out.write(lines)
    stored, left_out = load_folder(tmp_path, Store(tmp_path / "s"), quiet=True)
    assert (stored, left_out) == ({"Patient": 1}, {"Location": 1})


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", b"{"),
        ("a.json", b"[1]"),
        ("a.ndjson", b"{\n"),
        ("a.ndjson", b"3\n"),
        ("a.json.gz", b"not gzip"),
        ("a.txt", b""),
    ],
)
def test_files_that_are_no_fhir_are_refused(tmp_path: Path, name, content) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ImportFolderError):
        load_folder(tmp_path, Store(tmp_path / "s"), quiet=True)


@pytest.mark.data("synthea-r4")
def test_real_bundles_and_ndjson_load(tmp_path: Path) -> None:
    root = os.environ.get("TRIVIUM_DATA")
    if not root:
        pytest.skip("TRIVIUM_DATA is not set: Synthea Bundles and MIMIC NDJSON")
    source = tmp_path / "in"
    source.mkdir()
    smallest = min(
        (Path(root).resolve() / "synthea-r4").glob("*.gz"),
        key=lambda p: p.stat().st_size,
    )
    (source / smallest.name).symlink_to(smallest)
    patients = Path(root).resolve() / "mimic-iv-fhir-demo" / "MimicPatient.ndjson.gz"
    (source / patients.name).symlink_to(patients)
    store = Store(tmp_path / "s")
    stored, left_out = load_folder(source, store, quiet=True)
    assert stored["Patient"] == 101
    assert left_out["Claim"] > 0
    synthea = [p for p in store.all("Patient") if store.all("Observation", p["id"])]
    assert len(synthea) == 1


def test_commands(tmp_path: Path, capsys) -> None:
    store = str(tmp_path / "store")
    source = write_folder(tmp_path / "in", case("cx-1"), case("cx-2"))
    ids = tmp_path / "ids.txt"
    ids.write_text("cx-2\n")
    importing = ["import", str(source), "--store", store, "--day", "2026-03-09"]
    assert main([*importing, "--ids", str(ids)]) == 0
    assert [p["id"] for p in Store(store).all("Patient")] == ["cx-2"]
    assert main(["synthetic", "--store", store, "--n", "1", "--image-size", "32"]) == 0
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "b.json").write_text(json.dumps(bundle()))
    assert main(["load", str(tmp_path / "b"), "--store", store]) == 0
    assert len(Store(store).all("Patient")) == 3
    out = capsys.readouterr().out
    assert "1 patients imported" in out and "left out: Claim 1" in out


def test_a_command_that_cannot_work_says_so(tmp_path: Path, capsys) -> None:
    store = str(tmp_path / "store")
    assert main(["import", str(tmp_path), "--store", store]) == 1
    missing = ["--ids", str(tmp_path / "none")]
    assert main(["import", str(tmp_path), "--store", store, *missing]) == 1
    foreign = ["--service", "https://cds.example.org"]
    assert main(["serve", "--store", store, *foreign]) == 1
    assert main(["serve", "--store", store, "--host", "0.0.0.0"]) == 1
    told = capsys.readouterr().err
    assert "no readable cases.jsonl" in told and "loopback" in told


def test_only_loopback(tmp_path: Path) -> None:
    with pytest.raises(SandboxError):
        create_app(tmp_path, "http://192.0.2.1:8100", "http://127.0.0.1:8000")
    app = create_app(tmp_path, "http://127.0.0.1:8100", "http://127.0.0.1:8000")
    with pytest.raises(SandboxError):
        serve(app, "0.0.0.0", 8100)
    with pytest.raises(SystemExit):
        main(["--help"])


def test_the_server_starts_from_the_command_line_and_stops(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "deploy.sandbox", "serve"]
    command += ["--store", str(tmp_path / "store"), "--port", str(port)]
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout is not None
            assert f"http://127.0.0.1:{port}/".encode() in server.stdout.readline()
            assert wait_for(f"http://127.0.0.1:{port}/jwks.json").status_code == 200
        finally:
            server.send_signal(signal.SIGTERM)
            assert server.wait(timeout=20) == 0


def wait_for(url: str) -> httpx.Response:
    """The answer of a server that is about to listen; gives up after 20 seconds."""
    end = time.monotonic() + 20
    while True:
        try:
            return httpx.get(url, trust_env=False)
        except httpx.ConnectError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)
