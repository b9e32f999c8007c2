"""The smallest edit: it flips the decision and stays possible."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
import torch

from model.explain import counterfactual as module
from model.explain.asked import Asked
from model.explain.counterfactual import (
    NONE_FOUND,
    _as_reported,
    counterfactual,
)
from model.inference.possible_values import LIMITS
from model.inference.predictor import Predictor
from model.inference.weights import LoadedCheckpoint
from model.jobs.explanation import PhraseScore
from model.synthetic.case import SynthCase
from model.synthetic.emit import to_record


def reached(asked: Asked) -> float:
    return asked.estimate.probability


def test_a_value_edit_flips_the_decision_when_it_is_really_made(
    demo: LoadedCheckpoint, predictor: Predictor, drawn: list[SynthCase]
) -> None:
    flipped = 0
    for case in drawn[:10]:
        record = to_record(case)
        if predictor.predict(record).abstentions:
            continue
        asked = predictor.ask(record)
        threshold = asked.estimate.probability + 0.02  # a decision on the edge
        edit = counterfactual(asked.question, record, demo.vocabulary, threshold, ())
        assert edit.tried > 20
        if edit.kind == NONE_FOUND:
            continue
        assert edit.kind == "value" and edit.after is not None
        assert edit.size > 0 and edit.probability is not None
        limits = LIMITS.get(edit.loinc)
        assert limits is None or limits.low <= edit.after <= limits.high
        assert edit.probability >= threshold > asked.estimate.probability
        (old,) = (
            v
            for v in record.values
            if (v.provenance.reference, v.loinc) == (edit.reference, edit.loinc)
        )
        assert edit.before == float(old.value) and edit.unit == old.unit
        new = replace(old, value=Decimal(repr(edit.after)), interpretation=None)
        values = tuple(new if v is old else v for v in record.values)
        again = predictor.predict(replace(record, values=values))
        if not again.abstentions:
            found = again.estimates[0].probability
            assert found == pytest.approx(edit.probability, abs=1e-3)
            flipped += 1
    assert flipped >= 2


def test_no_smaller_step_on_the_same_way_would_do(
    demo: LoadedCheckpoint, predictor: Predictor, drawn: list[SynthCase]
) -> None:
    for case in drawn:
        record = to_record(case)
        if predictor.predict(record).abstentions:
            continue
        asked = predictor.ask(record)
        threshold = asked.estimate.probability + 0.02
        edit = counterfactual(asked.question, record, demo.vocabulary, threshold, ())
        if edit.kind == "value":
            break
    (token,) = (
        t
        for t, code in enumerate(asked.question.inputs.code[0].tolist())
        if demo.vocabulary.codes[code].loinc == edit.loinc
    )
    edits = [e for e in module._edits(asked.question.inputs, record, demo.vocabulary)]
    same = next(e for e in edits if e.token == token)
    assert edit.before is not None and edit.after is not None
    half = replace(same, after=(edit.before + edit.after) / 2)
    (probability,) = module._after_edits(asked.question, [half])
    assert probability < threshold


def test_a_threshold_out_of_reach_finds_nothing_and_says_how_much_was_tried(
    demo: LoadedCheckpoint, ill: tuple[SynthCase, Asked]
) -> None:
    case, asked = ill
    record = to_record(case)
    found = counterfactual(asked.question, record, demo.vocabulary, 1e-9, ())
    assert found.kind == NONE_FOUND and found.tried > 20
    assert found.probability is None and found.loinc == ""


def note_only(asked: Asked) -> Asked:
    """The same case where only the note may be used."""
    question = replace(asked.question, present=torch.tensor([[False, True, False]]))
    record = replace(asked.record, values=(), images=())
    return replace(asked, question=question, record=record)


def test_without_values_the_shortest_phrase_that_flips_is_taken_out(
    demo: LoadedCheckpoint, ill: tuple[SynthCase, Asked]
) -> None:
    asked = note_only(ill[1])
    note = asked.record.notes[0]
    reference = note.provenance.reference
    second = note.text.index("\n") + 1  # all but the first word
    phrases = (
        PhraseScore(reference, 0, len(note.text), 3.0, 1.0),
        PhraseScore(reference, second, len(note.text), 2.0, 1.0),
        PhraseScore(reference, 0, second - 1, -1.0, 1.0),
    )
    platt = asked.question.calibration.of((False, True, False), asked.question.label)
    with torch.no_grad():
        fused = asked.question.model.fuse(asked.question.tokens, asked.question.present)
    now = platt.probability(float(fused.logits[0, 0]))
    found = counterfactual(
        asked.question, asked.record, demo.vocabulary, now - 0.01, phrases
    )
    assert found.kind == "text" and found.reference == reference
    assert found.probability is not None and found.probability < now - 0.01
    assert found.size == len(note.text[found.start : found.end].split())
    assert (found.start, found.end) == (second, len(note.text))  # not the whole
    assert found.tried == 2
    # What raised it cannot be what has to be taken out to raise it further.
    up = counterfactual(
        asked.question, asked.record, demo.vocabulary, now + 0.01, phrases[:2]
    )
    assert up.kind == NONE_FOUND and up.tried == 0


def test_phrases_that_do_not_flip_are_counted(
    demo: LoadedCheckpoint, ill: tuple[SynthCase, Asked]
) -> None:
    asked = note_only(ill[1])
    reference = asked.record.notes[0].provenance.reference
    one = (PhraseScore(reference, 0, 1, 1.0, 1.0),)
    found = counterfactual(asked.question, asked.record, demo.vocabulary, 1e-9, one)
    assert (found.kind, found.tried) == (NONE_FOUND, 1)


@pytest.mark.parametrize(
    ("before", "after", "shown"),
    [
        ("14.0", 12.34, 12.3),
        ("14.0", 15.61, 15.7),
        ("140", 133.2, 133.0),
        ("1E+2", 133.2, 134.0),
    ],
)
def test_a_number_is_reported_as_the_laboratory_would(
    before: str, after: float, shown: float
) -> None:
    assert _as_reported(Decimal(before), after) == shown
