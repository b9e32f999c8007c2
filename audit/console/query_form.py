"""The search form's fields as an :class:`AuditQuery`, and back; pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TypeVar
from urllib.parse import urlencode

from audit.errors import EventError
from audit.event import EventType, Identifier, Outcome, Subject
from audit.search import AuditQuery

FIELDS = (
    "patient_system",
    "patient",
    "user_system",
    "user",
    "since",
    "until",
    "event_type",
    "outcome",
    "model_sha256",
    "correlation_id",
)
PAGE = 50
Kind = TypeVar("Kind", bound=Identifier)


def read_query(form: Mapping[str, str], after: str | None = None) -> AuditQuery:
    """The query that a form asks for.

    Raises:
        EventError: a field does not hold what it should; the message names it.
    """
    given = {name: form.get(name, "").strip() for name in FIELDS}
    return AuditQuery(
        patient=_identifier(given, "patient", Subject),
        user=_identifier(given, "user", Identifier),
        since=_moment(given, "since"),
        until=_moment(given, "until"),
        event_type=EventType(given["event_type"]) if given["event_type"] else None,
        outcome=Outcome(given["outcome"]) if given["outcome"] else None,
        model_sha256=given["model_sha256"] or None,
        correlation_id=given["correlation_id"] or None,
        limit=PAGE,
        after=after,
    )


def next_page(form: Mapping[str, str], mark: str) -> str:
    """Query string of the page after this one."""
    kept = {name: form[name] for name in FIELDS if form.get(name)}
    return urlencode({**kept, "after": mark})


def _identifier(given: Mapping[str, str], name: str, kind: type[Kind]) -> Kind | None:
    value, system = given[name], given[f"{name}_system"]
    if not value:
        return None
    if not system:
        raise EventError(name, "needs the system that assigned it")
    return kind(system, value)


def _moment(given: Mapping[str, str], name: str) -> datetime | None:
    if not given[name]:
        return None
    try:
        moment = datetime.fromisoformat(given[name])
    except ValueError as exc:
        raise EventError(name, "is no date and time") from exc
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
