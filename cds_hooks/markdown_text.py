"""Text from the EHR or the model, made safe for a card.

Clients render ``detail`` as Markdown, and at least one renders raw HTML in it. Attack
(threat TM-E3): a patient or a report whose text is ``<img src=x onerror=..>`` runs code
in the EHR, or a link in a note leads the clinician away. So every text that we did not
write ourselves goes through :func:`escaped`, and comes out as words.
"""

from __future__ import annotations

import html
import re
import unicodedata

# Everything that starts markup in CommonMark or its GitHub flavour.
_MARKUP = re.compile(r"([\\`*_{}\[\]()#|~!])")
# GitHub turns these into links without any brackets.
_AUTOLINK = re.compile(r"(?i)\b(https?|ftp|mailto|xmpp)(:)|\b(www)(\.)|(@)")
# Line starts that would open a list, a quotation, a rule or a heading.
_LINE_START = re.compile(r"^([-+=]|\d+(?=\.(?: |$)))")


def plain(text: str, limit: int) -> str:
    """One line of printable characters, cut to ``limit``, without angle brackets.

    For places that are no Markdown, such as a card's summary: nothing can be escaped
    there, so what a careless client could read as HTML is left out.
    """
    kept = "".join(c if c.isprintable() else " " for c in text if c not in "<>")
    line = " ".join(kept.split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "\u2026"


def escaped(text: str, limit: int = 600) -> str:
    """``text`` as one line of Markdown that shows exactly these words.

    Control characters and line ends become spaces: no text can open a block of its own.
    Direction marks are dropped (attack: a sentence that reads backwards on screen).
    """
    kept = "".join(
        " " if unicodedata.category(c) in {"Cc", "Zl", "Zp"} else c
        for c in text
        if unicodedata.category(c) not in {"Cf", "Cs", "Co", "Cn"}
    )
    line = " ".join(kept.split())
    if len(line) > limit:
        line = line[: limit - 1].rstrip() + "\u2026"
    # First HTML, then Markdown: a backslash before an entity would undo the entity.
    line = html.escape(line, quote=False)
    line = _MARKUP.sub(r"\\\1", line)
    line = _AUTOLINK.sub(_broken_link, line)
    return _LINE_START.sub(r"\1\\" if line[:1].isdigit() else r"\\\1", line)


def _broken_link(match: re.Match[str]) -> str:
    scheme, colon, www, dot, at = match.groups()
    if scheme:
        return f"{scheme}\\{colon}"
    return f"{www}\\{dot}" if www else f"\\{at}"
