"""An initialised log on SQLite files, copied fresh for every test."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from audit.event import (
    Action,
    Agent,
    AuditEvent,
    EventType,
    ModelRef,
    Outcome,
    Phase,
    Subject,
    new_correlation_id,
)
from audit.log import AuditLog
from audit.provision import initialise
from audit.settings import AuditSettings

MODEL = ModelRef("m-llm", "1.0", "ab" * 32, "cpu")


def settings_in(folder: Path, **changes: object) -> AuditSettings:
    """Settings with everything below ``folder`` and a deadline that tests can bear."""
    settings = AuditSettings(
        url=f"sqlite:///{folder}/audit.db",
        keys_url=f"sqlite:///{folder}/keys.db",
        kek_file=folder / "kek",
        index_key_file=folder / "index",
        node_key_file=folder / "node",
        journal=folder / "journal",
        checkpoints=folder / "anchors.jsonl",
        trust_file=folder / "node.pub",
        deadline_ms=5000,
        probe_interval_s=0.05,
    )
    return replace(settings, **changes)


def make_event(patient: str | None = "p-1", **changes: object) -> AuditEvent:
    """An event about ``patient``, with evidence and, for a patient, clinical text."""
    event = AuditEvent(
        EventType.CDS_FEEDBACK,
        Action.EXECUTE,
        Outcome.OK,
        Phase.SINGLE,
        agent=Agent("human", "https://ehr.example/users", "dr-1", name="Dr One"),
        subject=None if patient is None else Subject("https://ehr.example", patient),
        purpose="TREAT",
        correlation_id=new_correlation_id(),
        model=MODEL,
        evidence={"hook": "patient-view"},
        clinical=None if patient is None else {"note": "left lower opacity"},
    )
    return replace(event, **changes)


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("audit")
    initialise(settings_in(folder))
    return folder


@pytest.fixture
def settings(template: Path, tmp_path: Path) -> AuditSettings:
    folder = tmp_path / "log"
    shutil.copytree(template, folder)
    return settings_in(folder)


@pytest.fixture
def open_log() -> Iterator[Callable[[AuditSettings], AuditLog]]:
    logs: list[AuditLog] = []

    def opened(settings: AuditSettings) -> AuditLog:
        logs.append(AuditLog.open(settings))
        return logs[-1]

    yield opened
    for log in logs:
        log.close()


@pytest.fixture
def log(
    settings: AuditSettings, open_log: Callable[[AuditSettings], AuditLog]
) -> AuditLog:
    return open_log(settings)
