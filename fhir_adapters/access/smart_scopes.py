"""SMART scopes: their grammar, and whether what was granted covers what was asked.

SMART App Launch 2.2, "Scopes": version 2 writes rights as letters in the order c, r, u,
d, s; version 1 wrote "read", "write" and "*". Checklist S17 and S24.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_CLINICAL = re.compile(
    r"(?P<level>patient|user|system)/(?P<type>[A-Z][A-Za-z]+|\*)"
    r"\.(?P<rights>c?r?u?d?s?|read|write|\*)"
    r"(?:\?(?P<query>[^\s?]+=[^\s]+))?"
)
_VERSION_1 = {"read": "rs", "write": "cud", "*": "cruds"}


@dataclass(frozen=True, slots=True)
class ClinicalScope:
    """One scope for FHIR data; ``rights`` in version 2 letters."""

    level: str
    resource_type: str
    rights: str
    query: str = ""


def parse_scope(text: str) -> ClinicalScope | None:
    """Read a clinical scope, None when ``text`` is another kind of scope or none."""
    match = _CLINICAL.fullmatch(text)
    if match is None or not match["rights"]:
        return None
    rights = _VERSION_1.get(match["rights"], match["rights"])
    return ClinicalScope(match["level"], match["type"], rights, match["query"] or "")


def covers(granted: str, requested: str) -> bool:
    """True when the scopes ``granted`` include all of one ``requested`` scope."""
    wanted = parse_scope(requested)
    if wanted is None:
        return requested in granted.split()
    missing = set(wanted.rights)
    for text in granted.split():
        have = parse_scope(text)
        if have is None or have.level != wanted.level:
            continue
        # A granted query narrows the grant, so it covers only the same query.
        same_type = have.resource_type in {"*", wanted.resource_type}
        if same_type and have.query in {"", wanted.query}:
            missing -= set(have.rights)
    return not missing


def missing_scopes(granted: str, requested: str) -> tuple[str, ...]:
    """The requested scopes that were not granted, in order."""
    return tuple(scope for scope in requested.split() if not covers(granted, scope))


def as_version_1(requested: str) -> str:
    """The same request for a server of version 1 only (S4): ".rs" becomes ".read"."""
    converted = []
    for text in requested.split():
        scope = parse_scope(text)
        if scope is None:
            converted.append(text)
            continue
        converted.append(f"{scope.level}/{scope.resource_type}.{_old_right(scope)}")
    return " ".join(dict.fromkeys(converted))


def _old_right(scope: ClinicalScope) -> str:
    """The narrowest version 1 right that includes the version 2 letters."""
    letters = set(scope.rights)
    if letters <= set("rs"):
        return "read"
    return "write" if letters <= set("cud") else "*"
