"""POST /cds-services/{id}/feedback: what clinicians did with our cards.

Rules, from CDS Hooks 2.0 "Feedback": cds-fb-1 ``outcome`` is accepted or overridden;
cds-fb-2 accepted names the suggestions; cds-fb-3 an override reason holds a coded
``reason``, a ``userComment`` or both. B3: the same card may be reported many times, so
reports are appended, never changed. B6: the comment is the clinician's words about a
patient, so it goes into the erasable part of the audit record and nowhere else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from audit.event import (
    Action,
    Agent,
    AuditEvent,
    Entity,
    EventType,
    Outcome,
    Phase,
    Subject,
    new_correlation_id,
)
from cds_hooks.client_auth import Caller
from cds_hooks.errors import MalformedRequestError

MAX_ENTRIES = 100
MAX_COMMENT = 4000
_IDENTIFIER = re.compile(r"[\x21-\x7e]{1,128}")


@dataclass(frozen=True, slots=True)
class FeedbackEntry:
    """One card's outcome."""

    card: str
    outcome: str
    outcome_at: str
    accepted: tuple[str, ...] = ()
    reason: Mapping[str, str] | None = None
    comment: str = field(default="", repr=False)


def read_feedback(body: Mapping[str, Any]) -> tuple[FeedbackEntry, ...]:
    """The entries of a feedback body; all are valid or the whole body is refused.

    Raises:
        MalformedRequestError: naming the element at fault.
    """
    entries = body.get("feedback")
    if not isinstance(entries, list) or not 0 < len(entries) <= MAX_ENTRIES:
        raise _bad("feedback", "must be a list of 1 to 100 entries")
    return tuple(_entry(entry, f"feedback[{i}]") for i, entry in enumerate(entries))


def feedback_events(
    entries: Sequence[FeedbackEntry], service_id: str, caller: Caller, network: str
) -> list[AuditEvent]:
    """One audit event for each entry."""
    tenant = caller.tenant.id
    return [
        AuditEvent(
            event_type=EventType.CDS_FEEDBACK,
            action=Action.CREATE,
            outcome=Outcome.OK,
            phase=Phase.SINGLE,
            agent=Agent(
                "service", "urn:trivium:caller", caller.iss, network=network or None
            ),
            # The subject is the card, whose patient the outcome record names: a
            # feedback body names none, and the comment needs an erasable key.
            subject=Subject(f"urn:trivium:card:{tenant}", entry.card),
            purpose="TREAT",
            correlation_id=new_correlation_id(),
            entities=(Entity(entry.card, "card"),),
            evidence={
                "service": service_id,
                "tenant": tenant,
                "jti": caller.jti,
                "card": entry.card,
                "outcome": entry.outcome,
                "outcome_at": entry.outcome_at,
                "accepted": list(entry.accepted),
                "reason": dict(entry.reason) if entry.reason else None,
            },
            clinical={"comment": entry.comment} if entry.comment else None,
        )
        for entry in entries
    ]


def _entry(entry: object, where: str) -> FeedbackEntry:
    if not isinstance(entry, dict):
        raise _bad(where, "must be an object")
    outcome = entry.get("outcome")
    if outcome not in ("accepted", "overridden"):
        raise _bad(f"{where}.outcome", "must be accepted or overridden (cds-fb-1)")
    suggestions = entry.get("acceptedSuggestions", [])
    if not isinstance(suggestions, list) or len(suggestions) > MAX_ENTRIES:
        raise _bad(f"{where}.acceptedSuggestions", "must be a list")
    if outcome == "accepted" and not suggestions:
        raise _bad(f"{where}.acceptedSuggestions", "is required (cds-fb-2)")
    reason, comment = _override(entry.get("overrideReason"), f"{where}.overrideReason")
    return FeedbackEntry(
        card=_identifier(entry.get("card"), f"{where}.card"),
        outcome=outcome,
        outcome_at=_moment(entry.get("outcomeTimestamp"), f"{where}.outcomeTimestamp"),
        accepted=tuple(
            _identifier(
                s.get("id") if isinstance(s, dict) else None,
                f"{where}.acceptedSuggestions[{i}].id",
            )
            for i, s in enumerate(suggestions)
        ),
        reason=reason,
        comment=comment,
    )


def _override(value: object, where: str) -> tuple[dict[str, str] | None, str]:
    """The coded reason and the comment of an override (cds-fb-3)."""
    if value is None:
        return None, ""
    if not isinstance(value, dict):
        raise _bad(where, "must be an object")
    reason, comment = value.get("reason"), value.get("userComment", "")
    if not isinstance(comment, str) or len(comment) > MAX_COMMENT:
        raise _bad(f"{where}.userComment", "must be a text of 4000 characters at most")
    if reason is None and not comment:
        raise _bad(where, "needs reason or userComment (cds-fb-3)")
    if reason is None:
        return None, comment
    if not isinstance(reason, dict):
        raise _bad(f"{where}.reason", "must be a coding")
    coded = {
        "code": _identifier(reason.get("code"), f"{where}.reason.code"),
        "system": _identifier(reason.get("system"), f"{where}.reason.system"),
    }
    return coded, comment


def _identifier(value: object, where: str) -> str:
    if not isinstance(value, str) or not _IDENTIFIER.fullmatch(value):
        raise _bad(where, "is required and must be an identifier")
    return value


def _moment(value: object, where: str) -> str:
    """An RFC 3339 time with its zone (B2)."""
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise _bad(where, "is required and must be a time with its zone")
    return moment.isoformat()


def _bad(where: str, problem: str) -> MalformedRequestError:
    return MalformedRequestError(f"{where} {problem}.", expression=where)
