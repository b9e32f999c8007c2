"""Hostile JSON is refused with one and the same error."""

from __future__ import annotations

import time
from decimal import Decimal

import pytest

from cds_hooks.errors import MalformedRequestError
from cds_hooks.json_body import MAX_DEPTH, parse_object


def test_numbers_keep_their_digits() -> None:
    value = parse_object(b'{"a": 0.10, "b": 7, "c": 1e3}')
    assert str(value["a"]) == "0.10"
    assert value["b"] == 7 and isinstance(value["b"], int)
    assert value["c"] == Decimal(1000)


def nested(depth: int) -> bytes:
    return b'{"a":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"{",
        b'{"a": 1} trailing',
        b'{"a": NaN}',
        b'{"a": 9223372036854775808}',
        b'{"a": -100000000000000000000}',
        b'{"a": -Infinity}',
        b'{"a": 1, "a": 2}',
        b'{"x": {"patientId": "1", "patientId": "2"}}',
        b'{"a": "\\ud800"}',
        b"\xff\xfe{\x00}\x00",
        b'{"a": "\xff"}',
        b'{"a": 1e999999999}',
        b'{"a": 0.' + b"1" * 100 + b"}",
        b'{"a": ' + b"9" * 5000 + b"}",
        nested(MAX_DEPTH + 1),
        nested(100_000),
    ],
)
def test_bad_bodies_are_refused(body: bytes) -> None:
    with pytest.raises(MalformedRequestError) as caught:
        parse_object(body)
    assert caught.value.status == 400


def test_depth_up_to_the_limit_passes() -> None:
    assert "a" in parse_object(nested(MAX_DEPTH))


def test_escapes_that_form_characters_pass() -> None:
    assert parse_object(b'{"a": "\\ud83d\\ude00 \\u00e4"}')["a"] == "\U0001f600 \u00e4"


def test_a_large_flat_body_takes_no_absurd_time() -> None:
    body = b'{"a": [' + b",".join([b'{"v": 1.5}'] * 50_000) + b"]}"
    start = time.process_time()
    assert len(parse_object(body)["a"]) == 50_000
    assert time.process_time() - start < 5.0


def test_the_largest_integer_of_64_bit_is_accepted() -> None:
    assert parse_object(b'{"a": 9223372036854775807}')["a"] == 2**63 - 1
