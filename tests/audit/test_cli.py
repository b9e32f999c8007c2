"""The command line: exit codes, JSON, help, and what it records."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from audit.cli import build_parser, main
from audit.log import AuditLog
from audit.provision import initialise
from audit.sealer import only_sealer
from audit.settings import AuditSettings
from tests.audit.conftest import make_event, settings_in
from tests.audit.tampering import as_administrator

Run = Callable[..., tuple[int, dict[str, Any]]]


def environ(settings: AuditSettings) -> dict[str, str]:
    return {
        "TRIVIUM_AUDIT_URL": settings.url,
        "TRIVIUM_AUDIT_KEYS_URL": settings.keys_url,
        "TRIVIUM_AUDIT_KEK_FILE": str(settings.kek_file),
        "TRIVIUM_AUDIT_INDEX_KEY_FILE": str(settings.index_key_file),
        "TRIVIUM_AUDIT_NODE_KEY_FILE": str(settings.node_key_file),
        "TRIVIUM_AUDIT_JOURNAL": str(settings.journal),
        "TRIVIUM_AUDIT_CHECKPOINTS": str(settings.checkpoints),
        "TRIVIUM_AUDIT_DEADLINE_MS": "5000",
    }


@pytest.fixture
def run(
    settings: AuditSettings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    for name, value in environ(settings).items():
        monkeypatch.setenv(name, value)

    def command(*arguments: str) -> tuple[int, dict[str, Any]]:
        code = main([*arguments, "--json"])
        return code, json.loads(capsys.readouterr().out)

    return command


def test_init_makes_everything_once(tmp_path: Path) -> None:
    settings = settings_in(tmp_path / "new")
    assert len(initialise(settings)) == 3
    assert initialise(settings, if_missing=True) == []
    for path in (settings.kek_file, settings.node_key_file, settings.index_key_file):
        assert path.stat().st_mode & 0o077 == 0
    assert (tmp_path / "new" / "keys.db").stat().st_mode & 0o077 == 0
    AuditLog.open(settings).close()


def test_init_refuses_to_overwrite_and_leaves_no_half_set(
    run: Run, settings: AuditSettings
) -> None:
    before = settings.kek_file.read_bytes()
    settings.index_key_file.unlink()
    code, answer = run("init")
    assert code == 4 and "TRIVIUM_AUDIT_KEK_FILE" in answer["error"]
    assert settings.kek_file.read_bytes() == before
    assert not settings.index_key_file.exists()
    code, answer = run("init", "--if-missing")
    assert (code, answer["created"]) == (0, ["TRIVIUM_AUDIT_INDEX_KEY_FILE"])


@pytest.mark.control("PR-14")
def test_exit_codes_tell_intact_tampered_and_unreadable_apart(
    run: Run, settings: AuditSettings
) -> None:
    log = AuditLog.open(settings)
    log.append(make_event())
    log.close()
    code, answer = run("verify")
    assert (code, answer["verified"], answer["records"]) == (0, True, 2)
    with as_administrator(settings) as connection:
        connection.execute("UPDATE audit_record SET outcome = 2 WHERE seq = 1")
    code, answer = run("verify")
    assert (code, answer["verified"]) == (2, False)
    assert answer["findings"][0]["kind"] == "row_altered"
    assert answer["findings"][0]["seq"] == 1
    settings.trust_file.unlink()
    assert run("verify")[0] == 3


def test_settings_that_are_missing_are_refused(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TRIVIUM_AUDIT_KEK_FILE")
    code, answer = run("verify")
    assert code == 4 and "TRIVIUM_AUDIT_KEK_FILE" in answer["error"]


def test_a_search_from_the_command_line_is_recorded(
    run: Run, settings: AuditSettings
) -> None:
    log = AuditLog.open(settings)
    log.append(make_event())
    log.close()
    arguments = ("search", "--patient", "https://ehr.example", "p-1", "--limit", "5")
    assert len(run(*arguments)[1]["events"]) == 2
    _, answer = run("search", "--type", "audit.query")
    assert len(answer["events"]) == 2
    code, answer = run("search", "--since", "2026-01-01")
    assert code == 4 and "time zone" in answer["error"]


def test_seal_signs_and_a_second_sealer_is_refused(
    run: Run, settings: AuditSettings
) -> None:
    code, answer = run("seal")
    assert (code, answer["tree_size"]) == (0, 0)
    with only_sealer(settings):
        code, answer = run("seal")
    assert code == 4 and "another sealer" in answer["error"]
    assert run("verify")[0] == 0


def test_seal_follow_beats_until_it_is_told_to_stop(settings: AuditSettings) -> None:
    log = AuditLog.open(settings)
    log.append(make_event())
    command = [sys.executable, "-m", "audit.cli", "seal", "--follow", "--json"]
    with subprocess.Popen(
        command, env={**os.environ, **environ(settings)}, stdout=subprocess.PIPE
    ) as sealer:
        end = time.monotonic() + 30
        while time.monotonic() < end:
            if settings.checkpoints.read_bytes().count(b'"checkpoint"') >= 2:
                break
            time.sleep(0.05)
        sealer.send_signal(signal.SIGTERM)
        answer = json.loads(sealer.stdout.read())
    log.close()
    assert sealer.returncode == 0
    assert answer["rounds"] >= 2


def test_logins_are_made_listed_and_closed_and_that_is_recorded(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, answer = run("user", "add", "alice", "--role", "auditor", "--generate")
    assert code == 0 and len(answer["password"]) >= 12 and answer["totp_secret"]
    read_end, write_end = os.pipe()
    os.write(write_end, b"a long enough password\n")
    os.close(write_end)
    with os.fdopen(read_end) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        code, answer = run("user", "add", "bob", "--role", "privacy-officer")
    assert code == 0 and "password" not in answer
    assert run("user", "disable", "alice") == (0, {"disabled": "alice"})
    _, answer = run("user", "list")
    assert [(u["name"], u["disabled"]) for u in answer["users"]] == [
        ("alice", True),
        ("bob", False),
    ]
    _, answer = run("search", "--type", "privilege.change")
    assert len(answer["events"]) == 3
    assert run("user", "disable", "nobody")[0] == 4


def test_replay_without_a_journal_has_nothing_to_do(run: Run) -> None:
    assert run("replay") == (0, {"replayed": []})


def test_answers_are_readable_without_json(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify"]) == 0
    assert '"verified": true' in capsys.readouterr().out


def _parsers() -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    waiting = [("trivium-audit", build_parser())]
    while waiting:
        name, parser = waiting.pop()
        found.append((name, parser))
        for action in parser._subparsers._group_actions if parser._subparsers else ():
            waiting += [(f"{name} {key}", sub) for key, sub in action.choices.items()]
    return found


@pytest.mark.parametrize(("name", "parser"), _parsers())
def test_every_command_has_help_and_json(name: str, parser: Any) -> None:
    text = parser.format_help()
    assert text.startswith("usage: trivium-audit")
    if parser._subparsers is None:
        assert "--json" in text and parser.description, name
