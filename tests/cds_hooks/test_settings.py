"""The process does not start without its keys, nor with settings that are unsafe."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cds_hooks.app import create_app
from cds_hooks.errors import SettingsError
from cds_hooks.settings import WebSettings
from fhir_adapters.access.smart_keys import new_key
from tests.cds_hooks.ehr import Ehr
from tests.cds_hooks.service import web_settings

TENANT = {
    "id": "site",
    "name": "Site",
    "issuers": [{"iss": "https://ehr.example", "jku": "https://ehr.example/jwks"}],
    "fhir_servers": ["https://ehr.example/fhir/"],
    "smart": {
        "issuer": "https://ehr.example/fhir/",
        "client_id": "trivium",
        "scopes": "launch",
    },
}


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "tenants.json").write_text(json.dumps({"tenants": [TENANT]}))
    key = tmp_path / "session.key"
    key.write_bytes(b"k" * 40)
    key.chmod(0o600)
    return {
        "TRIVIUM_PUBLIC_URL": "https://cds.example",
        "TRIVIUM_TENANTS_FILE": str(tmp_path / "tenants.json"),
        "TRIVIUM_SESSION_KEY_FILE": str(key),
        "TRIVIUM_PAYLOAD_KEY_FILE": str(tmp_path / "payload.key"),
        "TRIVIUM_AUDIT_URL": "sqlite:///a.db",
        "TRIVIUM_AUDIT_KEYS_URL": "sqlite:///k.db",
        "TRIVIUM_AUDIT_KEK_FILE": "kek",
        "TRIVIUM_AUDIT_INDEX_KEY_FILE": "index",
        "TRIVIUM_AUDIT_NODE_KEY_FILE": "node",
        "TRIVIUM_AUDIT_JOURNAL": "journal",
        "TRIVIUM_AUDIT_CHECKPOINTS": "checkpoints",
    }


def test_a_complete_environment_is_read(environment: dict[str, str]) -> None:
    settings = WebSettings.from_environment(
        {
            **environment,
            "TRIVIUM_DEADLINE_MS": "600",
            "TRIVIUM_RESERVE_MS": "200",
            "TRIVIUM_GATHER_THREADS": "3",
            "TRIVIUM_REPLAY_FILE": "/x/replay.db",
            "TRIVIUM_CHECKPOINT": "/x/model",
        }
    )
    assert settings.deadline_s == pytest.approx(0.6)
    assert settings.reserve_s == pytest.approx(0.2)
    assert settings.gather_threads == 3
    assert settings.replay_file == Path("/x/replay.db")
    assert settings.checkpoint == Path("/x/model")
    (tenant,) = settings.tenants
    assert tenant.fhir_servers == ("https://ehr.example/fhir",)
    assert tenant.smart and tenant.smart.issuer == "https://ehr.example/fhir"
    assert "kkkk" not in repr(settings)


def test_defaults_are_those_of_the_contract(environment: dict[str, str]) -> None:
    settings = WebSettings.from_environment(environment)
    assert settings.deadline_s == 0.45
    assert settings.reserve_s < settings.deadline_s
    assert settings.reserve_s * 1000 > settings.audit.deadline_ms


@pytest.mark.parametrize(
    "name",
    [
        "TRIVIUM_PUBLIC_URL",
        "TRIVIUM_TENANTS_FILE",
        "TRIVIUM_SESSION_KEY_FILE",
        "TRIVIUM_PAYLOAD_KEY_FILE",
        "TRIVIUM_AUDIT_KEK_FILE",
    ],
)
def test_without_a_required_setting_nothing_starts(
    environment: dict[str, str], name: str
) -> None:
    del environment[name]
    with pytest.raises(SettingsError, match=name):
        WebSettings.from_environment(environment)


@pytest.mark.parametrize(
    "change",
    [
        {"TRIVIUM_PUBLIC_URL": "http://cds.example"},
        {"TRIVIUM_PUBLIC_URL": "https://cds.example/"},
        {"TRIVIUM_PUBLIC_URL": "https://user@cds.example"},
        {"TRIVIUM_PUBLIC_URL": "https://cds.example:port"},
        {"TRIVIUM_DEADLINE_MS": "soon"},
        {"TRIVIUM_DEADLINE_MS": "-1"},
        {"TRIVIUM_DEADLINE_MS": "100"},
        {"TRIVIUM_DEADLINE_MS": "nan"},
        {"TRIVIUM_GATHER_THREADS": "0"},
        {"TRIVIUM_TENANTS_FILE": "/nowhere/tenants.json"},
        {"TRIVIUM_SESSION_KEY_FILE": "/nowhere/session.key"},
    ],
)
def test_unusable_settings_are_refused(
    environment: dict[str, str], change: dict[str, str]
) -> None:
    with pytest.raises(SettingsError):
        WebSettings.from_environment({**environment, **change})


def test_an_open_or_short_session_key_is_refused(
    environment: dict[str, str], tmp_path: Path
) -> None:
    key = tmp_path / "session.key"
    key.chmod(0o644)
    with pytest.raises(SettingsError, match="0600"):
        WebSettings.from_environment(environment)
    key.write_bytes(b"short")
    key.chmod(0o600)
    with pytest.raises(SettingsError, match="32 bytes"):
        WebSettings.from_environment(environment)


def tenants(change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    tenant = json.loads(json.dumps(TENANT))
    changed = change(tenant)
    return {"tenants": [changed if changed is not None else tenant]}


@pytest.mark.parametrize(
    "document",
    [
        [],
        {},
        {"tenants": []},
        {"tenants": ["x"]},
        {"tenants": [TENANT, TENANT]},
        tenants(lambda t: t.update(id="")),
        tenants(lambda t: t.update(name=3)),
        tenants(lambda t: t.update(issuers=[])),
        tenants(lambda t: t.update(issuers=["x"])),
        tenants(lambda t: t.update(issuers=[{"iss": "x"}])),
        tenants(lambda t: t["issuers"][0].update(jwks={"keys": []})),
        tenants(lambda t: t["issuers"][0].update(jku=7)),
        tenants(lambda t: t["issuers"][0].update(jku="http://ehr.example/jwks")),
        tenants(lambda t: t.update(fhir_servers="https://ehr.example")),
        tenants(lambda t: t.update(fhir_servers=["http://ehr.example/fhir"])),
        tenants(lambda t: t.update(fhir_servers=["http://127.0.0.1:1/fhir"])),
        tenants(lambda t: t.update(cors_origins=["*"])),
        tenants(lambda t: t.update(loopback="yes")),
        tenants(lambda t: t.update(private_hosts=[])),
        tenants(lambda t: t.update(smart="x")),
    ],
)
def test_unusable_tenants_are_refused(
    environment: dict[str, str], tmp_path: Path, document: Any
) -> None:
    (tmp_path / "tenants.json").write_text(json.dumps(document))
    with pytest.raises(SettingsError):
        WebSettings.from_environment(environment)


def test_what_the_process_cannot_open_stops_it(
    ehr: Ehr, tmp_path: Path, fresh_audit: Path
) -> None:
    good = web_settings(ehr, tmp_path, fresh_audit)
    nowhere = tmp_path / "nowhere"
    for bad in (
        replace(good, checkpoint=nowhere),
        replace(good, audit=replace(good.audit, kek_file=nowhere)),
        replace(good, jobs=replace(good.jobs, payload_key_file=nowhere)),
        replace(
            good,
            tenants=(replace(good.tenants[0], private_hosts={"a": ("no network",)}),),
        ),
    ):
        with pytest.raises(SettingsError):
            create_app(bad)
    (good.checkpoint / "MODEL_CARD.md").unlink()
    with pytest.raises(SettingsError, match="MODEL_CARD"):
        create_app(good)


def test_the_keys_of_the_smart_client_are_read_from_a_private_file(
    environment: dict[str, str], tmp_path: Path
) -> None:
    assert WebSettings.from_environment(environment).smart_keys is None
    path = tmp_path / "smart.json"
    path.write_text(json.dumps({"keys": [new_key("ES384", "ours")]}))
    path.chmod(0o600)
    environment["TRIVIUM_SMART_KEYS_FILE"] = str(path)
    ring = WebSettings.from_environment(environment).smart_keys
    assert ring is not None and ring.kids == ("ours",)
    path.chmod(0o644)
    with pytest.raises(SettingsError, match="TRIVIUM_SMART_KEYS_FILE"):
        WebSettings.from_environment(environment)
