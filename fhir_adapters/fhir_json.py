"""Bytes -> plain JSON, exactly and within bounds.

* Numbers with a fraction become Decimal: 1.10 stays 1.10.
* NaN and Infinity, which Python's parser would take, are refused (RFC 8259 has none).
* Nesting is counted on the bytes before parsing, so that 100,000 brackets cost a scan
  and not the interpreter's stack.
* What comes from a server may hold so many values and no more: five million empty
  objects are 15 MB on the wire, twelve seconds of scanning and 390 MB when parsed.
"""

from __future__ import annotations

import json
from decimal import Decimal, InvalidOperation
from typing import Any

from fhir_adapters.errors import MalformedResourceError, ResourceTooLargeError

MAX_DEPTH = 64
# For an answer of a server; a page of a chart has a few thousand, the metadata of a
# large study some 400,000. Marks in strings count too, which a cap this wide allows.
MAX_ANSWER_VALUES = 500_000
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
# Which kind of bracket does not matter for the depth: the parser checks that.
_AS_SQUARE = bytes.maketrans(b"{}", b"[]")


def _refuse_constant(name: str) -> Any:
    raise MalformedResourceError("not_finite", "NaN or Infinity")


def parse_json(
    data: bytes, *, max_depth: int = MAX_DEPTH, max_values: int | None = None
) -> Any:
    """Parse UTF-8 JSON.

    Args:
        data: The bytes.
        max_depth: Nesting allowed.
        max_values: Objects and lists allowed, and four times as many commas; None for
            no cap, for a file of one's own.

    Raises:
        MalformedResourceError: ``not_json`` or ``not_finite``.
        ResourceTooLargeError: ``too_deep`` or ``too_many_values``.
    """
    if max_values is not None:
        opened = data.count(b"[") + data.count(b"{")
        if opened > max_values or data.count(b",") > 4 * max_values:
            raise ResourceTooLargeError("too_many_values")
    _check_depth(data, max_depth)
    try:
        return json.loads(
            data.decode("utf-8-sig"),
            parse_float=Decimal,
            parse_constant=_refuse_constant,
        )
    except (ValueError, RecursionError, InvalidOperation) as error:
        # ValueError also covers bad UTF-8 and integers of thousands of digits;
        # InvalidOperation is an exponent that no Decimal can hold.
        raise MalformedResourceError("not_json") from error


def _check_depth(data: bytes, max_depth: int) -> None:
    """Raise ``too_deep`` when brackets outside strings nest beyond ``max_depth``.

    Each pass over what is left takes the innermost pair of every branch away, so as
    many passes as levels are allowed leave nothing of a document within the cap.
    """
    # Most answers have fewer brackets than the cap altogether: no scan needed.
    if data.count(b"[") + data.count(b"{") <= max_depth:
        return
    if b"\\" in data:
        data = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    outside = b"".join(data.split(b'"')[::2])
    left = outside.translate(_AS_SQUARE, _NOT_BRACKETS)
    for _ in range(max_depth):
        if not left:
            return
        left = left.replace(b"[]", b"")
    # What is left is too deep, or unbalanced: the parser refuses the latter.
    if b"[]" in left or left.count(b"[") > max_depth:
        raise ResourceTooLargeError("too_deep")
