"""Bytes -> plain JSON, exactly and within bounds.

* Numbers with a fraction become Decimal: 1.10 stays 1.10.
* NaN and Infinity, which Python's parser would take, are refused (RFC 8259 has none).
* Nesting is counted on the bytes before parsing, so that 100,000 brackets cost a scan
  and not the interpreter's stack.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any

from fhir_adapters.errors import MalformedResourceError, ResourceTooLargeError

MAX_DEPTH = 64
# A string that never ends matches up to the end of the data: tried once, not again from
# each quote in it, which would take quadratic time.
_TOKEN = re.compile(
    rb'"(?:[^"\\]|\\.|\\\Z)*+(?:"|\Z)|[\[{]|[\]}]',
    re.DOTALL,
)
_OPENING = (b"[", b"{")
_CLOSING = (b"]", b"}")


def _refuse_constant(name: str) -> Any:
    raise MalformedResourceError("not_finite", "NaN or Infinity")


def parse_json(data: bytes, *, max_depth: int = MAX_DEPTH) -> Any:
    """Parse UTF-8 JSON.

    Raises:
        MalformedResourceError: ``not_json`` or ``not_finite``.
        ResourceTooLargeError: ``too_deep``.
    """
    _check_depth(data, max_depth)
    try:
        return json.loads(
            data.decode("utf-8-sig"),
            parse_float=Decimal,
            parse_constant=_refuse_constant,
        )
    except (ValueError, RecursionError) as error:
        # ValueError also covers bad UTF-8 and integers of thousands of digits.
        raise MalformedResourceError("not_json") from error


def _check_depth(data: bytes, max_depth: int) -> None:
    depth = 0
    # Most answers have fewer brackets than the cap altogether: no scan needed.
    if data.count(b"[") + data.count(b"{") <= max_depth:
        return
    for match in _TOKEN.finditer(data):
        token = match.group()
        if token in _OPENING:
            depth += 1
            if depth > max_depth:
                raise ResourceTooLargeError("too_deep")
        elif token in _CLOSING:
            depth -= 1
