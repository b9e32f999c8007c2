"""Free text, whoever wrote it, held against the passages that it cites.

Rules this module enforces (harm in brackets):

- A sentence is shown only if it passes the verifier of explanations: known evidence,
  numbers, quotations, sides and heights as in the cited passages (invented findings).
- Beyond that verifier, every word that tells something must stand in a cited passage:
  free text has no template that vouches for the rest of a sentence (claims without a
  number or a quotation).
- A word that the passage denies must be denied by the sentence too, and the other way
  round (a negation lost).
- What fails is counted and never shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from model.errors import NarrativeError
from model.explain.verifier import NUMBER, Fact, places_in, verify
from model.explain.word_lists import NEGATIONS, STOP_WORDS
from model.jobs.explanation import Sentence
from model.language.negation import is_negated

TEMPLATE = "free_text"
_WORD = re.compile(r"[^\W_]+")
_QUOTED = re.compile("\u201c([^\u201d]*)\u201d")


class Fault(StrEnum):
    """Why a sentence is not shown."""

    VERIFIER = "verifier"
    UNSUPPORTED = "unsupported"
    NEGATION = "negation"


@dataclass(frozen=True, slots=True)
class Draft:
    """A sentence as it was written, with the ids of the passages that it cites."""

    text: str
    evidence: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CheckedText:
    """What may be shown, and how many sentences were refused for which fault."""

    shown: tuple[Sentence, ...]
    refused: Mapping[Fault, int]


def checked_text(drafts: Iterable[Draft], passages: Mapping[str, str]) -> CheckedText:
    """Keep the sentences that their passages bear out.

    Args:
        drafts: Sentences with the ids they cite.
        passages: Text of each passage by its id.
    """
    shown: list[Sentence] = []
    refused = dict.fromkeys(Fault, 0)
    for draft in drafts:
        fault = fault_of(draft, passages)
        if fault is None:
            shown.append(Sentence(TEMPLATE, draft.text, draft.evidence))
        else:
            refused[fault] += 1
    return CheckedText(tuple(shown), refused)


def fault_of(draft: Draft, passages: Mapping[str, str]) -> Fault | None:
    """The first rule that the sentence breaks; None when it may be shown."""
    facts = {
        key: Fact(
            numbers=frozenset(NUMBER.findall(text)),
            quotes=frozenset(q for q in _QUOTED.findall(draft.text) if q in text),
            places=places_in(text),
        )
        for key, text in passages.items()
    }
    try:
        verify(Sentence(TEMPLATE, draft.text, draft.evidence), facts)
    except NarrativeError:
        return Fault.VERIFIER
    cited = [passages[key] for key in draft.evidence]
    for found in _WORD.finditer(draft.text):
        word = found.group().lower()
        if word in STOP_WORDS or word in NEGATIONS:
            continue
        told = _told(word, cited)
        if not told:
            return Fault.UNSUPPORTED
        if is_negated(draft.text, found.start(), found.end()) not in told:
            return Fault.NEGATION
    return None


def _told(word: str, cited: Sequence[str]) -> set[bool]:
    """Whether the passages deny the word (True), assert it (False), or both."""
    return {
        is_negated(text, found.start(), found.end())
        for text in cited
        for found in _WORD.finditer(text)
        if found.group().lower() == word
    }
