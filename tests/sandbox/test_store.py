"""The store: what it accepts, where it puts it, what survives a restart."""

from __future__ import annotations

import json
import os
import stat
from decimal import Decimal
from pathlib import Path

import pytest

from deploy.sandbox.access_tokens import TokenSeal
from deploy.sandbox.ehr import open_ehr
from deploy.sandbox.errors import RequestError, StoreError
from deploy.sandbox.keys import load_keys
from deploy.sandbox.store import Store, patient_of
from tests.sandbox.conftest import (
    SERIES,
    SOP,
    STUDY,
    fill,
    gradient_film,
    imaging_study,
    observation,
)


def test_what_is_put_is_on_disk_and_survives_a_restart(tmp_path: Path) -> None:
    store = Store(tmp_path)
    fill(store)
    path = tmp_path / "resources" / "Observation" / "wbc.json"
    assert json.loads(path.read_text())["valueQuantity"]["value"] == 14.0
    assert (tmp_path / "dicom" / STUDY / SERIES / f"{SOP}.dcm").is_file()
    again = Store(tmp_path)
    assert again.types() == store.types()
    assert again.studies() == ["2.25.11", "2.25.21"]
    assert again.instances(STUDY)[0].read() == store.instances(STUDY)[0].read()


def test_versions_count_up_also_over_a_restart(tmp_path: Path) -> None:
    Store(tmp_path).put({"resourceType": "Patient", "id": "a"})
    stored = Store(tmp_path).put({"resourceType": "Patient", "id": "a", "active": True})
    assert stored["meta"]["versionId"] == "2"
    assert stored["meta"]["lastUpdated"].startswith("20")


def test_a_resource_that_changes_patient_leaves_the_old_one(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.put(observation("o", "a", "1", 1.0, "2026"))
    store.put(observation("o", "b", "1", 1.0, "2026"))
    assert store.all("Observation", "a") == []
    assert [r["id"] for r in store.all("Observation", "b")] == ["o"]


def test_decimals_are_stored_and_the_callers_resource_is_left_alone(tmp_path) -> None:
    store = Store(tmp_path)
    mine = observation("o", "a", "1", Decimal("1.25"), "2026")
    stored = store.put(mine)
    assert stored["valueQuantity"]["value"] == 1.25
    assert "meta" not in mine
    mine["valueQuantity"]["value"] = 9
    assert store.get("Observation", "o")["valueQuantity"]["value"] == 1.25


@pytest.mark.parametrize(
    "bad",
    [
        {},
        {"resourceType": "Patient"},
        {"resourceType": "patient", "id": "a"},
        {"resourceType": "../etc", "id": "a"},
        {"resourceType": "Patient", "id": "../../a"},
        {"resourceType": "Patient", "id": "a_b"},
        {"resourceType": "Patient", "id": "a" * 65},
        {"resourceType": "Patient", "id": 7},
    ],
)
def test_malformed_types_and_ids_are_refused(tmp_path: Path, bad) -> None:
    with pytest.raises(StoreError):
        Store(tmp_path).put(bad)
    assert list((tmp_path / "resources").iterdir()) == []


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_what_is_not_dicom_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(StoreError):
        store.put_instance(b"no DICOM here")
    whole = gradient_film("a", STUDY, SERIES, SOP)
    with pytest.raises(StoreError, match="UIDs"):
        store.put_instance(whole.replace(b"2.25.11\0", b"../../x\0"))


def test_an_unreadable_resource_file_is_named(tmp_path: Path) -> None:
    Store(tmp_path).put({"resourceType": "Patient", "id": "a"})
    (tmp_path / "resources" / "Patient" / "a.json").write_text("{")
    with pytest.raises(StoreError, match="a.json"):
        Store(tmp_path)


def test_compartments() -> None:
    assert patient_of({"resourceType": "Patient", "id": "x"}) == "x"
    absolute = {"reference": "http://127.0.0.1/fhir/Patient/y"}
    assert patient_of({"resourceType": "Observation", "subject": absolute}) == "y"
    group = {"resourceType": "Observation", "subject": {"reference": "Group/g"}}
    assert patient_of(group) is None
    assert patient_of({"resourceType": "Practitioner", "id": "p"}) is None


def test_a_study_belongs_to_the_patient_of_its_imaging_study(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.put(imaging_study("film", "a", STUDY, SERIES, SOP))
    assert store.study_patient(STUDY) == "a"
    assert store.study_patient("2.25.99") is None


def test_keys_are_made_once_and_for_the_owner_only(tmp_path: Path) -> None:
    first, second = load_keys(tmp_path), load_keys(tmp_path)
    assert first.kid == second.kid
    assert first.token_secret == second.token_secret
    assert first.token_secret != load_keys(tmp_path / "other").token_secret
    for path in (tmp_path / "keys").iterdir():
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert {p.name for p in (tmp_path / "keys").iterdir()} == {
        "signing.json",
        "tokens.key",
    }


def test_the_public_key_set_holds_no_private_part(tmp_path: Path) -> None:
    (key,) = load_keys(tmp_path).jwks()["keys"]
    assert key["crv"] == "P-384" and key["alg"] == "ES384"
    assert "d" not in key


def test_tokens_end_and_can_be_revoked(tmp_path: Path) -> None:
    now = [1_000_000.0]
    seal = TokenSeal(b"k" * 32, clock=lambda: now[0])
    token = seal.issue("trivium", "a", "patient/*.rs", life_s=60)
    assert seal.open(token).patient == "a"
    now[0] += 59
    seal.open(token)
    now[0] += 1
    with pytest.raises(RequestError):
        seal.open(token)
    fresh = seal.issue("trivium", "a", "patient/*.rs")
    seal.revoke(fresh)
    with pytest.raises(RequestError):
        seal.open(fresh)


def test_another_secret_opens_nothing() -> None:
    token = TokenSeal(b"k" * 32).issue("trivium", "a", "patient/*.rs")
    assert TokenSeal(b"k" * 32).open(token).client == "trivium"
    with pytest.raises(RequestError):
        TokenSeal(b"x" * 32).open(token)


def test_opening_twice_does_not_age_the_endpoint(tmp_path: Path) -> None:
    where = (tmp_path, "http://127.0.0.1:8100", "http://127.0.0.1:8000")
    open_ehr(*where)
    store = open_ehr(*where).store
    assert store.get("Endpoint", "sandbox-dicomweb")["meta"]["versionId"] == "1"
    moved = open_ehr(tmp_path, "http://127.0.0.1:8111", where[2]).store
    endpoint = moved.get("Endpoint", "sandbox-dicomweb")
    assert endpoint["address"] == "http://127.0.0.1:8111/dicomweb"
