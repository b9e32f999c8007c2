"""A CDS Hooks card as this EHR shows it: checked, with its Markdown made safe.

A card comes from outside, and its words may come from a note. So: Markdown is rendered
with raw HTML switched off (it shows as text), images are not loaded, only http and
https addresses become links, and a card that lacks what CDS Hooks 2.0 requires
(``#card-attributes``) is shown as a broken card instead of being half-rendered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

INDICATORS = {"info": "Information", "warning": "Warning", "critical": "Critical"}

_MARKDOWN = (
    MarkdownIt("commonmark", {"html": False})
    .enable(["table", "strikethrough"])
    .disable("image")
)


@dataclass(frozen=True, slots=True)
class LinkView:
    """A link of a card; a SMART link goes through our own launch route."""

    index: int
    label: str
    url: str
    smart: bool


@dataclass(frozen=True, slots=True)
class SuggestionView:
    """A suggestion and what it would do, in words."""

    index: int
    label: str
    recommended: bool
    actions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CardView:
    """One card ready for the template; ``problem`` is set for a broken one."""

    index: int
    indicator: str
    indicator_text: str
    summary: str
    detail: Markup
    source_label: str
    source_url: str
    links: tuple[LinkView, ...]
    suggestions: tuple[SuggestionView, ...]
    reasons: tuple[str, ...]
    can_report: bool
    problem: str = ""


def render_markdown(text: str) -> Markup:
    """Sanitised HTML of GitHub-flavoured Markdown."""
    tokens = _MARKDOWN.parse(text)
    _tame(tokens)
    return Markup(_MARKDOWN.renderer.render(tokens, _MARKDOWN.options, {}))  # nosec


def view_card(index: int, card: dict[str, Any]) -> CardView:
    """The view of one card."""
    source: Any = card.get("source")
    source = source if isinstance(source, dict) else {}
    indicator = card.get("indicator")
    shown = indicator if indicator in INDICATORS else "info"
    return CardView(
        index=index,
        indicator=str(shown),
        indicator_text=INDICATORS[str(shown)],
        summary=str(card.get("summary") or "(no summary)"),
        detail=render_markdown(str(card.get("detail") or "")),
        source_label=str(source.get("label") or "unknown source"),
        source_url=safe_url(source.get("url")),
        links=_links(card),
        suggestions=_suggestions(card),
        reasons=tuple(str(r.get("display")) for r in override_reasons(card)),
        can_report=isinstance(card.get("uuid"), str),
        problem=_problem(card, source),
    )


def safe_url(url: Any) -> str:
    """The address if it is http or https, else nothing."""
    if not isinstance(url, str):
        return ""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return url if parts.scheme in ("http", "https") and parts.netloc else ""


def override_reasons(card: dict[str, Any]) -> list[dict[str, Any]]:
    """The card's override reasons that are well formed."""
    found = card.get("overrideReasons")
    return [r for r in _dicts(found) if r.get("code") and r.get("display")]


def suggestions(card: dict[str, Any]) -> list[dict[str, Any]]:
    """The card's suggestions."""
    return _dicts(card.get("suggestions"))


def links(card: dict[str, Any]) -> list[dict[str, Any]]:
    """The card's links."""
    return _dicts(card.get("links"))


def _problem(card: dict[str, Any], source: dict[str, Any]) -> str:
    """What makes the card break the specification; "" when it is fine."""
    summary = card.get("summary")
    if not isinstance(summary, str) or not summary:
        return "it has no summary"
    if len(summary) >= 140:
        return "its summary is longer than 139 characters"
    if card.get("indicator") not in INDICATORS:
        return "its indicator is unknown"
    if not source.get("label"):
        return "its source has no label"
    behaviour = card.get("selectionBehavior")
    if suggestions(card) and behaviour not in ("at-most-one", "any"):
        return "its selectionBehavior is missing or unknown"
    return ""


def _links(card: dict[str, Any]) -> tuple[LinkView, ...]:
    shown = []
    for index, link in enumerate(links(card)):
        url = safe_url(link.get("url"))
        if url:
            smart = link.get("type") == "smart"
            shown.append(LinkView(index, str(link.get("label") or url), url, smart))
    return tuple(shown)


def _suggestions(card: dict[str, Any]) -> tuple[SuggestionView, ...]:
    return tuple(
        SuggestionView(
            index=index,
            label=str(item.get("label") or "Suggestion"),
            recommended=item.get("isRecommended") is True,
            actions=tuple(
                str(a.get("description") or a.get("type"))
                for a in _dicts(item.get("actions"))
            ),
        )
        for index, item in enumerate(suggestions(card))
    )


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [v for v in value if isinstance(v, dict)] if isinstance(value, list) else []


def _tame(tokens: Sequence[Token]) -> None:
    """Headings below the card's own, links that open apart, no inline styles."""
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1]) + 3)}"
        style = token.attrs.pop("style", None)
        if style:
            token.attrSet("class", str(style).replace("text-align:", "align-"))
        if token.type == "link_open":
            if not safe_url(token.attrGet("href")):
                token.attrs.pop("href", None)
            token.attrSet("target", "_blank")
            token.attrSet("rel", "noopener noreferrer")
        _tame(token.children or [])
