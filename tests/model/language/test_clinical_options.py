"""Options scored for a note: verified sentences with evidence, never an order."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from model.errors import ConfigurationError, NarrativeError
from model.language import clinical_options
from model.language.bert_folder import BertFolder
from model.language.choice.scorer import ChoiceModel
from model.language.clinical_options import ScoredOptions, Topic, scored_options

NOTE = (
    "HISTORY: A tailor of 40 hums at night. He had zorbitis as a child.\n"
    "PLAN: Rest, then lamp therapy on the left side at 12 o'clock.\n"
)
REFERENCE = "DocumentReference/n1"


class Knowing(ChoiceModel):
    """Prefers the second option as long as it reads of the disease."""

    def probabilities(self, questions):  # type: ignore[no-untyped-def]
        rows = []
        for question in questions:
            read = any("zorbitis" in part for part in question.context)
            rest = (0.2 if read else 0.5) / (len(question.options) - 1)
            row = [rest] * len(question.options)
            row[1] = 0.8 if read else 0.5
            rows.append(row)
        return rows


@pytest.fixture
def knowing(tiny_bert: BertFolder) -> ChoiceModel:
    return Knowing(tiny_bert)


@pytest.mark.component("A5")
@pytest.mark.parametrize("topic", Topic)
def test_options_are_shown_as_text_with_the_passage_that_weighed_most(
    topic: Topic, knowing: ChoiceModel
) -> None:
    found = scored_options(
        knowing, NOTE, REFERENCE, ["rest", "ostrafin", "korvex"], topic=topic
    )
    assert found.ranked[0] == ("ostrafin", 0.8)
    assert [name for name, _ in found.ranked] == ["ostrafin", "rest", "korvex"]
    start, end = found.span or (0, 0)
    assert NOTE[start:end] == "He had zorbitis as a child."
    listed, evidence, limits = found.sentences
    assert "\u201costrafin\u201d, \u201crest\u201d, \u201ckorvex\u201d" in listed.text
    assert evidence.evidence == (f"{REFERENCE}#char={start},{end}",)
    assert "\u201cHe had zorbitis as a child.\u201d" in evidence.text
    assert "this is no" in limits.text
    assert all(sentence.evidence for sentence in found.sentences)


def test_the_result_holds_nothing_that_an_order_could_be_made_from() -> None:
    assert {item.name for item in fields(ScoredOptions)} == {
        "ranked",
        "sentences",
        "span",
    }
    source = Path(clinical_options.__file__).read_text(encoding="utf-8")
    for resource in ("MedicationRequest", "ServiceRequest", "suggestions"):
        assert resource not in source


def test_no_passage_is_named_where_none_raises_the_answer(
    knowing: ChoiceModel,
) -> None:
    found = scored_options(knowing, "He hums. He walks.", REFERENCE, ["a", "b"])
    assert found.span is None
    assert [s.template for s in found.sentences] == [
        "treatment_options",
        "treatment_limits",
    ]
    empty = scored_options(knowing, "", REFERENCE, ["a", "b"])
    assert empty.span is None


def test_quotation_marks_of_others_do_not_break_ours(knowing: ChoiceModel) -> None:
    note = "He said \u201czorbitis\u201d twice."
    found = scored_options(
        knowing, note, REFERENCE, ["the \u201cgood\u201d\n one", "b"], ask="What now?"
    )
    assert found.ranked[1][0] == 'the "good" one'
    assert found.span == (0, len(note))
    assert "see its place" in found.sentences[1].text


@pytest.mark.parametrize("options", [[], ["one"], ["one", "one"], ["one", " \n"]])
def test_options_that_cannot_be_compared_are_refused(
    options: list[str], knowing: ChoiceModel
) -> None:
    with pytest.raises(ConfigurationError, match="two options"):
        scored_options(knowing, NOTE, REFERENCE, options)


@pytest.mark.component("A5")
def test_a_sentence_that_its_evidence_does_not_back_is_never_returned(
    knowing: ChoiceModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        clinical_options, "_LIMITS", {Topic.TREATMENT: "Give 500 mg on the right."}
    )
    with pytest.raises(NarrativeError):
        scored_options(knowing, NOTE, REFERENCE, ["a", "b"])
