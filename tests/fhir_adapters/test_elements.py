"""Plain JSON read without belief, and its digest by two encoders."""

from __future__ import annotations

import hashlib
import json
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_adapters.errors import MalformedResourceError, ResourceTooLargeError
from fhir_adapters.fhir_json import parse_json
from fhir_adapters.resources import elements
from fhir_adapters.resources.elements import canonical_sha256, codings, number

WORDS = st.text(st.sampled_from('[]{}"\\a,\u00e9 '), max_size=6)
JSON = st.recursive(
    st.booleans() | st.integers(-(2**63), 2**63 - 1) | WORDS,
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=25,
)


def levels(node: object) -> int:
    if isinstance(node, dict):
        return 1 + max((levels(item) for item in node.values()), default=0)
    if isinstance(node, list):
        return 1 + max((levels(item) for item in node), default=0)
    return 0


@settings(max_examples=400, deadline=None)
@given(JSON, st.integers(1, 6), st.booleans())
def test_depth_is_counted_outside_strings_whatever_they_hold(made, cap, ascii_only):
    data = json.dumps(made, ensure_ascii=ascii_only).encode()
    if levels(made) <= cap:
        assert parse_json(data, max_depth=cap) == made
    else:
        with pytest.raises(ResourceTooLargeError):
            parse_json(data, max_depth=cap)


@settings(max_examples=300, deadline=None)
@given(JSON)
def test_both_encoders_give_one_digest(made):
    exact = elements._exact_canonical(made)
    assert canonical_sha256(made) == hashlib.sha256(exact).hexdigest()


def test_a_digest_keeps_digits_order_and_what_the_fast_encoder_refuses():
    assert canonical_sha256({"b": 1, "a": 2}) == canonical_sha256({"a": 2, "b": 1})
    assert canonical_sha256({"v": Decimal("1.10")}) != canonical_sha256(
        {"v": Decimal("1.1")}
    )
    for made in ({"v": 10**400}, {"v": "\ud800"}, {"v": None}):
        assert canonical_sha256(made) != canonical_sha256({"v": 0})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, b"x"])
def test_what_is_no_json_has_no_digest(value):
    with pytest.raises(MalformedResourceError) as raised:
        canonical_sha256({"v": value})
    assert raised.value.reason == "not_json"


@pytest.mark.parametrize("levels_made", [65, 200, 900])
def test_what_is_too_deep_has_no_digest(levels_made):
    made: object = 1
    for _ in range(levels_made):
        made = [made]
    with pytest.raises(MalformedResourceError) as raised:
        canonical_sha256({"v": made})
    assert raised.value.reason == "too_deep"


def test_codings_are_read_from_a_concept_or_a_list_of_them():
    one = {"coding": [{"system": "s", "code": "c"}, {"code": ""}, 5]}
    assert codings({"k": one}, "k") == [("s", "c")]
    assert codings({"k": [one, "x", one]}, "k") == [("s", "c")] * 2
    for wrong in ("x", 5, None, {}, [], {"coding": {}}):
        assert codings({"k": wrong}, "k") == []
    assert codings(["k"], "k") == []


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1, Decimal(1)),
        (1.5, Decimal("1.5")),
        (Decimal("1.10"), Decimal("1.10")),
        (True, None),
        ("1", None),
        (float("nan"), None),
        (Decimal("Infinity"), None),
        (2**200, None),
    ],
)
def test_only_a_finite_number_is_one(value, expected):
    found = number({"k": value}, "k")
    assert found == expected and str(found) == str(expected)
