"""Queries: found by patient, user, time and the rest; recorded; nothing in clear."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from audit.errors import EventError, KeysUnavailableError
from audit.event import Agent, EventType, Identifier, Outcome, Subject
from audit.log import AuditLog
from audit.search import AuditQuery, search
from audit.settings import AuditSettings
from tests.audit.conftest import MODEL, make_event
from tests.audit.tampering import as_administrator

PATIENT = make_event("p-1").subject
READER = Agent("human", "urn:console", "auditor-1")


def test_a_record_comes_back_whole(settings: AuditSettings, log: AuditLog) -> None:
    event = make_event()
    receipt = log.append(event)
    (found,) = search(settings, AuditQuery(patient=PATIENT)).events
    assert found.record_id == receipt.record_id
    assert (found.stream_id, found.seq) == (receipt.stream_id, receipt.seq)
    assert found.correlation_id == event.correlation_id
    assert found.agent["name"] == "Dr One"
    assert found.subject == {"system": "https://ehr.example", "value": "p-1"}
    assert found.model["sha256"] == MODEL.sha256
    assert (found.evidence, found.clinical) == (event.evidence, event.clinical)
    assert (found.event_type, found.action, found.outcome) == (
        "cds.feedback",
        "E",
        "ok",
    )
    assert found.sealed is None
    moment = datetime.fromisoformat(found.recorded)
    assert abs(moment - datetime.now(UTC)) < timedelta(minutes=5)
    assert found.to_json()["purpose"] == "TREAT"


def test_each_condition_narrows(settings: AuditSettings, log: AuditLog) -> None:
    other_user = Agent("human", "https://ehr.example/users", "dr-2")
    log.append(make_event("p-1"))
    log.append(make_event("p-2", agent=other_user, outcome=Outcome.FAILED))
    third = make_event("p-2", event_type=EventType.AUTH_FAIL, model=None)
    log.append(third)
    now = datetime.now(UTC)

    def number(**conditions: object) -> int:
        return len(search(settings, AuditQuery(**conditions)).events)

    assert number() == 4  # and the opening of the stream
    assert number(patient=make_event("p-2").subject) == 2
    assert number(user=Identifier("https://EHR.example/users/", "dr-2")) == 1
    assert number(event_type=EventType.AUTH_FAIL) == 1
    assert number(event_type=EventType.STREAM_OPEN) == 1
    assert number(outcome=Outcome.FAILED) == 1
    assert number(model_sha256=MODEL.sha256) == 2
    assert number(model_sha256="cd" * 32) == 0
    assert number(correlation_id=third.correlation_id) == 1
    assert number(since=now - timedelta(hours=1), until=now) == 4
    assert number(since=now + timedelta(hours=1)) == 0
    assert number(until=now - timedelta(hours=1)) == 0
    assert number(patient=Subject("https://ehr.example", "nobody")) == 0
    assert number(user=Identifier("https://ehr.example/users", "nobody")) == 0


def test_pages_follow_without_gap_or_repeat(
    settings: AuditSettings, log: AuditLog
) -> None:
    receipts = log.append_many([make_event() for _ in range(23)])
    seen, after = [], None
    for _ in range(5):
        page = search(settings, AuditQuery(patient=PATIENT, limit=5, after=after))
        seen += [event.record_id for event in page.events]
        after = page.next
    assert after is None
    assert sorted(seen) == sorted(receipt.record_id for receipt in receipts)
    assert page.to_json()["next"] is None


@pytest.mark.control("TM-R1")
def test_a_query_is_recorded_before_and_after(
    settings: AuditSettings, log: AuditLog
) -> None:
    log.append(make_event())
    query = AuditQuery(patient=PATIENT)
    page = search(settings, query, log=log, reader=READER)
    # The query itself is about the patient, and so it is found by the patient.
    assert [e.event_type for e in page.events] == ["audit.query", "cds.feedback"]
    user = AuditQuery(user=Identifier("urn:console", "auditor-1"))
    result, asked = search(settings, user).events
    assert (asked.event_type, result.event_type) == (
        "audit.query",
        "audit.query.result",
    )
    assert asked.evidence["patient"] == {"system": PATIENT.system, "value": "p-1"}
    assert result.evidence["count"] == 2
    assert asked.correlation_id == result.correlation_id
    assert asked.subject_id == page.events[0].subject_id


def test_asking_for_a_stranger_enrols_nobody(
    settings: AuditSettings, log: AuditLog
) -> None:
    stranger = AuditQuery(patient=Subject("https://ehr.example", "stranger"))
    assert search(settings, stranger, log=log, reader=READER).events == []
    user = AuditQuery(user=Identifier("urn:console", "auditor-1"))
    asked = search(settings, user).events[1]
    assert asked.evidence["patient"] == "no such patient"
    with closing(sqlite3.connect(settings.keys_url.removeprefix("sqlite:///"))) as db:
        assert db.execute("SELECT count(*) FROM subject_lookup").fetchone() == (0,)


def test_a_recorded_query_needs_a_reader(
    settings: AuditSettings, log: AuditLog
) -> None:
    with pytest.raises(EventError, match="reader"):
        search(settings, AuditQuery(), log=log)


@pytest.mark.parametrize(
    "conditions",
    [
        {"limit": 0},
        {"limit": 501},
        {"since": datetime(2026, 1, 1)},
        {"model_sha256": "xyz"},
        {"correlation_id": "AB"},
        {"after": "12"},
    ],
)
def test_queries_that_mean_nothing_are_refused(conditions: dict[str, object]) -> None:
    with pytest.raises(EventError):
        AuditQuery(**conditions)


@pytest.mark.control("TM-T2")
def test_a_swapped_envelope_is_shown_as_such(
    settings: AuditSettings, log: AuditLog
) -> None:
    log.append_many([make_event("p-1"), make_event("p-2")])
    with as_administrator(settings) as connection:
        query = "SELECT seq, clinical_blob FROM audit_record WHERE seq > 0 ORDER BY seq"
        (one, left), (two, right) = connection.execute(query).fetchall()
        update = "UPDATE audit_record SET clinical_blob = ? WHERE seq = ?"
        connection.executemany(update, [(right, one), (left, two)])
    (found,) = search(settings, AuditQuery(patient=PATIENT)).events
    assert found.sealed == "clinical: commitment"
    assert found.clinical is None and found.evidence is not None


@pytest.mark.control("PR-25")
def test_a_destroyed_key_leaves_a_record_that_stays_closed(
    settings: AuditSettings, log: AuditLog
) -> None:
    log.append(make_event())
    keys = settings.keys_url.removeprefix("sqlite:///")
    with closing(sqlite3.connect(keys)) as db:
        db.execute("UPDATE subject_key SET wrapped = NULL WHERE class = 2")
        db.commit()
    (found,) = search(settings, AuditQuery(patient=PATIENT)).events
    assert (found.sealed, found.clinical) == ("clinical: erased", None)


def test_without_the_key_database_no_query_runs(settings: AuditSettings) -> None:
    Path(settings.keys_url.removeprefix("sqlite:///")).write_bytes(b"broken" * 2000)
    with pytest.raises(KeysUnavailableError):
        search(settings, AuditQuery(patient=PATIENT))


@pytest.mark.control("H5")
@pytest.mark.control("TM-I1")
def test_no_identifier_is_in_clear_in_any_file(
    settings: AuditSettings, log: AuditLog
) -> None:
    canaries = ("MRN-CANARY-8841", "Canary-Surname", "canary-finding", "dr-canary")
    mrn, name, finding, user = canaries
    event = make_event(
        mrn,
        agent=Agent("human", "https://ehr.example/users", user, name=name),
        evidence={"patient_name": name},
        clinical={"note": finding},
    )
    log.append(event)
    # The same through the journal, with the key note of an unknown patient.
    keyring = log._running().keyring
    keyring._stuck = _Busy()
    cold = make_event(mrn + "-2", agent=event.agent, clinical={"note": finding})
    assert log.append(cold).device == "journal"
    folder = settings.journal.parent
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert any(path.suffix == ".journal" for path in files)
    for path in files:
        data = path.read_bytes()
        assert [c for c in canaries if c.encode() in data] == [], path.name
    keyring._stuck = None
    (found,) = search(settings, AuditQuery(patient=event.subject)).events
    assert found.agent["name"] == name and found.clinical == {"note": finding}


class _Busy:
    """Stands for a look-up that never came back."""

    def is_alive(self) -> bool:
        return True
