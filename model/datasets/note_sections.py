"""Parts of notes that were known before the answer was.

Rules this module enforces (harm in brackets):

- Of a discharge note only named sections that stand before "Brief Hospital Course" are
  kept: complaint, history, allergies, the examination at admission (the course, the
  results of the whole stay and the discharge diagnosis state the answer). The list
  names what is kept, so a heading nobody thought of is left out, not let in. A note
  without that heading has no known border and is refused.
- Of a radiology report only the indication is kept when labels come from that report
  (findings and impression are the label in words).
- A run of underscores, where an identifier was removed, becomes one mark of one word
  piece, which is no number and the same everywhere.
"""

from __future__ import annotations

import re

COURSE = "brief hospital course"
ADMISSION_SECTIONS: tuple[str, ...] = (
    "allergies",
    "chief complaint",
    "history of present illness",
    "past medical history",
    "social history",
    "family history",
    "physical exam",
)
INDICATIONS = (
    *("indication", "indications", "history", "clinical history"),
    *("clinical information", "clinical indication"),
    *("reason for exam", "reason for examination", "reason for the exam"),
)
DEIDENTIFIED = "_"
_MARKS = re.compile(r"_{2,}")
# Headings of discharge notes, in the capitals the source writes them in.
_DISCHARGE_HEADINGS = (
    *ADMISSION_SECTIONS,
    *(COURSE, "name", "unit no", "admission date", "discharge date", "date of birth"),
    *("sex", "service", "attending", "major surgical or invasive procedure"),
    *("pertinent results", "physical examination", "review of systems", "hpi", "pmh"),
    *("medications on admission", "discharge medications", "discharge disposition"),
    *("discharge diagnosis", "discharge condition", "discharge instructions"),
    *("followup instructions", "transitional issues", "acute issues"),
)
_RADIOLOGY_HEADINGS = (
    *INDICATIONS,
    *("examination", "exam", "study", "type of exam", "technique", "comparison"),
    *("comparisons", "findings", "finding", "impression", "conclusion", "report"),
    *("wet read", "recommendation", "recommendations", "notification", "addendum"),
    *("interpretation", "final report", "provisional findings", "opinion", "result"),
    *("results", "summary", "views", "procedure", "dose", "preliminary report"),
)
# A line that opens with discharge, or a short heading that speaks of it.
_AT_DISCHARGE = re.compile(
    r"(?:(?:on|at|upon|prior to|day of)\s+)?(?:discharge|d/c|transfer)\b"
    r"|.{0,60}\b(?:discharge|d/c|transfer)\b.{0,30}:$"
)


def _known(names: tuple[str, ...]) -> str:
    """Alternatives of the names, longest first, spaces of any width."""
    return "|".join(
        r"[ \t]+".join(map(re.escape, name.split()))
        for name in sorted(names, key=len, reverse=True)
    )


_DISCHARGE = re.compile(
    rf"^[ \t]*(?P<name>{_known(_DISCHARGE_HEADINGS)})[ \t]*:",
    re.IGNORECASE | re.MULTILINE,
)
# Known names anywhere in a line, lines of capitals with a colon, and the headings that
# are also written without one.
_RADIOLOGY = re.compile(
    rf"(?:(?<![A-Za-z])(?P<name>{_known(_RADIOLOGY_HEADINGS)})[ \t]*:)"
    r"|^[ \t]*(?P<capitals>(?-i:[A-Z][A-Z0-9 /&'(),-]{3,60}))[ \t]*:"
    r"|^[ \t]*(?P<bare>final report|wet read|addendum|impression|findings)\b",
    re.IGNORECASE | re.MULTILINE,
)


def mark_removed(text: str) -> str:
    """``text`` with every run of underscores as one mark."""
    return _MARKS.sub(DEIDENTIFIED, text)


def admission_part(text: str) -> str | None:
    """What a discharge note says of the time before treatment.

    Returns:
        The kept sections with their headings, in the order of the note; "" where it
        has none of them; None where "Brief Hospital Course" does not occur, so that
        nothing tells before from after.
    """
    found = _sections(text, _DISCHARGE)
    names = [name for name, _ in found]
    if COURSE not in names:
        return None
    kept = []
    for name, body in found[: names.index(COURSE)]:
        if name not in ADMISSION_SECTIONS:
            continue
        if name == "physical exam":
            body = _before_discharge(body)
        if body.strip():
            kept.append(f"{name.capitalize()}: {body.strip()}")
    return mark_removed("\n\n".join(kept))


def indication(text: str) -> str | None:
    """The indication of a radiology report, None where it states none.

    It ends at the next heading, wherever in a line that stands.
    """
    for name, body in _sections(text, _RADIOLOGY):
        if name in INDICATIONS and body.strip():
            return mark_removed(" ".join(body.split()))
    return None


def _sections(text: str, heading: re.Pattern[str]) -> list[tuple[str, str]]:
    """Name in lower case and body of each part that has a heading."""
    matches = list(heading.finditer(text))
    if not matches:
        return []
    ends = [match.start() for match in matches[1:]] + [len(text)]
    parts = []
    for match, end in zip(matches, ends, strict=True):
        named = next(name for name in match.groups() if name)
        parts.append((" ".join(named.lower().split()), text[match.end() : end]))
    return parts


def _before_discharge(body: str) -> str:
    """An examination up to where it begins to speak of the discharge.

    Only a line that opens with such words ends it: "no discharge from the ear" is a
    finding.
    """
    kept = []
    for line in body.splitlines():
        opening = line.strip(" \t*=-_#").lower()
        if _AT_DISCHARGE.match(opening):
            break
        kept.append(line)
    return "\n".join(kept)
