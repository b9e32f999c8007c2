"""Find records by patient, user, time, type, outcome or model, and open one page.

Rules:

1. A query is itself recorded: ``audit.query`` before it runs, ``audit.query.result``
   after, when a log is handed in (45 CFR 164.312(b); attack: an auditor who browses).
2. A filter that names one patient is sealed under that patient's own key; real
   identifiers reach no table in clear.
3. Only one page is decrypted, at most 500 records.
4. An envelope that does not open is shown as such, with its reason, never left out
   (harm: a swapped ciphertext that just disappears from the answer).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

from sqlalchemy import Select, select, tuple_
from sqlalchemy.exc import SQLAlchemyError

from audit import tables
from audit.chain import Row
from audit.database import open_snapshot, reading
from audit.envelope import model_ref
from audit.errors import EventError, KeysUnavailableError, UncheckableError
from audit.event import (
    Action,
    Agent,
    AuditEvent,
    EventType,
    Identifier,
    LawfulBasis,
    Outcome,
    Phase,
    Subject,
    new_correlation_id,
)
from audit.found import EPOCH, FoundEvent, Opener
from audit.key_store import KeyStore, open_key_store
from audit.log import AuditLog
from audit.settings import AuditSettings

MAX_PAGE = 500


@dataclass(frozen=True, slots=True)
class AuditQuery:
    """What to look for; all conditions hold together.

    ``since`` is inclusive, ``until`` exclusive, both with a time zone. ``after`` is
    ``Page.next`` of the page before.
    """

    patient: Subject | None = None
    user: Identifier | None = None
    since: datetime | None = None
    until: datetime | None = None
    event_type: EventType | None = None
    outcome: Outcome | None = None
    model_sha256: str | None = None
    correlation_id: str | None = None
    limit: int = 100
    after: str | None = None

    def __post_init__(self) -> None:
        """Refuse what could not be answered as meant."""
        if not 1 <= self.limit <= MAX_PAGE:
            raise EventError("limit", f"must be between 1 and {MAX_PAGE}")
        for name in ("since", "until"):
            value = getattr(self, name)
            if value is not None and value.tzinfo is None:
                raise EventError(name, "needs a time zone")
        for name, length in (("model_sha256", 64), ("correlation_id", 32)):
            value = getattr(self, name)
            if value is not None and not _is_hex(value, length):
                raise EventError(name, f"must be {length} hex digits")
        if self.after is not None and not _is_hex(self.after, 48):
            raise EventError("after", "is not a page mark")


@dataclass(frozen=True, slots=True)
class Page:
    """Records, newest first; ``next`` is None on the last page."""

    events: list[FoundEvent]
    next: str | None

    def to_json(self) -> dict[str, Any]:
        """The page as JSON values."""
        return {"events": [event.to_json() for event in self.events], "next": self.next}


def search(
    settings: AuditSettings,
    query: AuditQuery,
    *,
    log: AuditLog | None = None,
    reader: Agent | None = None,
    purpose: str = "HCOMPL",
) -> Page:
    """Answer one query.

    Args:
        settings: where databases and keys are.
        query: what to look for.
        log: takes the records of the query itself (rule 1).
        reader: who asks; needed with ``log``.
        purpose: purpose of use of the query.

    Raises:
        AuditUnavailableError: the query could not be recorded, so it did not run.
        KeysUnavailableError: the key database does not answer.
        UncheckableError: the evidence database does not answer.
        EventError: a log without a reader.
    """
    with open_key_store(settings) as store:
        where = _conditions(store, query)
        correlation_id = new_correlation_id()
        if log is not None:
            if reader is None:
                raise EventError("reader", "a recorded query needs one")
            known = where is not None and query.patient is not None
            subject = query.patient if known else None
            asked = _event(
                EventType.AUDIT_QUERY, reader, subject, purpose, correlation_id
            )
            log.append(asked(_filter(query, known)))
        page = Page([], None) if where is None else _run(settings, store, query, where)
        if log is not None and reader is not None:
            answered = _event(
                EventType.AUDIT_QUERY_RESULT, reader, subject, purpose, correlation_id
            )
            ids = b"".join(bytes.fromhex(event.record_id) for event in page.events)
            digest = sha256(ids).hexdigest()
            log.append(answered({"count": len(page.events), "records_sha256": digest}))
    return page


def _run(
    settings: AuditSettings, store: KeyStore, query: AuditQuery, where: Select[Any]
) -> Page:
    engine = open_snapshot(
        settings.url, setting="TRIVIUM_AUDIT_URL", table="audit_record"
    )
    try:
        with engine.begin() as connection:
            rows = [
                Row.from_values(tuple(r)) for r in connection.execute(where).fetchall()
            ]
    except SQLAlchemyError as exc:
        raise UncheckableError("evidence database does not answer") from exc
    finally:
        engine.dispose()
    # A record that went to both devices in doubt is shown once; a row that only claims
    # a record's id is another row, and stays (attack: hiding one behind the other).
    unique = list(
        {
            (row.core.record_id, row.evidence_blob, row.clinical_blob): row
            for row in rows
        }.values()
    )
    more = len(rows) > query.limit
    shown = unique[: query.limit]
    opener = Opener(store)
    try:
        with reading(store.engine).begin() as connection:
            events = [opener.open(connection, row) for row in shown]
    except SQLAlchemyError as exc:
        raise KeysUnavailableError("key database refuses") from exc
    return Page(events, _mark(shown[-1]) if more else None)


def _conditions(store: KeyStore, query: AuditQuery) -> Select[Any] | None:
    """The statement for the evidence database; None when nobody can match."""
    record = tables.audit_record
    order = (record.c.ts_us.desc(), record.c.record_id.desc())
    statement = select(record).order_by(*order).limit(query.limit + 1)
    for realm, identifier in (("subject", query.patient), ("principal", query.user)):
        if identifier is None:
            continue
        ids = store.find(realm, identifier)
        if not ids:
            return None
        statement = statement.where(record.c[f"{realm}_id"].in_(ids))
    if query.since is not None:
        statement = statement.where(record.c.ts_us >= _micros(query.since))
    if query.until is not None:
        statement = statement.where(record.c.ts_us < _micros(query.until))
    if query.event_type is not None:
        statement = statement.where(record.c.event_type == query.event_type.code)
    if query.outcome is not None:
        statement = statement.where(record.c.outcome == query.outcome.code)
    if query.model_sha256 is not None:
        wanted = model_ref(query.model_sha256)
        statement = statement.where(record.c.model_ref == wanted)
    if query.correlation_id is not None:
        wanted = bytes.fromhex(query.correlation_id)
        statement = statement.where(record.c.correlation_id == wanted)
    if query.after is not None:
        mark = bytes.fromhex(query.after)
        place = (int.from_bytes(mark[:8], "big"), mark[8:])
        statement = statement.where(
            tuple_(record.c.ts_us, record.c.record_id) < tuple_(*place)
        )
    return statement


def _event(
    event_type: EventType,
    reader: Agent,
    subject: Subject | None,
    purpose: str,
    correlation_id: str,
) -> Any:
    def build(evidence: dict[str, Any]) -> AuditEvent:
        return AuditEvent(
            event_type,
            Action.READ,
            Outcome.OK,
            Phase.SINGLE,
            agent=reader,
            subject=subject,
            purpose=purpose,
            correlation_id=correlation_id,
            evidence=evidence,
            lawful_basis=LawfulBasis.LEGAL_OBLIGATION,
        )

    return build


def _filter(query: AuditQuery, known: bool) -> dict[str, Any]:
    """The filter as recorded; a patient nobody has records of is not named."""
    patient = None
    if query.patient is not None:
        patient = asdict(query.patient) if known else "no such patient"
    return {
        "patient": patient,
        "user": None if query.user is None else asdict(query.user),
        "since": None if query.since is None else query.since.isoformat(),
        "until": None if query.until is None else query.until.isoformat(),
        "event_type": query.event_type,
        "outcome": query.outcome,
        "model_sha256": query.model_sha256,
        "correlation_id": query.correlation_id,
        "limit": query.limit,
        "after": query.after,
    }


def _mark(row: Row) -> str:
    return (row.core.ts_us.to_bytes(8, "big") + row.core.record_id).hex()


def _micros(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)


def _is_hex(value: str, length: int) -> bool:
    return len(value) == length and not set(value) - set("0123456789abcdef")
