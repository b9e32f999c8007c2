"""What one audit record says, before it is encrypted and chained.

Rules enforced here, at construction, so that a bad event fails at its author:

1. No record has an empty principal (45 CFR 164.312(a)(2)(i); attack: shared or
   anonymous use hides who acted).
2. Clinical content needs a subject, because it is encrypted under that subject's
   erasable key (GDPR art. 17; harm: content that no erasure can reach).
3. Purpose and lawful basis are always present and coded (GDPR art. 5).
4. An intent is never written as an outcome, nor the other way round (harm: a card that
   seems to have been recorded before it was computed).

Example:
    >>> event = AuditEvent(
    ...     EventType.CDS_INTENT, Action.EXECUTE, Outcome.OK, Phase.INTENT,
    ...     agent=Agent("human", "https://ehr.example/users", "dr-1"),
    ...     subject=Subject("https://ehr.example/fhir", "patient-1"),
    ...     purpose="TREAT", correlation_id=new_correlation_id(),
    ...     evidence={"hook": "patient-view"})
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from audit.errors import EventError
from audit.vocabulary import (
    Action,
    AgentKind,
    EventType,
    LawfulBasis,
    Outcome,
    Phase,
    Purpose,
)

__all__ = [
    "Action",
    "Agent",
    "AgentKind",
    "AuditEvent",
    "Entity",
    "EventType",
    "Identifier",
    "LawfulBasis",
    "ModelRef",
    "Outcome",
    "Phase",
    "Purpose",
    "Subject",
    "new_correlation_id",
]

MAX_IDENTIFIER = 512  # characters of a system or a value
_HEX32 = re.compile(r"[0-9a-f]{32}")
_HEX64 = re.compile(r"[0-9a-f]{64}")
_PURPOSES = frozenset(purpose.value for purpose in Purpose)
_KINDS = frozenset(kind.value for kind in AgentKind)
_PHASES = {
    EventType.CDS_INTENT: Phase.INTENT,
    EventType.CDS_OUTCOME: Phase.OUTCOME,
}


def new_correlation_id() -> str:
    """A fresh id that joins the records of one request: 32 hex digits."""
    return secrets.token_hex(16)


def _require_text(name: str, value: object, limit: int = MAX_IDENTIFIER) -> None:
    if not isinstance(value, str) or not value.strip():
        raise EventError(name, "must be a text that is not empty")
    if len(value) > limit:
        raise EventError(name, f"longer than {limit} characters")


@dataclass(frozen=True, slots=True)
class Identifier:
    """A value in the system that assigned it, as in FHIR."""

    system: str
    value: str

    def __post_init__(self) -> None:
        """Refuse an identifier that identifies nobody."""
        name = type(self).__name__.lower()
        _require_text(f"{name}.system", self.system)
        _require_text(f"{name}.value", self.value)


@dataclass(frozen=True, slots=True)
class Subject(Identifier):
    """The patient whose data the event touches."""


@dataclass(frozen=True, slots=True)
class Agent:
    """Who acted: ``kind`` human, service or device; ``network`` is an address."""

    kind: str
    system: str
    value: str
    name: str | None = None
    network: str | None = None

    def __post_init__(self) -> None:
        """Rule 1: a principal is typed and named."""
        if self.kind not in _KINDS:
            raise EventError("agent.kind", "must be human, service or device")
        _require_text("agent.system", self.system)
        _require_text("agent.value", self.value)


@dataclass(frozen=True, slots=True)
class ModelRef:
    """The exact model that answered; ``sha256`` is the digest of its manifest."""

    name: str
    version: str
    sha256: str
    device: str

    def __post_init__(self) -> None:
        """A model without a digest cannot be found again."""
        _require_text("model.name", self.name)
        if not _HEX64.fullmatch(self.sha256):
            raise EventError("model.sha256", "must be 64 lower-case hex digits")


@dataclass(frozen=True, slots=True)
class Entity:
    """One thing used: a FHIR reference, its role, for a search the raw query."""

    reference: str
    role: str
    query: str | None = None


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One event; ``evidence`` is kept by law, ``clinical`` is erasable.

    Both hold JSON values only. ``correlation_id`` and ``session`` are 32 hex digits;
    ``purpose`` is a code of :class:`Purpose`.

    Raises:
        EventError: a rule of this module is broken.
    """

    event_type: EventType
    action: Action
    outcome: Outcome
    phase: Phase
    agent: Agent
    subject: Subject | None
    purpose: str
    correlation_id: str
    model: ModelRef | None = None
    entities: tuple[Entity, ...] = ()
    evidence: Mapping[str, Any] = field(default_factory=dict)
    clinical: Mapping[str, Any] | None = None
    lawful_basis: LawfulBasis = LawfulBasis.CARE
    session: str | None = None

    def __post_init__(self) -> None:
        """Check the rules that span fields."""
        for name, kind in (
            ("event_type", EventType),
            ("action", Action),
            ("outcome", Outcome),
            ("phase", Phase),
            ("agent", Agent),
            ("lawful_basis", LawfulBasis),
        ):
            if not isinstance(getattr(self, name), kind):
                raise EventError(name, f"must be a {kind.__name__}")
        if self.purpose not in _PURPOSES:
            raise EventError("purpose", "not a known purpose-of-use code")
        if not _HEX32.fullmatch(self.correlation_id):
            raise EventError("correlation_id", "must be 32 lower-case hex digits")
        if self.session is not None and not _HEX32.fullmatch(self.session):
            raise EventError("session", "must be 32 lower-case hex digits")
        # Rule 2: erasable content without an owner could never be erased.
        if self.clinical is not None and self.subject is None:
            raise EventError("clinical", "needs a subject whose key encrypts it")
        # Rule 4: the phase is part of what the type means.
        if self.phase is not _PHASES.get(self.event_type, self.phase):
            raise EventError("phase", f"does not fit {self.event_type.value}")
