"""Clinical notes from a grammar, with the place of every planted passage.

All words live in ``phrases.json``; here is only how they are put together. A symbol
expands to one of its phrases, chosen by the state that it depends on (severity,
syndrome, or "any" for neither). Symbols with a ``kind`` leave a span behind; passages
of the same kind do not repeat. Symbols listed under ``once`` keep their first choice
through the whole note, so that a note does not contradict itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files
from typing import Any

import numpy as np

from fhir_adapters.patient_record import Section
from model.synthetic.case import Lobe, Side, Span, SpanKind, WrittenNote
from model.synthetic.latents import Severity, Syndrome

MIN_WORDS = 60

_SLOT = re.compile(r"\{(\w+)\}")
_SENTENCE_START = re.compile(r"(?:^|[.:] |\n)[a-z]")
_ANY = "any"


@lru_cache(maxsize=1)
def grammar() -> Mapping[str, Any]:
    """The phrase grammar, read once."""
    text = files("model.synthetic").joinpath("phrases.json").read_text("utf-8")
    loaded: Mapping[str, Any] = json.loads(text)
    return loaded


@dataclass(slots=True)
class _Draft:
    """A note under construction: text so far, spans, and the case's own words."""

    states: frozenset[str]
    words: dict[str, Sequence[str]]
    rng: np.random.Generator
    text: str = ""
    spans: list[Span] = field(default_factory=list)
    sections: list[Section] = field(default_factory=list)
    used: set[str] = field(default_factory=set)

    def choose(self, options: Sequence[Any]) -> Any:
        """One of the options, each as likely."""
        return options[int(self.rng.random() * len(options))]

    def expand(self, symbol: str) -> None:
        """Append an expansion of ``symbol``, recording a span if it has a kind."""
        if symbol in self.words:
            self.text += self.choose(self.words[symbol])
            return
        rule = grammar()["symbols"][symbol]
        if not isinstance(rule, Mapping):
            self.fill(self.choose(rule))
            return
        start = len(self.text)
        state = next(s for s in rule if s in self.states or s == _ANY)
        kind = rule.get("kind")
        phrase = self.choose(rule[state])
        while kind is not None and phrase in self.used and len(rule[state]) > 3:
            phrase = self.choose(rule[state])
        self.used.add(phrase)
        self.fill(phrase)
        if kind is not None:
            self._mark(start, SpanKind(kind), state)

    def fill(self, template: str) -> None:
        """Append a template, expanding its slots from left to right."""
        at = 0
        for slot in _SLOT.finditer(template):
            self.text += template[at : slot.start()]
            self.expand(slot.group(1))
            at = slot.end()
        self.text += template[at:]

    def sentence(self, symbol: str) -> None:
        """Append an expansion that ends in a full stop, or nothing, and a space."""
        before = len(self.text)
        self.expand(symbol)
        if len(self.text) > before:
            self.text += " "

    def _mark(self, start: int, kind: SpanKind, state: str) -> None:
        if kind is SpanKind.LATERALITY:
            state = self.words["side"][0]
        self.spans.append(
            Span(start, len(self.text), kind, "" if state == _ANY else state)
        )


def write_note(
    severity: Severity,
    syndrome: Syndrome,
    lobe: Lobe,
    age_years: int,
    sex: str,
    rng: np.random.Generator,
    wrong_side: float = 0.0,
) -> WrittenNote:
    """Write one note of at least 60 words.

    Args:
        severity: Severity as the note tells it.
        syndrome: Syndrome as the note tells it.
        lobe: Lobe of the lesion; its side is the note's side.
        age_years: Age of the patient.
        sex: "female" or "male".
        rng: Random stream of this case's note.
        wrong_side: Chance that the note names the other side.
    """
    phrases = grammar()
    side = lobe.side
    if rng.random() < wrong_side:
        side = Side.LEFT if side is Side.RIGHT else Side.RIGHT
    draft = _Draft(
        states=frozenset((severity.name.lower(), syndrome.name.lower())),
        words={
            "side": [side.value],
            "zone": phrases["zones"][lobe.level],
            "age": [str(age_years)],
            **phrases["people"][sex],
        },
        rng=rng,
    )
    for symbol in phrases["once"]:
        draft.words[symbol] = [draft.choose(phrases["symbols"][symbol])]
    separator = draft.choose(phrases["separators"])
    gap = draft.choose(phrases["breaks"])
    layout = draft.choose(phrases["layouts"])
    for name in layout:
        _write_section(
            draft, phrases["sections"][name], separator, gap, last=name == layout[-1]
        )
    text = _SENTENCE_START.sub(lambda found: _capital(found.group(0)), draft.text)
    return WrittenNote(text, tuple(draft.sections), tuple(draft.spans))


def _write_section(
    draft: _Draft, plan: Mapping[str, Any], separator: str, gap: str, last: bool
) -> None:
    """Append one headed section; the last one is padded to the minimum length.

    A section's bounds leave out its heading, its title is in lower case: the same
    convention as for notes that come from an EHR.
    """
    if draft.text:
        draft.text += gap
    title = draft.choose(plan["titles"])
    draft.text += title + separator
    start = len(draft.text)
    for part in plan["parts"]:
        draft.sentence(part)
    while last and len(draft.text.split()) < MIN_WORDS:
        draft.sentence(draft.choose(grammar()["padding"]))
    draft.text = draft.text.rstrip()
    draft.sections.append(Section(title.lower(), start, len(draft.text)))


def _capital(start: str) -> str:
    """The same characters with the last one in capitals: offsets do not move."""
    return start[:-1] + start[-1].upper()
