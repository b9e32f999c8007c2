"""How well notes are linked to values and films, on cases whose links are planted.

Truth comes from the generator and not from the linker's own table: which symbol of the
note's grammar a passage was written from, and what that symbol is about
(``planted_links.json``). A planted pair is an asserted passage and an abnormal value,
or the lesion, that tells the same. Recall is the share of planted pairs that are found.
Precision is the share of links that join an asserted passage planted for severity to
evidence planted for severity. Decoys are passages that must not be linked: denied,
about somebody else, or on the other side of the body than the lesion.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files
from typing import Any

from fhir_adapters.patient_record import PatientRecord
from model.inference.tensors import interpretation
from model.language.linking import FilmFinding, Link, Links, Mention, Refusal, link
from model.synthetic.case import Carries, Span, SpanKind, SynthCase
from model.synthetic.emit import to_record
from model.synthetic.generate import Knobs, generate
from model.synthetic.latents import Split
from model.synthetic.note import grammar

_SLOT = re.compile(r"\\\{(\w+)\\\}")
_MENTIONED = frozenset(SpanKind) - {SpanKind.LATERALITY}
_IMAGE_SIZE = 32
Mentions = Callable[[SynthCase], Sequence[Mention]]
Pair = tuple[int, int, str, str]


@dataclass(slots=True)
class LinkCounts:
    """Sums over cases; ``refused`` by reason, ``decoys`` linked by kind."""

    cases: int = 0
    planted: int = 0
    recovered: int = 0
    links: int = 0
    right: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    decoys: Counter[str] = field(default_factory=Counter)

    def report(self) -> dict[str, Any]:
        """The sums with recall and precision, 0 where there is nothing to share."""
        return {
            "cases": self.cases,
            "planted": self.planted,
            "recovered": self.recovered,
            "recall": self.recovered / self.planted if self.planted else 0.0,
            "links": self.links,
            "right": self.right,
            "precision": self.right / self.links if self.links else 0.0,
            "refused": {str(why): self.refused[why] for why in Refusal},
            "decoys_linked": {str(k): self.decoys[k] for k in _DECOYS},
        }


_DECOYS = (SpanKind.NEGATED, SpanKind.FAMILY, Refusal.WRONG_SIDE)


def link_report(
    count: int, seed: int, mentions: Mapping[str, Mentions] | None = None
) -> dict[str, Any]:
    """Score the linker on test cases, and on the same with notes on the wrong side.

    Args:
        count: Cases.
        seed: Of the cases; never one of a training set.
        mentions: What is linked, by name; the planted passages where None is given.

    Returns:
        For each way to find mentions: ``plain`` and ``wrong_side`` as
        :meth:`LinkCounts.report`.
    """
    ways = mentions or {"planted passages": planted_mentions}
    found: dict[str, Any] = {"cases": count, "seed": seed, "mentions": {}}
    for name, way in ways.items():
        found["mentions"][name] = {
            told: score_links(
                generate(count, seed, "P0", _IMAGE_SIZE, Split.TEST, knobs), way
            ).report()
            for told, knobs in (
                ("plain", Knobs()),
                ("wrong_side", Knobs(wrong_side=1.0)),
            )
        }
    return found


def planted_mentions(case: SynthCase) -> Sequence[Mention]:
    """Every passage that the generator planted, decoys too."""
    return [span for span in case.note.spans if span.kind in _MENTIONED]


def score_links(cases: Iterable[SynthCase], mentions: Mentions) -> LinkCounts:
    """Link every case and count."""
    counts = LinkCounts()
    for case in cases:
        record, lesion = to_record(case), lesion_of(case)
        found = link(case.note.text, mentions(case), record.values, [lesion])
        _count(counts, case, record, lesion, found)
    return counts


def lesion_of(case: SynthCase) -> FilmFinding:
    """The planted lesion, as a heat map would tell of it."""
    name = f"ImagingStudy/{case.case_id}"
    return FilmFinding(name, "opacity", case.side.value, case.lobe.level)


def planted_pairs(
    case: SynthCase, record: PatientRecord, lesion: FilmFinding
) -> frozenset[Pair]:
    """Passages and evidence that tell the same: start, end, reference, LOINC code."""
    abnormal = _severe_values(case, record)
    same_side = not _other_side(case)
    pairs: set[Pair] = set()
    for span in case.note.spans:
        if span.kind is not SpanKind.SEVERITY or span.state == "low":
            continue
        codes, film = _about(case.note.text[span.start : span.end])
        for code, reference in abnormal.items():
            if code in codes:
                pairs.add((span.start, span.end, reference, code))
        if film and same_side:
            pairs.add((span.start, span.end, lesion.reference, ""))
    return frozenset(pairs)


def _severe_values(case: SynthCase, record: PatientRecord) -> dict[str, str]:
    """Code and reference of each value planted for severity and out of its range."""
    severe = {v.loinc for v in case.values if v.carries is Carries.SEVERITY}
    return {
        value.loinc: value.provenance.reference
        for value in record.values
        if value.loinc in severe and (interpretation(value) or "N")[:1] != "N"
    }


def _other_side(case: SynthCase) -> bool:
    """Whether the note names a side, and not the lesion's."""
    sides = {s.state for s in case.note.spans if s.kind is SpanKind.LATERALITY}
    return bool(sides) and case.side.value not in sides


def _count(
    counts: LinkCounts,
    case: SynthCase,
    record: PatientRecord,
    lesion: FilmFinding,
    found: Links,
) -> None:
    planted = planted_pairs(case, record, lesion)
    pairs = {(x.start, x.end, x.reference, x.loinc) for x in found.links}
    severe = set(_severe_values(case, record).values())
    kinds = {(span.start, span.end): span for span in case.note.spans}
    other = _other_side(case)
    counts.cases += 1
    counts.planted += len(planted)
    counts.recovered += len(planted & pairs)
    counts.links += len(found.links)
    counts.refused.update(str(each.reason) for each in found.refused)
    for each in found.links:
        span = kinds.get((each.start, each.end))
        decoy = _decoy(each, case.note.spans, other)
        if decoy is not None:
            counts.decoys[decoy] += 1
        asserted = span is not None and span.kind is SpanKind.SEVERITY
        asserted = asserted and span is not None and span.state != "low"
        backed = each.reference in severe if each.loinc else not other
        counts.right += asserted and backed


def _decoy(each: Link, spans: Sequence[Span], other: bool) -> str | None:
    """Which kind of decoy the link fell for; touching one is enough."""
    for span in spans:
        if span.kind in _DECOYS and span.start < each.end and each.start < span.end:
            return str(span.kind)
    return str(Refusal.WRONG_SIDE) if other and not each.loinc else None


def _about(words: str) -> tuple[frozenset[str], bool]:
    """LOINC codes that the passage was planted to tell of, and whether the film."""
    codes: set[str] = set()
    film = False
    for pattern, told, shown in _passages():
        if pattern.fullmatch(words):
            codes |= told
            film = film or shown
    return frozenset(codes), film


@lru_cache(maxsize=1)
def _passages() -> tuple[tuple[re.Pattern[str], frozenset[str], bool], ...]:
    """Every asserted passage of the grammar as a pattern, with what it is about."""
    table = json.loads(
        files("model.language").joinpath("planted_links.json").read_text("utf-8")
    )
    found = []
    for symbol, about in table.items():
        rule = grammar()["symbols"][symbol]
        for phrase in (*rule["ambiguous"], *rule["high"]):
            escaped = re.escape(phrase)
            slots = _SLOT.findall(escaped)
            pattern = re.compile(_SLOT.sub(".+?", escaped), re.IGNORECASE)
            codes = {about["slots"][s] for s in slots if s in about.get("slots", {})}
            codes |= set(about.get("values", ()))
            found.append((pattern, frozenset(codes), about.get("film", False)))
    return tuple(found)
