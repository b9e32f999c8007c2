"""What the CDS Hooks specification lets a machine check, restated over plain JSON.

The twelve invariants of the 3.0 ballot that bind requests, responses and feedback, plus
the rules of 2.0 about single fields. ``broken`` returns the ids of the rules that a
document breaks, so a test fails with the rule's own name.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit


def empties(value: Any, where: str = "$") -> Iterator[str]:
    """Paths of null, "", [] and {} (D4); the list of cards may be empty."""
    if value is None or (value in ("", [], {}) and where != "$.cards" and value != 0):
        yield where
    if isinstance(value, dict):
        for name, item in value.items():
            yield from empties(item, f"{where}.{name}")
    if isinstance(value, list):
        for number, item in enumerate(value):
            yield from empties(item, f"{where}[{number}]")


def absolute(url: Any) -> bool:
    parts = urlsplit(url if isinstance(url, str) else "")
    return parts.scheme in {"http", "https"} and bool(parts.netloc)


def request_broken(body: dict[str, Any]) -> list[str]:
    """cds-r-1 and cds-r-2."""
    broken = []
    authorization = body.get("fhirAuthorization")
    if authorization and not body.get("fhirServer"):
        broken.append("cds-r-1")
    if authorization and "patient/" in authorization.get("scope", ""):
        if not authorization.get("patient"):
            broken.append("cds-r-2")
    return broken


def feedback_broken(body: dict[str, Any]) -> list[str]:
    """cds-fb-1, cds-fb-2 and cds-fb-3."""
    broken = []
    for entry in body.get("feedback", []):
        if entry.get("outcome") not in {"accepted", "overridden"}:
            broken.append("cds-fb-1")
        if entry.get("outcome") == "accepted" and not entry.get("acceptedSuggestions"):
            broken.append("cds-fb-2")
        reason = entry.get("overrideReason")
        if reason is not None and not (
            reason.get("reason") or reason.get("userComment")
        ):
            broken.append("cds-fb-3")
    return broken


def response_broken(body: dict[str, Any]) -> list[str]:
    """Every rule about a response that it breaks; empty when it is good."""
    broken = [f"empty {path}" for path in empties(body)]
    if not isinstance(body.get("cards"), list):
        return [*broken, "K1"]
    for card in body["cards"]:
        broken += list(_card(card))
    for action in body.get("systemActions", []):
        broken += [] if action.get("description") else ["cds-resp-5"]
    return broken


def _card(card: dict[str, Any]) -> Iterator[str]:
    summary = card.get("summary")
    if not isinstance(summary, str) or not 0 < len(summary) < 140:
        yield "K2"
    if card.get("indicator") not in {"info", "warning", "critical"}:
        yield "K3"
    source = card.get("source", {})
    if not source.get("label"):
        yield "K4"
    for name in ("url", "icon"):
        if name in source and not absolute(source[name]):
            yield "K4"
    if not card.get("uuid"):
        yield "K10"
    if not isinstance(card.get("extension", {}), dict):
        yield "K13"
    yield from _suggestions(card)
    yield from _reasons_and_links(card)


def _reasons_and_links(card: dict[str, Any]) -> Iterator[str]:
    for reason in card.get("overrideReasons", []):
        if not all(reason.get(name) for name in ("code", "system", "display")):
            yield "cds-resp-4"
    for link in card.get("links", []):
        if not link.get("label") or not absolute(link.get("url")):
            yield "K9"
        if link.get("type") not in {"absolute", "smart"}:
            yield "K9"
        if "appContext" in link and link.get("type") != "smart":
            yield "cds-resp-3"


def _suggestions(card: dict[str, Any]) -> Iterator[str]:
    suggestions = card.get("suggestions", [])
    behavior = card.get("selectionBehavior")
    if suggestions and behavior not in {"at-most-one", "any"}:
        yield "cds-resp-6"
    recommended = [s for s in suggestions if s.get("isRecommended")]
    if behavior == "at-most-one" and len(recommended) > 1:
        yield "cds-resp-1"
    for suggestion in suggestions:
        if not suggestion.get("label") or not suggestion.get("uuid"):
            yield "K6"
        chosen = suggestion.get("actionSelectionBehavior", "all")
        if chosen not in {"all", "any", "at-most-one"}:
            yield "cds-resp-7"
        for action in suggestion.get("actions", []):
            if not action.get("description"):
                yield "cds-resp-5"
            if action.get("type") == "delete" and (
                "resource" in action or not action.get("resourceId")
            ):
                yield "cds-resp-2"
