"""Links a mention in the note to the measured value or film finding that bears it out.

Rules this module enforces (harm in brackets):

- Only an asserted mention is linked: a denied one, one about somebody else, or one that
  calls things normal supports nothing (a finding the patient does not have).
- A value is linked only if it lies on the side of its reference range that the words
  tell of; where no range is known, nothing is claimed (invented abnormality).
- A film finding is linked only to words on the same side of the body. Words without a
  side are linked with a lower score, unless the note speaks of the other side alone
  (wrong-side error).
- Each refusal is kept with its reason.

Rules and no learnt scorer: the only cases with known links are synthetic, and a scorer
fitted on them would learn their grammar. The score is a documented sum.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from fhir_adapters.patient_record import CodedValue
from model.inference.tensors import interpretation
from model.language.link_concepts import Concept, Direction, concepts
from model.language.negation import is_negated

#: Score of a link by concept alone; what follows adds to it, 1 is the most.
CONCEPT_SCORE = 0.6
SAME_NUMBER, SAME_SIDE, SAME_ZONE, FAR_OUTSIDE = 0.4, 0.3, 0.1, 0.2
BOTH_SIDES = frozenset({"right", "left"})
_SIDE_REACH = 7
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_SENTENCE_END = re.compile(r"[.;\n](?:\s|$)|\n")
_SIDES = re.compile(r"\b(right|left|bilateral|bilaterally|both)\b", re.IGNORECASE)
_ZONES = re.compile(r"\b(upper|middle|lower|base|basal|apex|apical)\b", re.IGNORECASE)
_RELATIVE = re.compile(
    r"\b(?:family history|fhx?|mother|father|brother|sister|uncle|aunt|"
    r"grandmother|grandfather|cousin|partner|wife|husband|son|daughter|neighbour|"
    r"neighbor|colleague|flatmate)\b",
    re.IGNORECASE,
)
_NORMAL = re.compile(
    r"(?<!above )(?<!below )\b(?:normal|clear|comfortabl[ey]|good|easily|unlaboured|"
    r"unremarkable|vesicular)\b",
    re.IGNORECASE,
)
_ZONE_WORDS = {"base": "lower", "basal": "lower", "apex": "upper", "apical": "upper"}


class Mention(Protocol):
    """What is linked: an entity, or anything that has a place in the note."""

    @property
    def start(self) -> int:
        """First character."""

    @property
    def end(self) -> int:
        """One after the last."""


class Refusal(StrEnum):
    """Why a pair that the words suggest was not linked."""

    NEGATED = "negated"
    NORMAL = "normal"
    RELATIVE = "relative"
    WRONG_SIDE = "wrong_side"
    NOT_ABNORMAL = "not_abnormal"
    OTHER_DIRECTION = "other_direction"


@dataclass(frozen=True, slots=True)
class FilmFinding:
    """A finding on a film, for example the region that a heat map marks.

    ``side`` is the patient's ("right", "left" or empty), ``zone`` "upper", "middle",
    "lower" or empty.
    """

    reference: str
    name: str
    side: str = ""
    zone: str = ""

    @classmethod
    def at(cls, reference: str, name: str, place: str) -> FilmFinding:
        """From words like "right lower zone"."""
        sides, zone = _sides(place), _zone(place)
        return cls(reference, name, next(iter(sides)) if len(sides) == 1 else "", zone)


@dataclass(frozen=True, slots=True)
class Link:
    """Characters ``start`` to ``end`` of the note, and the evidence that fits them.

    ``loinc`` is empty for a film finding; ``concept`` names the row of the table.
    """

    start: int
    end: int
    reference: str
    loinc: str
    concept: str
    score: float


@dataclass(frozen=True, slots=True)
class Refused:
    """A pair that the words suggest, and why it is no link."""

    start: int
    end: int
    reference: str
    reason: Refusal


@dataclass(frozen=True, slots=True)
class Links:
    """All links, strongest first, and what was refused."""

    links: tuple[Link, ...]
    refused: tuple[Refused, ...]


def link(
    text: str,
    mentions: Sequence[Mention],
    values: Sequence[CodedValue],
    findings: Sequence[FilmFinding] = (),
) -> Links:
    """Link every mention to all evidence of the same record that fits it.

    Args:
        text: The note; offsets of the mentions point into it.
        mentions: Entities of the note.
        values: Measured values of the record.
        findings: Film findings of the record.
    """
    links: list[Link] = []
    refused: list[Refused] = []
    for mention in mentions:
        words = text[mention.start : mention.end]
        for concept in concepts():
            if not concept.matches(words):
                continue
            for result in (
                *_to_values(text, mention, concept, values),
                *_to_films(text, mention, concept, findings),
            ):
                if isinstance(result, Link):
                    links.append(result)
                else:
                    refused.append(result)
    best: dict[tuple[int, int, str, str], Link] = {}
    for each in sorted(links, key=lambda item: (-item.score, item.start, item.concept)):
        best.setdefault((each.start, each.end, each.reference, each.loinc), each)
    return Links(tuple(best.values()), tuple(dict.fromkeys(refused)))


def _denied(text: str, mention: Mention) -> Refusal | None:
    if is_negated(text, mention.start, mention.end):
        return Refusal.NEGATED
    if _NORMAL.search(text[mention.start : mention.end]):
        return Refusal.NORMAL
    low, high = _sentence(text, mention)
    return Refusal.RELATIVE if _RELATIVE.search(text[low:high]) else None


def _to_values(
    text: str, mention: Mention, concept: Concept, values: Sequence[CodedValue]
) -> list[Link | Refused]:
    found: list[Link | Refused] = []
    for value in values:
        wanted = concept.values.get(value.loinc)
        if wanted is None:
            continue
        reference = value.provenance.reference
        numbers = [float(n) for n in _NUMBER.findall(text[mention.start : mention.end])]
        reason = _denied(text, mention) or _off(value, wanted)
        if reason is None and concept.number and _within(numbers, value):
            reason = Refusal.NORMAL
        if reason is not None:
            found.append(Refused(mention.start, mention.end, reference, reason))
            continue
        told = float(value.value) in numbers
        far = (interpretation(value) or "") in {"HH", "LL"}
        score = CONCEPT_SCORE + SAME_NUMBER * told + FAR_OUTSIDE * far
        found.append(
            Link(
                mention.start,
                mention.end,
                reference,
                value.loinc,
                concept.name,
                min(1.0, score),
            )
        )
    return found


def _off(value: CodedValue, wanted: Direction) -> Refusal | None:
    """None when the value lies on the wanted side of its range."""
    flag = (interpretation(value) or "")[:1]
    if flag not in {"H", "L"}:
        return Refusal.NOT_ABNORMAL
    right = (flag == "H") == (wanted is Direction.HIGH)
    return None if right else Refusal.OTHER_DIRECTION


def _within(numbers: Sequence[float], value: CodedValue) -> bool:
    """Whether the number that the words name lies in the value's reference range."""
    low, high = value.reference_low, value.reference_high
    return any(
        (low is None or number >= low) and (high is None or number <= high)
        for number in numbers
    )


def _to_films(
    text: str, mention: Mention, concept: Concept, findings: Sequence[FilmFinding]
) -> list[Link | Refused]:
    if not concept.film:
        return []
    found: list[Link | Refused] = []
    place = _place(text, mention)
    sides, zone = _sides(place), _zone(place)
    for finding in findings:
        reason = _denied(text, mention)
        named = sides or _sides(text)
        if reason is None and named and finding.side and finding.side not in named:
            reason = Refusal.WRONG_SIDE
        if reason is not None:
            found.append(Refused(mention.start, mention.end, finding.reference, reason))
            continue
        score = CONCEPT_SCORE
        score += SAME_SIDE * bool(sides and finding.side in sides)
        score += SAME_ZONE * bool(zone and zone == finding.zone)
        found.append(
            Link(
                mention.start,
                mention.end,
                finding.reference,
                "",
                concept.name,
                min(1.0, score),
            )
        )
    return found


def _sentence(text: str, mention: Mention) -> tuple[int, int]:
    """Bounds of the sentence, or the part up to a semicolon, around a mention."""
    low = 0
    for stop in _SENTENCE_END.finditer(text, 0, mention.start):
        low = stop.end()
    after = _SENTENCE_END.search(text, mention.end)
    return low, after.start() if after else len(text)


def _place(text: str, mention: Mention) -> str:
    """The words that say where: the mention, else what follows it, else what precedes.

    All in the same sentence, within :data:`_SIDE_REACH` words.
    """
    inside = text[mention.start : mention.end]
    if _SIDES.search(inside):
        return inside
    low, high = _sentence(text, mention)
    after = " ".join(text[mention.end : high].split()[:_SIDE_REACH])
    if _SIDES.search(after):
        return after
    return " ".join(text[low : mention.start].split()[-_SIDE_REACH:])


def _sides(words: str) -> frozenset[str]:
    named = {side.lower() for side in _SIDES.findall(words)}
    if named - BOTH_SIDES:
        return BOTH_SIDES
    return frozenset(named)


def _zone(words: str) -> str:
    found = _ZONES.search(words)
    zone = found.group(1).lower() if found else ""
    return _ZONE_WORDS.get(zone, zone)
