"""Find the headed parts of a note by their headings.

A heading is a line start with a colon after it that is either one of the headings
that clinical notes are known to use, or written in capitals. Text before the first
heading belongs to no section.
"""

from __future__ import annotations

import re

from fhir_adapters.patient_record import Section

_KNOWN = frozenset(
    {
        *(
            "addendum",
            "allergies",
            "assessment",
            "assessment and plan",
            "chief complaint",
        ),
        *("clinical history", "clinical indication", "clinical information"),
        *("comparison", "comparisons", "conclusion", "discharge diagnosis"),
        *("examination", "exam", "family history", "finding", "findings", "history"),
        *("history of present illness", "hospital course", "hpi", "impression"),
        *("indication", "interpretation", "laboratory", "labs", "medications"),
        *("medical history", "objective", "past medical history", "physical exam"),
        *("physical examination", "plan", "procedure", "reason for exam"),
        *("reason for examination", "recommendation", "recommendations", "result"),
        *("results", "review of systems", "social history", "subjective", "technique"),
        *("vital signs", "vitals", "wet read"),
    }
)
_HEADING = re.compile(
    r"^[ \t]*([A-Za-z][A-Za-z0-9 /&'()-]{1,59}?)[ \t]*:[ \t]*", re.MULTILINE
)
_MAX_SECTIONS = 200


def find_sections(text: str) -> tuple[Section, ...]:
    """The sections of ``text`` in order.

    Returns:
        Sections with the heading in lower case as title; ``start`` and ``end`` bound
        the body without its heading and outer space. Empty sections are left out.
    """
    headings = [match for match in _HEADING.finditer(text) if _is_heading(match[1])]
    found: list[Section] = []
    ends = [match.start() for match in headings[1:]] + [len(text)]
    for match, end in zip(headings[:_MAX_SECTIONS], ends, strict=False):
        body = text[match.end() : end]
        start = match.end() + len(body) - len(body.lstrip())
        stop = match.end() + len(body.rstrip())
        if start < stop:
            found.append(Section(" ".join(match[1].lower().split()), start, stop))
    return tuple(found)


def _is_heading(words: str) -> bool:
    known = " ".join(words.lower().split()) in _KNOWN
    return known or (words.isupper() and len(words) >= 4)
