"""The card types refuse what the specification forbids."""

from __future__ import annotations

from typing import Any

import pytest

from cds_hooks.card import (
    ActionType,
    Card,
    CardError,
    Coding,
    Indicator,
    Link,
    LinkType,
    SelectionBehavior,
    Source,
    SuggestedAction,
    Suggestion,
    without_empties,
)
from tests.cds_hooks.invariants import response_broken

SOURCE = Source("Trivium", "https://cds.example/model-card")


def card(**more: Any) -> Card:
    given: dict[str, Any] = {
        "summary": "s",
        "indicator": Indicator.INFO,
        "source": SOURCE,
    }
    return Card(**{**given, **more})


def test_a_full_card_keeps_every_invariant() -> None:
    made = card(
        detail="text",
        links=(Link("l", "https://cds.example/smart", LinkType.SMART, "opaque"),),
        suggestions=(
            Suggestion(
                "s",
                (SuggestedAction(ActionType.DELETE, "d", resource_id="Task/1"),),
                recommended=True,
            ),
            Suggestion(
                "t",
                (SuggestedAction(ActionType.CREATE, "d", {"resourceType": "Task"}),),
            ),
        ),
        selection_behavior=SelectionBehavior.AT_MOST_ONE,
        override_reasons=(Coding("c", "https://codes.example", "display"),),
        extension={"dev.example": {"zero": 0, "no": False, "none": None, "list": []}},
        source=Source(
            "l",
            "https://a.example",
            "https://a.example/icon.png",
            Coding("t", "https://codes.example"),
        ),
    ).to_json()
    assert response_broken({"cards": [made]}) == []
    assert made["extension"] == {"dev.example": {"zero": 0, "no": False}}
    assert made["source"]["topic"] == {"code": "t", "system": "https://codes.example"}


def test_uuids_are_always_there_and_differ() -> None:
    assert card().to_json()["uuid"] != card().to_json()["uuid"]
    assert Suggestion("s").to_json()["uuid"] != Suggestion("s").to_json()["uuid"]


@pytest.mark.parametrize("length", [1, 139])
def test_summaries_of_allowed_length_pass(length: int) -> None:
    assert card(summary="x" * length).to_json()["summary"] == "x" * length


@pytest.mark.parametrize("summary", ["", "x" * 140, "two\nlines", "bell\x07"])
def test_other_summaries_are_refused(summary: str) -> None:
    with pytest.raises(CardError, match="K2"):
        card(summary=summary)


def test_critical_cannot_be_expressed() -> None:
    assert {member.value for member in Indicator} == {"info", "warning"}
    with pytest.raises(CardError, match="K3"):
        card(indicator="critical")


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (lambda: Coding("", "s"), "K8"),
        (lambda: Coding("c", ""), "K8"),
        (lambda: Source(""), "K4"),
        (lambda: Source("l", "/relative"), "K4"),
        (lambda: Source("l", icon="data:image/png;base64,xx"), "K4"),
        (lambda: Link("", "https://a.example", LinkType.SMART), "K9"),
        (lambda: Link("l", "javascript:alert(1)", LinkType.ABSOLUTE), "K9"),
        (lambda: Link("l", "https://a.example", LinkType.ABSOLUTE, "x"), "cds-resp-3"),
        (lambda: Suggestion(""), "K6"),
        (lambda: Suggestion("s", uuid=""), "K10"),
        (lambda: SuggestedAction(ActionType.CREATE, ""), "cds-resp-5"),
        (lambda: SuggestedAction(ActionType.CREATE, "d"), "K7"),
        (lambda: SuggestedAction(ActionType.UPDATE, "d"), "K7"),
        (lambda: SuggestedAction(ActionType.DELETE, "d"), "cds-resp-2"),
        (
            lambda: SuggestedAction(ActionType.DELETE, "d", {"a": 1}, "Task/1"),
            "cds-resp-2",
        ),
        (lambda: card(uuid=""), "K10"),
        (lambda: card(suggestions=(Suggestion("s"),)), "cds-resp-6"),
        (lambda: card(selection_behavior=SelectionBehavior.ANY), "cds-resp-6"),
        (
            lambda: card(
                suggestions=(
                    Suggestion("s", recommended=True),
                    Suggestion("t", recommended=True),
                ),
                selection_behavior=SelectionBehavior.AT_MOST_ONE,
            ),
            "cds-resp-1",
        ),
        (lambda: card(override_reasons=(Coding("c", "s"),)), "cds-resp-4"),
    ],
)
def test_each_rule_is_enforced(make: Any, rule: str) -> None:
    with pytest.raises(CardError, match=rule):
        make()


def test_any_number_may_be_recommended_under_any() -> None:
    made = card(
        suggestions=(
            Suggestion("s", recommended=True),
            Suggestion("t", recommended=True),
        ),
        selection_behavior=SelectionBehavior.ANY,
    )
    assert response_broken({"cards": [made.to_json()]}) == []


def test_empties_go_at_any_depth_and_zero_and_false_stay() -> None:
    given = {"a": {"b": {"c": []}}, "d": [None, "", 0, False, {"e": None}], "f": ()}
    assert without_empties(given) == {"d": [0, False]}
