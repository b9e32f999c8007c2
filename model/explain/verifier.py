"""Reads a finished sentence again and holds it against the evidence that it names.

The writer is not trusted: whatever made a sentence, this module parses the text itself.
Checked are evidence ids, numbers, units, high and low, quotations, negation (a word
that the note denies supports nothing), the side and height of a film's region, and the
direction of an effect.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fhir_adapters.patient_record import ClinicalNote
from model.errors import NarrativeError
from model.explain.word_lists import NEGATION_ENDS, NEGATION_REACH, NEGATIONS
from model.jobs.explanation import Sentence

NUMBER = re.compile(r"\d+(?:\.\d+)?")
_QUOTED = re.compile("\u201c([^\u201d]*)\u201d")
_WORD = re.compile(r"\w+|[.;:!?\n]")
_FLAG = re.compile(r"\((HH|H|LL|L)\)")
_PLACE = re.compile(r"\b(right|left|upper|middle|lower|midline)\b", re.IGNORECASE)
_EFFECT = re.compile(r"\b(raised|lowered)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Fact:
    """What one piece of evidence can vouch for.

    ``numbers`` as they may be written, ``phrases`` that must stand in the text when
    the fact is cited with a number, ``quotes`` that may be quoted, ``flag`` "H", "L"
    or empty, ``places`` ("right", "lower"), ``effect`` "raised" or "lowered" (empty:
    either), ``negated`` True where the note denies it.
    """

    numbers: frozenset[str] = frozenset()
    phrases: tuple[str, ...] = ()
    quotes: frozenset[str] = frozenset()
    flag: str = ""
    places: frozenset[str] = frozenset()
    effect: str = ""
    negated: bool = False


def verify(sentence: Sentence, facts: Mapping[str, Fact]) -> None:
    """Read one sentence again and compare it with the evidence it names.

    Raises:
        NarrativeError: unknown evidence, or something that the evidence does not back.
    """
    if not sentence.evidence or any(e not in facts for e in sentence.evidence):
        raise NarrativeError(f"template {sentence.template}: evidence unknown")
    cited = [facts[e] for e in sentence.evidence]
    if any(fact.negated for fact in cited):
        raise NarrativeError(f"template {sentence.template}: the note denies it")
    plain = _without_quotations(sentence, cited)
    for fact in cited:
        for phrase in fact.phrases:
            if phrase not in plain:
                raise NarrativeError(f"template {sentence.template}: value or unit")
            plain = plain.replace(phrase, "")
    numbers = set(NUMBER.findall(plain))
    if not numbers <= _union(fact.numbers for fact in cited):
        raise NarrativeError(f"template {sentence.template}: number not backed")
    flags = {flag[0] for flag in _FLAG.findall(plain)}
    if not flags <= {fact.flag[:1] for fact in cited}:
        raise NarrativeError(f"template {sentence.template}: high or low not backed")
    if not {p.lower() for p in _PLACE.findall(plain)} <= _union(
        fact.places for fact in cited
    ):
        raise NarrativeError(f"template {sentence.template}: place not backed")
    wrong = {e.lower() for e in _EFFECT.findall(plain)}
    if any(fact.effect and wrong - {fact.effect} for fact in cited):
        raise NarrativeError(f"template {sentence.template}: direction not backed")


def _without_quotations(sentence: Sentence, cited: list[Fact]) -> str:
    """The text without what it quotes; every quotation must stand in the evidence."""
    quoted = set(_QUOTED.findall(sentence.text))
    if not quoted <= _union(fact.quotes for fact in cited):
        raise NarrativeError(f"template {sentence.template}: not in the note")
    return _QUOTED.sub("", sentence.text)


def _union(sets: Iterable[frozenset[str]]) -> frozenset[str]:
    return frozenset().union(*sets)


def places_in(text: str) -> frozenset[str]:
    """Sides and heights that a text names, in lower case."""
    return frozenset(place.lower() for place in _PLACE.findall(text))


def is_negated(note: ClinicalNote, start: int) -> bool:
    """True where a negation earlier in its sentence covers the word at ``start``."""
    before = _WORD.findall(note.text[max(0, start - 200) : start].lower())
    for distance, word in enumerate(reversed(before)):
        ended = word in ".;:!?\n" or word in NEGATION_ENDS
        if ended or distance >= NEGATION_REACH:
            return False
        if word in NEGATIONS:
            return True
    return False
