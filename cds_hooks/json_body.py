"""JSON from a stranger, with limits, before anybody looks into it.

Decimal numbers keep their digits (a dose of 0.10 is not 0.1). Refused, each with one
and the same 400: text that is not UTF-8, NaN and Infinity, nesting deeper than FHIR
needs (attack: exhausting the stack of whoever walks the tree), a key twice in one
object (attack: a gateway that checked the first patient id while we use the second),
numbers with absurd exponents (attack: one short text that becomes gigabytes), integers
beyond 64 bit and escaped half characters, which no digest, database or log can hold.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any, NoReturn

from cds_hooks.errors import MalformedRequestError

MAX_DEPTH = 48
MAX_NUMBER_CHARACTERS = 64
MAX_EXPONENT = 400
MAX_INTEGER = 2**63 - 1


def parse_object(body: bytes) -> dict[str, Any]:
    """The JSON object in ``body``.

    Raises:
        MalformedRequestError: it is not one, or breaks a limit.
    """
    try:
        value = json.loads(
            body.decode("utf-8"),
            parse_float=_decimal,
            parse_int=_integer,
            parse_constant=_refuse,
            object_pairs_hook=_unique,
        )
        if b"\\u" in body:
            json.dumps(value, ensure_ascii=False, default=str).encode("utf-8")
    except (ValueError, RecursionError) as error:
        raise MalformedRequestError("The body is not valid JSON.") from error
    if not isinstance(value, dict):
        raise MalformedRequestError("The body must be a JSON object.")
    if _deeper_than(value, MAX_DEPTH):
        raise MalformedRequestError("The body is nested too deeply.")
    return value


def _integer(text: str) -> int:
    number = int(text)
    if abs(number) > MAX_INTEGER:
        raise ValueError("integer too large")
    return number


def _decimal(text: str) -> Decimal:
    if len(text) > MAX_NUMBER_CHARACTERS:
        raise ValueError("number too long")
    number = Decimal(text)
    if number and abs(number.adjusted()) > MAX_EXPONENT:
        raise ValueError("exponent too large")
    return number


def _refuse(text: str) -> NoReturn:
    raise ValueError("not a JSON number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a key is there twice")
    return made


def _deeper_than(value: Any, limit: int) -> bool:
    """True when containers nest deeper; goes level by level, so it cannot recurse."""
    level = [value]
    for _ in range(limit):
        level = [
            child
            for node in level
            for child in (node.values() if isinstance(node, dict) else node)
            if isinstance(child, dict | list)
        ]
        if not level:
            return False
    return True
