"""Changes of a note: typing errors, abbreviations, another order, planted sentences.

All return a record whose notes have new text and sections found anew, so that offsets
stay true.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from fhir_adapters.patient_record import ClinicalNote, PatientRecord
from fhir_adapters.resources.sections import find_sections

TextShift = Callable[[str, np.random.Generator], str]

TYPO_SHARE = 0.05  # of the words
GARBLED_SHARE = 0.6

ABBREVIATIONS: Mapping[str, str] = {
    "shortness of breath": "SOB",
    "past medical history": "PMHx",
    "respiratory rate": "RR",
    "resp rate": "RR",
    "oxygen saturation": "SpO2",
    "saturation": "sats",
    "temperature": "temp",
    "bilaterally": "bilat",
    "examination": "exam",
    "auscultation": "ausc",
    "patient": "pt",
    "history": "hx",
    "reports": "c/o",
    "without": "w/o",
    "with": "w/",
    "year-old": "yo",
    "weeks": "wks",
    "days": "d",
    "dyspnoea": "SOB",
    "dyspnea": "SOB",
}
#: Marks of a telegraphic style.
TELEGRAPHIC = re.compile(
    r"\b(?:c/o|pt|yo|y/o|sob|soboe|sats|rr|temp|creps|hx|pmhx|resp)\b", re.IGNORECASE
)
_WORD = re.compile(r"[A-Za-z]{4,}")
_SENTENCE = re.compile(r"[^.!?\n]+[.!?]?\s*")


def with_text(
    record: PatientRecord, shift: TextShift, random: np.random.Generator
) -> PatientRecord:
    """The record with every note changed."""
    notes = tuple(_rewritten(note, shift(note.text, random)) for note in record.notes)
    return replace(record, notes=notes)


def _rewritten(note: ClinicalNote, text: str) -> ClinicalNote:
    return replace(note, text=text, sections=find_sections(text))


def typos(text: str, random: np.random.Generator) -> str:
    """A typing error in 5 % of the longer words."""
    return _mistyped(text, random, TYPO_SHARE)


def garbled(text: str, random: np.random.Generator) -> str:
    """A typing error in most of the words: a note that is hard to read."""
    return _mistyped(text, random, GARBLED_SHARE)


def _mistyped(text: str, random: np.random.Generator, share: float) -> str:
    def change(found: re.Match[str]) -> str:
        word = found.group(0)
        if random.random() >= share:
            return word
        at = int(random.integers(1, len(word) - 1))
        kind = int(random.integers(3))
        if kind == 0:  # a letter left out
            return word[:at] + word[at + 1 :]
        if kind == 1:  # two letters swapped
            return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
        return word[:at] + word[at] + word[at:]  # a letter twice

    return _WORD.sub(change, text)


def abbreviated(text: str, random: np.random.Generator) -> str:
    """Everything that clinicians shorten, shortened."""
    for long, short in ABBREVIATIONS.items():
        text = re.sub(rf"\b{long}\b", short, text, flags=re.IGNORECASE)
    return text


def other_site(text: str, random: np.random.Generator) -> str:
    """Another site's style: a header line and shouted headings."""
    lines = [
        re.sub(r"^[A-Za-z ]{3,30}:", lambda found: found.group(0).upper(), line)
        for line in text.split("\n")
    ]
    return "ELECTRONIC RECORD\n" + "\n".join(lines)


def other_side(text: str, random: np.random.Generator) -> str:
    """Right and left exchanged."""

    def exchange(found: re.Match[str]) -> str:
        word = found.group(0)
        other = {"right": "left", "left": "right"}[word.lower()]
        return other.capitalize() if word[0].isupper() else other

    return re.sub(r"\b(?:right|left)\b", exchange, text, flags=re.IGNORECASE)


def shuffled_sentences(text: str, random: np.random.Generator) -> str:
    """The sentences of each section in another order; headings stay in place."""
    sections = find_sections(text)
    for section in reversed(sections):
        body = text[section.start : section.end]
        sentences = [part.strip() for part in _SENTENCE.findall(body) if part.strip()]
        random.shuffle(sentences)
        text = text[: section.start] + " ".join(sentences) + text[section.end :]
    return text


def in_front(sentence: str) -> TextShift:
    """Puts a sentence before the note, where no limit cuts it off."""
    return lambda text, random: f"{sentence} {text}"


def at_the_end(sentence: str) -> TextShift:
    """Puts a sentence after the note."""
    return lambda text, random: f"{text} {sentence}"
