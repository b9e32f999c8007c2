"""Answers with the passage that they rest on.

Evidence is found by leaving out: each sentence of the context (or, without context, of
the question) is removed in turn, and the one whose loss lowers the chosen option's
score most is named with its id and its place. A sentence that only raises the score
when it is gone is no evidence; then none is named.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from model.language.choice.scorer import ChoiceModel
from model.language.corpora.questions import ChoiceQuestion
from model.language.sentences import sentence_bounds


@dataclass(frozen=True, slots=True)
class Passage:
    """Characters ``start`` to ``end`` of one part of the question.

    ``part`` is "context" or "question"; ``index`` the number of the context passage
    (0 for the question), ``sentence`` the number of the sentence in it.
    """

    part: str
    index: int
    sentence: int
    start: int
    end: int

    @property
    def evidence_id(self) -> str:
        """For example "context/1#sentence=0&char=0,57"."""
        place = f"sentence={self.sentence}&char={self.start},{self.end}"
        return f"{self.part}/{self.index}#{place}"


@dataclass(frozen=True, slots=True)
class ChoiceAnswer:
    """What was chosen, the share of every option, and what it rests on.

    ``support`` is by how much the chosen option's share falls without the passage.
    """

    chosen: int
    shares: tuple[float, ...]
    evidence: Passage | None
    support: float

    @property
    def evidence_id(self) -> str:
        """Of the passage; of the question as a whole where none stands out."""
        return self.evidence.evidence_id if self.evidence else "question/0"


def answer(model: ChoiceModel, question: ChoiceQuestion) -> ChoiceAnswer:
    """Choose an option and name the sentence that it rests on most."""
    shares = model.probabilities([question])[0]
    chosen = max(range(len(shares)), key=shares.__getitem__)
    passages = _passages(question)
    without = [_removed(question, passage) for passage in passages]
    drops = [shares[chosen] - row[chosen] for row in model.probabilities(without)]
    best = max(range(len(drops)), key=drops.__getitem__, default=None)
    if best is None or drops[best] <= 0:
        return ChoiceAnswer(chosen, tuple(shares), None, 0.0)
    return ChoiceAnswer(chosen, tuple(shares), passages[best], drops[best])


def _passages(question: ChoiceQuestion) -> list[Passage]:
    """Sentences that may be left out: the context's, else the question's.

    The last sentence of a question asks; it stays.
    """
    if question.context:
        return [
            Passage("context", index, number, *bounds)
            for index, text in enumerate(question.context)
            for number, bounds in enumerate(sentence_bounds(text))
        ]
    stem = sentence_bounds(question.question)[:-1]
    return [
        Passage("question", 0, number, *bounds) for number, bounds in enumerate(stem)
    ]


def _removed(question: ChoiceQuestion, passage: Passage) -> ChoiceQuestion:
    if passage.part == "question":
        stem = question.question
        return replace(question, question=stem[: passage.start] + stem[passage.end :])
    parts = list(question.context)
    text = parts[passage.index]
    parts[passage.index] = text[: passage.start] + text[passage.end :]
    return replace(question, context=tuple(parts))
