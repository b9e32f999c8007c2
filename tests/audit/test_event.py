"""Events refuse what must not be recorded."""

from __future__ import annotations

import pytest

from audit.errors import EventError
from audit.event import Agent, EventType, Identifier, ModelRef, Phase, Subject
from audit.vocabulary import Action, CodedWord, Outcome, Purpose
from tests.audit.conftest import make_event


@pytest.mark.control("H2")
@pytest.mark.parametrize("value", ["", "   ", None, 7, "x" * 513])
def test_no_principal_no_record(value: object) -> None:
    with pytest.raises(EventError) as caught:
        Agent("human", "https://ehr.example", value)
    assert caught.value.field == "agent.value"
    with pytest.raises(EventError):
        Subject("https://ehr.example", value)


def test_principals_are_typed() -> None:
    with pytest.raises(EventError) as caught:
        Agent("robot", "https://ehr.example", "r2")
    assert caught.value.field == "agent.kind"


@pytest.mark.control("G1")
@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"purpose": ""}, "purpose"),
        ({"purpose": "MARKETING"}, "purpose"),
        ({"lawful_basis": None}, "lawful_basis"),
        ({"correlation_id": "ABC"}, "correlation_id"),
        ({"session": "not hex"}, "session"),
        ({"event_type": "cds.intent"}, "event_type"),
        ({"subject": None}, "clinical"),
        ({"event_type": EventType.CDS_INTENT}, "phase"),
        ({"event_type": EventType.CDS_OUTCOME, "phase": Phase.INTENT}, "phase"),
    ],
)
def test_rules_across_fields(change: dict[str, object], field: str) -> None:
    with pytest.raises(EventError) as caught:
        make_event(**change)
    assert caught.value.field == field


def test_a_model_needs_its_digest() -> None:
    with pytest.raises(EventError):
        ModelRef("m", "1", "AB" * 32, "cpu")
    with pytest.raises(EventError):
        ModelRef("", "1", "ab" * 32, "cpu")


@pytest.mark.parametrize("words", CodedWord.__subclasses__())
def test_codes_are_unique_and_lead_back(words: type[CodedWord]) -> None:
    codes = [word.code for word in words]
    assert len(set(codes)) == len(codes) and min(codes) > 0
    assert [words.from_code(code) for code in codes] == list(words)
    with pytest.raises(ValueError):
        words.from_code(0)


def test_codes_of_released_words_do_not_move() -> None:
    assert EventType("cds.intent").code == 10
    assert EventType("audit.query").code == 80
    assert (Action("E").code, Outcome("unknown").code, Purpose("TREAT").code) == (
        5,
        4,
        1,
    )


def test_identifiers_are_values() -> None:
    assert Identifier("a", "b") == Identifier("a", "b")
