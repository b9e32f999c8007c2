"""Step 8: the card, as types that cannot hold what the specification forbids.

Each check cites CDS Hooks 2.0 ("Card Attributes", "Source", "Suggestion", "Link") and
the invariants of the 3.0 ballot. Harm behind them: a client must treat a malformed card
as an error, so the clinician sees nothing and reads it as "no risk".

1. K2  ``summary`` is one line of 139 characters at most.
2. K3  ``indicator`` is info or warning. The specification's third word, critical, is
       left out on purpose: no estimate of a model raises an alarm by itself.
3. K4  ``source.label`` is there, its URLs are absolute.
4. K6  cds-resp-6, cds-resp-1: suggestions need a selection behaviour, and at-most-one
       means at most one recommendation.
5. K7  cds-resp-5, cds-resp-2: actions are described; delete carries an id only.
6. K8  cds-resp-4: every override reason has code, system and display.
7. K9  cds-resp-3: ``appContext`` only on smart links.
8. K10 cards and suggestions always have a uuid, without it no feedback comes.
9. D4  nothing null or empty is written; see :func:`without_empties`.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

MAX_SUMMARY = 139


class CardError(ValueError):
    """The card would break the specification; a fault of ours, never of the caller."""


class Indicator(StrEnum):
    """How a card is marked; the automatic part of the system has two words only."""

    INFO = "info"
    WARNING = "warning"


class SelectionBehavior(StrEnum):
    """How many suggestions may be taken."""

    AT_MOST_ONE = "at-most-one"
    ANY = "any"


class LinkType(StrEnum):
    """A plain page, or a SMART app that the EHR launches."""

    ABSOLUTE = "absolute"
    SMART = "smart"


class ActionType(StrEnum):
    """What a suggested action does."""

    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"


def new_uuid() -> str:
    """A fresh identifier of a card or suggestion."""
    return str(uuid.uuid4())


def without_empties(value: Any) -> Any:
    """``value`` without null, "", [] and {} at any depth; false and 0 stay (D4)."""
    if isinstance(value, Mapping):
        kept = {name: without_empties(item) for name, item in value.items()}
        return {name: item for name, item in kept.items() if not _empty(item)}
    if isinstance(value, list | tuple):
        return [i for i in (without_empties(item) for item in value) if not _empty(i)]
    return value


def _empty(value: Any) -> bool:
    return value is None or (isinstance(value, str | dict | list) and not value)


def _require(condition: object, rule: str) -> None:
    if not condition:
        raise CardError(rule)


def _absolute(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme in {"https", "http"} and bool(parts.netloc)


@dataclass(frozen=True, slots=True)
class Coding:
    """A code with its system; ``display`` is what the clinician reads."""

    code: str
    system: str
    display: str = ""

    def __post_init__(self) -> None:
        _require(self.code and self.system, "K8: a coding needs code and system")

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {"code": self.code, "system": self.system, "display": self.display}


@dataclass(frozen=True, slots=True)
class Source:
    """Who is speaking; ``url`` is never about one patient (K4)."""

    label: str
    url: str = ""
    icon: str = ""
    topic: Coding | None = None

    def __post_init__(self) -> None:
        _require(self.label, "K4: a source needs a label")
        for url in filter(None, (self.url, self.icon)):
            _require(_absolute(url), "K4: a source's URLs are absolute")

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "label": self.label,
            "url": self.url,
            "icon": self.icon,
            "topic": self.topic.to_json() if self.topic else None,
        }


@dataclass(frozen=True, slots=True)
class Link:
    """A link below the card; ``app_context`` is opaque and holds no PHI."""

    label: str
    url: str
    type: LinkType
    app_context: str = ""

    def __post_init__(self) -> None:
        _require(self.label, "K9: a link needs a label")
        _require(_absolute(self.url), "K9: a link's URL is absolute")
        smart = self.type is LinkType.SMART
        _require(smart or not self.app_context, "cds-resp-3: appContext needs smart")

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "label": self.label,
            "url": self.url,
            "type": self.type.value,
            "appContext": self.app_context,
        }


@dataclass(frozen=True, slots=True)
class SuggestedAction:
    """One change that a suggestion would make in the EHR."""

    type: ActionType
    description: str
    resource: Mapping[str, Any] | None = None
    resource_id: str = ""

    def __post_init__(self) -> None:
        _require(self.description, "cds-resp-5: an action needs a description")
        if self.type is ActionType.DELETE:
            _require(
                self.resource_id and self.resource is None,
                "cds-resp-2: delete carries resourceId and no resource",
            )
        else:
            _require(self.resource, "K7: create and update carry the whole resource")

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "type": self.type.value,
            "description": self.description,
            "resource": dict(self.resource) if self.resource else None,
            "resourceId": self.resource_id,
        }


@dataclass(frozen=True, slots=True)
class Suggestion:
    """Something the clinician may accept with one click."""

    label: str
    actions: tuple[SuggestedAction, ...] = ()
    recommended: bool = False
    uuid: str = field(default_factory=new_uuid)

    def __post_init__(self) -> None:
        _require(self.label, "K6: a suggestion needs a label")
        _require(self.uuid, "K10: a suggestion needs a uuid")

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "label": self.label,
            "uuid": self.uuid,
            "isRecommended": self.recommended or None,
            "actions": [action.to_json() for action in self.actions],
        }


@dataclass(frozen=True, slots=True)
class Card:
    """One card; ``detail`` is GitHub Flavored Markdown (K5), already escaped."""

    summary: str
    indicator: Indicator
    source: Source
    detail: str = ""
    links: tuple[Link, ...] = ()
    suggestions: tuple[Suggestion, ...] = ()
    selection_behavior: SelectionBehavior | None = None
    override_reasons: tuple[Coding, ...] = ()
    extension: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    uuid: str = field(default_factory=new_uuid)

    def __post_init__(self) -> None:
        _require(0 < len(self.summary) <= MAX_SUMMARY, "K2: 1 to 139 characters")
        _require(self.summary.isprintable(), "K2: the summary is one plain line")
        _require(isinstance(self.indicator, Indicator), "K3: info or warning")
        _require(self.uuid, "K10: a card needs a uuid")
        behavior = self.selection_behavior
        _require(bool(self.suggestions) == bool(behavior), "cds-resp-6")
        recommended = sum(s.recommended for s in self.suggestions)
        single = behavior is SelectionBehavior.AT_MOST_ONE
        _require(not single or recommended <= 1, "cds-resp-1: one recommendation")
        for reason in self.override_reasons:
            _require(reason.display, "cds-resp-4: a reason needs a display")

    def to_json(self) -> dict[str, Any]:
        """The card as the EHR receives it."""
        behavior = self.selection_behavior
        made: dict[str, Any] = without_empties(
            {
                "uuid": self.uuid,
                "summary": self.summary,
                "detail": self.detail,
                "indicator": self.indicator.value,
                "source": self.source.to_json(),
                "suggestions": [s.to_json() for s in self.suggestions],
                "selectionBehavior": behavior.value if behavior else None,
                "overrideReasons": [r.to_json() for r in self.override_reasons],
                "links": [link.to_json() for link in self.links],
                "extension": self.extension,
            }
        )
        return made
