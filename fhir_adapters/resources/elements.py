"""Reading plain JSON without believing its shape.

Every function takes ``object`` and checks the type at the step it takes: a list where
an object should be, a number where a string should be and a null read as "not there".
None of them raises on a shape; :func:`canonical_sha256` raises its typed error.
"""

from __future__ import annotations

import hashlib
import json
import re
from decimal import Decimal
from functools import lru_cache
from typing import Any

import orjson

from fhir_adapters.errors import MalformedResourceError

# FHIR R4 2.24 says [A-Za-z0-9\-.]{1,64}; EHRs also send "_" and longer opaque ids.
_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_TYPE = re.compile(r"[A-Z][A-Za-z]{1,63}")
_MAX_TEXT = 4_096
_MAX_ITEMS = 2_000
_MAX_DEPTH = 64

Json = dict[str, Any]


def child(node: object, key: str) -> Json:
    """The object below ``key``, or an empty one."""
    value = node.get(key) if isinstance(node, dict) else None
    return value if isinstance(value, dict) else {}


def children(node: object, key: str) -> list[Json]:
    """The objects in the list below ``key``; entries of other types are left out."""
    value = node.get(key) if isinstance(node, dict) else None
    if not isinstance(value, list):
        return []
    return [item for item in value[:_MAX_ITEMS] if isinstance(item, dict)]


def text(node: object, key: str) -> str:
    """The string below ``key`` without outer space, or an empty one; bounded."""
    value = node.get(key) if isinstance(node, dict) else None
    return value[:_MAX_TEXT].strip() if isinstance(value, str) else ""


def number(node: object, key: str) -> Decimal | None:
    """The finite JSON number below ``key``; a boolean or a string is none."""
    value = node.get(key) if isinstance(node, dict) else None
    if isinstance(value, Decimal):
        return value if value.is_finite() else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, int):
        # str() of a huge integer is refused by the interpreter itself.
        return Decimal(value) if value.bit_length() <= 128 else None
    exact = Decimal(str(value))
    return exact if exact.is_finite() else None


def concept_codings(concept: object) -> list[tuple[str, str]]:
    """(system, code) of each coding of a CodeableConcept."""
    return [
        (text(coding, "system"), code)
        for coding in children(concept, "coding")
        if (code := text(coding, "code"))
    ]


def codings(node: object, key: str) -> list[tuple[str, str]]:
    """(system, code) below ``key``, be it one CodeableConcept or a list of them."""
    value = node.get(key) if isinstance(node, dict) else None
    if isinstance(value, dict):
        return concept_codings(value)
    if not isinstance(value, list):
        return []
    return [coding for item in children(node, key) for coding in concept_codings(item)]


def codes(node: object, key: str) -> frozenset[str]:
    """The codes below ``key``, whatever their system."""
    return frozenset(code for _, code in codings(node, key))


def references(node: object, key: str) -> list[str]:
    """The literal references below ``key``, be it one Reference or a list of them."""
    found = [text(child(node, key), "reference")]
    found.extend(text(item, "reference") for item in children(node, key))
    return [reference for reference in found if reference]


def resource_type(resource: object) -> str:
    """The resource type if it looks like one, else an empty string."""
    return _type_name(text(resource, "resourceType"))


@lru_cache(maxsize=256)
def _type_name(name: str) -> str:
    return name if _TYPE.fullmatch(name) else ""


def resource_id(resource: object) -> str:
    """The logical id if it is safe to quote in references and logs, else empty."""
    value = resource.get("id") if isinstance(resource, dict) else None
    return value if isinstance(value, str) and _ID.fullmatch(value) else ""


def reference_to(resource: object) -> str:
    """``Type/id`` of a resource; a part that is missing or unsafe becomes ``?``."""
    return f"{resource_type(resource) or '?'}/{resource_id(resource) or '?'}"


def local_reference(reference: str) -> str:
    """``Type/id`` of a literal reference, without base and version, else empty."""
    path = reference.split("/_history/", 1)[0]
    parts = path.rsplit("/", 2)[-2:]
    if len(parts) == 2 and _TYPE.fullmatch(parts[0]) and _ID.fullmatch(parts[1]):
        return "/".join(parts)
    return ""


def _too_deep(node: object) -> bool:
    level: list[object] = [node]
    for _ in range(_MAX_DEPTH):
        below: list[object] = []
        for item in level:
            if isinstance(item, dict):
                below.extend(item.values())
            elif isinstance(item, list):
                below.extend(item)
        if not below:
            return False
        level = below
    return True


def canonical_sha256(resource: object) -> str:
    """Digest of a resource as received: sorted keys, no spaces, decimals as text.

    Raises:
        MalformedResourceError: Nested too deep, or no JSON at all.
    """
    try:
        canonical = orjson.dumps(resource, _decimal_text, orjson.OPT_SORT_KEYS)
    except (TypeError, ValueError):
        return hashlib.sha256(_exact_canonical(resource)).hexdigest()
    # Fewer brackets than levels allowed cannot be too deep. A null may have been NaN,
    # which the exact way refuses.
    few = canonical.count(b"{") + canonical.count(b"[") <= _MAX_DEPTH
    if b"null" in canonical or not (few or not _too_deep(resource)):
        canonical = _exact_canonical(resource)
    return hashlib.sha256(canonical).hexdigest()


def _exact_canonical(resource: object) -> bytes:
    """As the fast encoder writes it, with what that one refuses: huge integers.

    Raises:
        MalformedResourceError: As for :func:`canonical_sha256`.
    """
    if _too_deep(resource):
        raise MalformedResourceError("too_deep")
    try:
        return _EXACT.encode(resource).encode("utf-8", "surrogatepass")
    except (TypeError, ValueError) as error:
        raise MalformedResourceError("not_json") from error


def _decimal_text(value: object) -> str:
    if not isinstance(value, Decimal):
        raise TypeError("not JSON")
    return str(value)


_EXACT = json.JSONEncoder(
    sort_keys=True,
    separators=(",", ":"),
    allow_nan=False,
    ensure_ascii=False,
    default=_decimal_text,
)
