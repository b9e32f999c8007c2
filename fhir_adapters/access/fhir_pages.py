"""Pages of a search: what has come, why no more is wanted, what belongs to whom.

Paging ends (attack: a server whose ``next`` never ends): at the page cap, at the entry
cap, at the byte cap, at a link seen before, at the deadline. What is missing is said.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fhir_adapters.bundle import entry_refusal, walk
from fhir_adapters.resources.elements import (
    children,
    resource_id,
    resource_type,
    text,
)

MAX_ENTRIES = 10_000
MAX_SEARCH_BYTES = 48 * 1024 * 1024
_MAX_REFERENCE_DEPTH = 64


@dataclass(frozen=True, slots=True)
class SearchPages:
    """Bundles of one search; ``incomplete`` is a reason code when some are missing."""

    bundles: tuple[dict[str, Any], ...]
    incomplete: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """A search with its includes.

    Attributes:
        matches: Resources of the type asked for.
        included: Others by ``Type/id``, only those that a match refers to: a server
            that sends a stranger's resource along gains nothing by it.
        incomplete: As :class:`SearchPages`.
    """

    matches: tuple[dict[str, Any], ...]
    included: Mapping[str, dict[str, Any]]
    incomplete: str = ""


@dataclass(slots=True)
class Pages:
    """Pages so far and why no more are wanted."""

    bundles: list[dict[str, Any]] = field(default_factory=list)
    incomplete: str = ""
    _seen: set[str] = field(default_factory=set)
    _entries: int = 0
    _bytes: int = 0

    def add(
        self,
        url: str,
        bundle: dict[str, Any],
        following: str,
        *,
        size: int,
        max_pages: int,
    ) -> None:
        """Take one page of ``size`` bytes from ``url``; ``following`` is its next."""
        self.bundles.append(bundle)
        self._seen.add(url)
        entries = bundle.get("entry")
        self._entries += len(entries) if isinstance(entries, list) else 0
        self._bytes += size
        if following in self._seen:
            self.incomplete = "next_loop"
        elif following and len(self.bundles) >= max_pages:
            self.incomplete = "page_cap"
        elif following and self._entries >= MAX_ENTRIES:
            self.incomplete = "entry_cap"
        elif following and self._bytes >= MAX_SEARCH_BYTES:
            self.incomplete = "byte_cap"


def next_link(bundle: Mapping[str, Any]) -> str:
    """The URL of the ``next`` link, empty on the last page."""
    for link in children(bundle, "link"):
        if text(link, "relation") == "next":
            return text(link, "url")
    return ""


def matches_of(pages: SearchPages, kind: str) -> list[dict[str, Any]]:
    """The matching resources of type ``kind``; includes and outcomes left out."""
    return [
        entry.resource
        for bundle in pages.bundles
        for entry in walk(bundle, "fhir")
        if resource_type(entry.resource) == kind and not entry_refusal(entry)
    ]


def found_in(pages: SearchPages, kind: str, base_url: str) -> Found:
    """Matches, and of everything else only what a match refers to on this server."""
    matches = matches_of(pages, kind)
    wanted: set[str] = set()
    for match in matches:
        wanted |= _references(match, base_url)
    included: dict[str, dict[str, Any]] = {}
    for bundle in pages.bundles:
        for entry in walk(bundle, "fhir"):
            key = f"{resource_type(entry.resource)}/{resource_id(entry.resource)}"
            if entry.search_mode == "include" and key in wanted:
                included.setdefault(key, entry.resource)
    return Found(tuple(matches), included, pages.incomplete)


def _references(resource: dict[str, Any], base_url: str) -> set[str]:
    """Every ``reference`` in ``resource`` to this server, as ``Type/id``."""
    found: set[str] = set()
    left: list[tuple[object, int]] = [(resource, 0)]
    while left:
        node, depth = left.pop()
        if depth > _MAX_REFERENCE_DEPTH:
            continue
        if isinstance(node, dict):
            reference = text(node, "reference").removeprefix(base_url + "/")
            found.add(reference.split("/_history/", 1)[0])
            left.extend((value, depth + 1) for value in node.values())
        elif isinstance(node, list):
            left.extend((value, depth + 1) for value in node)
    return found
