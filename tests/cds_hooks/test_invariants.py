"""The checker itself: every rule that it knows must be able to fail."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tests.cds_hooks import invariants

GOOD: dict[str, Any] = {
    "cards": [
        {
            "uuid": "1",
            "summary": "s",
            "indicator": "info",
            "source": {"label": "l", "url": "https://a.example/card"},
            "overrideReasons": [{"code": "c", "system": "s", "display": "d"}],
            "links": [
                {
                    "label": "l",
                    "url": "https://a.example",
                    "type": "smart",
                    "appContext": "x",
                }
            ],
            "suggestions": [
                {
                    "label": "l",
                    "uuid": "2",
                    "isRecommended": True,
                    "actions": [
                        {"type": "delete", "description": "d", "resourceId": "P/1"}
                    ],
                }
            ],
            "selectionBehavior": "at-most-one",
            "extension": {"dev.example": {"a": 0, "b": False}},
        }
    ]
}


def test_a_good_response_breaks_nothing() -> None:
    assert invariants.response_broken(GOOD) == []
    assert invariants.response_broken({"cards": []}) == []


@pytest.mark.parametrize(
    ("path", "value", "rule"),
    [
        (("summary",), "x" * 140, "K2"),
        (("indicator",), "alarm", "K3"),
        (("source", "label"), None, "K4"),
        (("source", "url"), "/relative", "K4"),
        (("uuid",), None, "K10"),
        (("extension",), ["x"], "K13"),
        (("overrideReasons", 0, "display"), None, "cds-resp-4"),
        (("links", 0, "type"), "absolute", "cds-resp-3"),
        (("links", 0, "type"), "other", "K9"),
        (("links", 0, "url"), "x", "K9"),
        (("selectionBehavior",), None, "cds-resp-6"),
        (("suggestions", 0, "uuid"), None, "K6"),
        (("suggestions", 0, "actionSelectionBehavior"), "some", "cds-resp-7"),
        (("suggestions", 0, "actions", 0, "description"), None, "cds-resp-5"),
        (("suggestions", 0, "actions", 0, "resource"), {"a": 1}, "cds-resp-2"),
        (("detail",), "", "empty $.cards[0].detail"),
        (("extension", "dev.example", "a"), [], "empty $.cards[0].extension"),
    ],
)
def test_each_response_rule_can_fail(
    path: tuple[Any, ...], value: Any, rule: str
) -> None:
    body = copy.deepcopy(GOOD)
    target: Any = body["cards"][0]
    for step in path[:-1]:
        target = target[step]
    if value is None:
        del target[path[-1]]
    else:
        target[path[-1]] = value
    assert any(found.startswith(rule) for found in invariants.response_broken(body))


def test_two_recommended_suggestions_break_at_most_one() -> None:
    body = copy.deepcopy(GOOD)
    card = body["cards"][0]
    card["suggestions"].append(copy.deepcopy(card["suggestions"][0]))
    assert "cds-resp-1" in invariants.response_broken(body)
    assert "K1" in invariants.response_broken({})
    assert "cds-resp-5" in invariants.response_broken(
        {"cards": [], "systemActions": [{"type": "create"}]}
    )


def test_request_and_feedback_rules_can_fail() -> None:
    token = {"scope": "patient/*.r", "access_token": "t"}
    assert invariants.request_broken({"fhirAuthorization": token}) == [
        "cds-r-1",
        "cds-r-2",
    ]
    assert invariants.request_broken({"fhirServer": "https://a.example"}) == []
    bad = [{"outcome": "ignored"}, {"outcome": "accepted", "overrideReason": {}}]
    assert invariants.feedback_broken({"feedback": bad}) == [
        "cds-fb-1",
        "cds-fb-2",
        "cds-fb-3",
    ]
