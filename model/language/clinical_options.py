"""Options for a treatment or a diagnosis, scored against a note and shown as text.

Rules this module enforces (harm in brackets):

- The result holds sentences and scores, and nothing that an order could be made from
  (a model that orders).
- Every sentence names its evidence and passes the verifier of explanations before it is
  returned; the last one says that this is no order (words taken for advice).
- The passage of the note that weighed most is quoted with its place; where no passage
  raised the first option, none is named (invented reasons).

The head reads a bounded number of word pieces, so what it reads of a long note is its
extractive summary (:mod:`model.language.summary`), sentence by sentence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from fhir_adapters.patient_record import Section
from model.errors import ConfigurationError
from model.explain.verifier import Fact, verify
from model.jobs.explanation import Sentence
from model.language.choice.evidence import ChoiceAnswer, answer
from model.language.choice.scorer import ChoiceModel
from model.language.corpora.questions import ChoiceQuestion
from model.language.summary import summarise

#: Most sentences of the note that are read.
SENTENCES_READ = 6
_OPEN, _CLOSE = "\u201c", "\u201d"


class Topic(StrEnum):
    """What the options are about."""

    TREATMENT = "treatment"
    DIAGNOSIS = "diagnosis"


QUESTIONS = {
    Topic.TREATMENT: "Which treatment fits this patient best?",
    Topic.DIAGNOSIS: "Which diagnosis explains these findings best?",
}
_LIMITS = {
    Topic.TREATMENT: (
        "Options scored by a language model, shown as text for a clinician to judge; "
        "this is no order and no recommendation."
    ),
    Topic.DIAGNOSIS: (
        "Options scored by a language model, shown as text for a clinician to judge; "
        "this is no diagnosis."
    ),
}


@dataclass(frozen=True, slots=True)
class ScoredOptions:
    """Options by falling share of 1, and the verified sentences that may be shown.

    ``span`` bounds the passage of the note that weighed most, None where none did.
    """

    ranked: tuple[tuple[str, float], ...]
    sentences: tuple[Sentence, ...]
    span: tuple[int, int] | None


def scored_options(
    model: ChoiceModel,
    note: str,
    reference: str,
    options: Sequence[str],
    *,
    topic: Topic = Topic.TREATMENT,
    ask: str = "",
    sections: Sequence[Section] = (),
) -> ScoredOptions:
    """Score options for a note, with the passage that weighed most.

    Args:
        model: A trained head.
        note: The note's text.
        reference: Its FHIR reference, for the evidence ids.
        options: At least two, each said once.
        topic: What they are about.
        ask: The question; that of the topic when empty.
        sections: Headed parts of the note, where known.

    Raises:
        ConfigurationError: fewer than two different options, or an empty one.
        NarrativeError: a sentence that its evidence does not back.
    """
    plain = [_quotable(option) for option in options]
    if len(set(plain)) != len(plain) or len(plain) < 2 or not all(plain):
        raise ConfigurationError("at least two options are needed, all different")
    read = summarise(note, sections=sections, limit=SENTENCES_READ)
    context = tuple(note[part.start : part.end] for part in read)
    asked = ChoiceQuestion("", ask or QUESTIONS[topic], tuple(plain), 0, context)
    found = answer(model, asked)
    span = _place(found, [part.start for part in read])
    ranked = sorted(zip(plain, found.shares), key=lambda item: -item[1])
    sentences, facts = _sentences(topic, reference, note, span, ranked)
    for sentence in sentences:
        verify(sentence, facts)
    return ScoredOptions(tuple(ranked), sentences, span)


def _quotable(option: str) -> str:
    """The option on one line, without the marks that quotations are set in."""
    return " ".join(option.replace(_OPEN, '"').replace(_CLOSE, '"').split())


def _place(found: ChoiceAnswer, starts: Sequence[int]) -> tuple[int, int] | None:
    """The passage's place in the note."""
    passage = found.evidence
    if passage is None or passage.part != "context":
        return None
    start = starts[passage.index]
    return start + passage.start, start + passage.end


def _sentences(
    topic: Topic,
    reference: str,
    note: str,
    span: tuple[int, int] | None,
    ranked: Sequence[tuple[str, float]],
) -> tuple[tuple[Sentence, ...], dict[str, Fact]]:
    """What may be shown, and what vouches for it."""
    key = f"{reference}#options"
    facts = {key: Fact(quotes=frozenset(option for option, _ in ranked))}
    listed = ", ".join(f"{_OPEN}{option}{_CLOSE}" for option, _ in ranked)
    told = (
        f"{topic.capitalize()} options for discussion, highest score first: {listed}."
    )
    sentences = [Sentence(f"{topic}_options", told, (key,))]
    if span is not None:
        words = note[span[0] : span[1]]
        place = f"{reference}#char={span[0]},{span[1]}"
        facts[place] = Fact(quotes=frozenset({words}))
        if _OPEN in words or _CLOSE in words:  # a quotation within a quotation
            told = "One passage of the note weighed most; see its place in the note."
        else:
            told = f"This passage of the note weighed most: {_OPEN}{words}{_CLOSE}."
        sentences.append(Sentence(f"{topic}_evidence", told, (place,)))
    sentences.append(Sentence(f"{topic}_limits", _LIMITS[topic], (key,)))
    return tuple(sentences), facts
