"""Settings and key files: a process without its keys does not start."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from audit.errors import AuditConfigurationError
from audit.key_files import create_key, read_keys, read_trust
from audit.log import AuditLog
from audit.settings import REQUIRED, AuditSettings, read_settings
from tests.audit.conftest import settings_in

ENVIRON = {name: f"/x/{name.lower()}" for name in REQUIRED}


@pytest.mark.parametrize("name", REQUIRED)
def test_nothing_has_a_working_default(name: str) -> None:
    with pytest.raises(AuditConfigurationError) as caught:
        read_settings({**ENVIRON, name: ""})
    assert caught.value.setting == name


def test_environment_is_read() -> None:
    settings = read_settings({**ENVIRON, "TRIVIUM_AUDIT_DEADLINE_MS": "250"})
    assert settings.deadline_ms == 250
    assert settings.trust_file == Path("/x/trivium_audit_node_key_file.pub")
    assert read_settings(ENVIRON).deadline_ms == 100
    trust = read_settings({**ENVIRON, "TRIVIUM_AUDIT_TRUST_FILE": "/t"}).trust_file
    assert trust == Path("/t")


@pytest.mark.parametrize("value", ["soon", "0", "-1"])
def test_a_deadline_is_a_number(value: str) -> None:
    with pytest.raises(AuditConfigurationError):
        read_settings({**ENVIRON, "TRIVIUM_AUDIT_DEADLINE_MS": value})


@pytest.mark.control("TM-I1")
def test_keys_never_share_the_evidence_database() -> None:
    same = {**ENVIRON, "TRIVIUM_AUDIT_KEYS_URL": ENVIRON["TRIVIUM_AUDIT_URL"]}
    with pytest.raises(AuditConfigurationError):
        read_settings(same)


def test_a_fresh_key_is_private_and_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "kek"
    key = create_key(path, "KEK")
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_keys(path, "KEK") == {1: key}
    with pytest.raises(AuditConfigurationError, match="not overwritten"):
        create_key(path, "KEK")
    assert read_keys(path, "KEK") == {1: key}


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_a_key_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "kek"
    create_key(path, "KEK")
    os.chmod(path, mode)
    with pytest.raises(AuditConfigurationError, match="0600"):
        read_keys(path, "KEK")


@pytest.mark.parametrize("text", ["", "1 abc\n", "0 " + "ab" * 32, "\u00e9"])
def test_what_is_no_key_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "kek"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(AuditConfigurationError):
        read_keys(path, "KEK")


@pytest.mark.parametrize("text", [None, "", "zz", "abcd"])
def test_trust_must_be_public_keys(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "trust"
    if text is not None:
        path.write_text(text)
    with pytest.raises(AuditConfigurationError):
        read_trust(path)


@pytest.mark.parametrize("missing", ["kek", "index", "node", "node.pub", "journal"])
def test_a_log_does_not_open_without_its_parts(
    settings: AuditSettings, missing: str
) -> None:
    path = settings.kek_file.with_name(missing)
    path.rmdir() if path.is_dir() else path.unlink()
    with pytest.raises(AuditConfigurationError):
        AuditLog.open(settings)


def test_a_log_does_not_open_without_tables(
    settings: AuditSettings, tmp_path: Path
) -> None:
    folder = settings.kek_file.parent
    with pytest.raises(AuditConfigurationError, match="trivium-audit init"):
        AuditLog.open(settings_in(folder, url=f"sqlite:///{tmp_path}/empty.db"))


@pytest.mark.parametrize(
    "url", ["mysql://u@h/d", "sqlite://", "sqlite:///:memory:", "not a url"]
)
def test_only_databases_on_disk(settings: AuditSettings, url: str) -> None:
    with pytest.raises(AuditConfigurationError):
        AuditLog.open(settings_in(settings.kek_file.parent, url=url))
