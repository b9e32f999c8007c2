"""JSON: exact, finite and shallow."""

from __future__ import annotations

import pickle
from decimal import Decimal

import pytest

from fhir_adapters import errors
from fhir_adapters.errors import MalformedResourceError, ResourceTooLargeError
from fhir_adapters.fhir_json import parse_json


def test_fractions_keep_their_digits():
    assert str(parse_json(b'{"value": 1.10}')["value"]) == "1.10"
    assert parse_json(b"1e400") == Decimal("1E+400")
    assert parse_json("\ufeff[1]".encode()) == [1]


@pytest.mark.parametrize("data", [b"NaN", b"[Infinity]", b'{"a": -Infinity}'])
def test_numbers_that_are_none_are_refused(data):
    with pytest.raises(MalformedResourceError) as raised:
        parse_json(data)
    assert raised.value.reason == "not_finite"


@pytest.mark.parametrize(
    "data", [b"", b"{", b"\xff", b'{"a":}', b"1" * 5000, b"<html></html>"]
)
def test_what_is_no_json_is_refused(data):
    with pytest.raises(MalformedResourceError) as raised:
        parse_json(data)
    assert raised.value.reason == "not_json"


@pytest.mark.ssrf("X37")
def test_nesting_is_counted_before_parsing():
    assert parse_json(b"[" * 64 + b"]" * 64)
    with pytest.raises(ResourceTooLargeError):
        parse_json(b"[" * 100_000)
    with pytest.raises(ResourceTooLargeError):
        parse_json(b'{"a":' * 65 + b"1" + b"}" * 65)


def test_brackets_in_strings_and_side_by_side_do_not_count():
    assert parse_json(b'["' + b"[" * 500 + b'\\"[{"]')
    assert len(parse_json(b"[" + b",".join([b"[{}]"] * 500) + b"]")) == 500


def test_unfinished_strings_take_linear_time():
    with pytest.raises(MalformedResourceError):
        parse_json(b"[" * 10 + b'"\\' * 300_000 + b"[" * 60)


def test_every_error_has_a_reason_and_crosses_a_process_border():
    kinds = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.AdapterError)
    ]
    assert len(kinds) >= 12
    for kind in kinds:
        assert kind().reason == kind.default_reason
        again = pickle.loads(pickle.dumps(kind("some_code", "detail")))
        assert (type(again), again.reason) == (kind, "some_code")
        assert str(again) == "some_code: detail"
    timed_out = errors.UpstreamTimeoutError(status=504)
    assert pickle.loads(pickle.dumps(timed_out)).status == 504


@pytest.mark.ssrf("X40")
@pytest.mark.parametrize("data", [b"[{},{},{}]", b"[1,2,3,4,5,6,7,8,9,10,11,12,13,14]"])
def test_an_answer_of_too_many_values_is_refused_before_parsing(data):
    with pytest.raises(ResourceTooLargeError) as raised:
        parse_json(data, max_values=3)
    assert raised.value.reason == "too_many_values"
    assert parse_json(b"[{},{}]", max_values=3) == [{}, {}]
    assert len(parse_json(data)) in (3, 14)
