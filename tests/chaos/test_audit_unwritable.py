"""No durable record, no card; the journal alone lets it leave and is replayed."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deploy.demo_stage import call
from tests.end_to_end.plugin import Plugin, card, state

PATIENT = "synthetic-20-1"


@contextmanager
def locked(database: Path) -> Iterator[None]:
    """Hold the write lock, as a backup gone wrong or a full disk would."""
    holder = sqlite3.connect(database, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        holder.rollback()
        holder.close()


@pytest.fixture
def plugin(own_plugin: Plugin) -> Plugin:
    own_plugin.patients(1)
    own_plugin.start("ehr", "web", "worker")
    assert state(own_plugin.ready(PATIENT)) == "ready"
    return own_plugin


def records(plugin: Plugin) -> int:
    return int(plugin.verify()["records"])


def test_database_and_journal_gone_means_503_and_no_card(plugin: Plugin) -> None:
    audit = plugin.stage.folder / "audit"
    journal, aside = audit / "journal", audit / "journal-aside"
    before = records(plugin)
    with locked(audit / "evidence.sqlite3"):
        shutil.move(journal, aside)
        journal.write_text("a file where the folder was")
        refused = plugin.hook(PATIENT)
        journal.unlink()
        shutil.move(aside, journal)
    assert refused.status == 503
    assert refused.cards == []
    assert refused.body["resourceType"] == "OperationOutcome"
    assert "journal" not in json.dumps(refused.body)
    assert state(plugin.ready(PATIENT)) == "ready", "it recovers without a restart"
    assert records(plugin) > before
    assert plugin.verify()["verified"] is True


def test_the_journal_alone_lets_the_card_leave_and_is_replayed(plugin: Plugin) -> None:
    audit = plugin.stage.folder / "audit"
    before = records(plugin)
    with locked(audit / "evidence.sqlite3"):
        answer = plugin.hook(PATIENT)
        assert answer.status == 200, answer.body
        shown = card(answer)
    call(plugin.stage, "trivium-audit", "replay", "--json")
    found = json.loads(
        call(plugin.stage, "trivium-audit", "search", "--json", "--limit", "200")
    )["events"]
    outcomes = [e for e in found if e["event_type"] == "cds.outcome"]
    assert any(shown["uuid"] in json.dumps(e) for e in outcomes)
    assert records(plugin) > before
    assert plugin.verify()["verified"] is True
