"""Which mentions a text denies: a small rule in the manner of NegEx.

The idea is that of Chapman et al. (J Biomed Inform 2001): a cue before a mention
negates up to six words on ("denies chest pain or cough"), a cue behind it up to four
words back ("rash denied", "pneumothorax was ruled out"), and a sentence end, a new
line or a turning word ("but") stops either. Phrases that look like a cue but deny
nothing ("no increase in pain") are skipped. The word lists are our own and stand below
whole.
"""

from __future__ import annotations

import re

from model.explain.word_lists import NEGATION_ENDS, NEGATION_REACH, NEGATIONS

#: Cues before the mention, beside the single words that explanations use as well.
CUES_BEFORE = (
    "no evidence of",
    "no sign of",
    "no signs of",
    "nothing to suggest",
    "negative for",
    "free of",
    "ruled out for",
    "rather than",
    "nil",
    "neither",
    "nor",
    "cannot see any",
    "lack of",
)
#: Cues behind the mention.
CUES_AFTER = (
    "denied",
    "absent",
    "negative",
    "ruled out",
    "excluded",
    "not seen",
    "not present",
    "not found",
    "unlikely",
    "resolved",
)
#: Phrases that hold a cue and negate nothing.
PSEUDO = (
    "no increase",
    "no change",
    "not only",
    "no improvement",
    "not improved",
    "without improvement",
    "not certain",
    "not ruled out",
    "cannot be excluded",
    "not relieved",
    "no further",
)
REACH_AFTER = 4
_LOOK_BACK, _LOOK_ON = 200, 80
_TOKEN = re.compile(r"\w+|[.;:!?\n]")
_STOPS = frozenset(".;:!?\n")


def _tokens(text: str) -> list[str]:
    """Words and stops in lower case, phrases that only look like cues taken out."""
    lowered = text.lower()
    for phrase in PSEUDO:
        lowered = re.sub(rf"\b{phrase}\b", "_" * 3, lowered)
    return _TOKEN.findall(lowered)


def is_negated(text: str, start: int, end: int) -> bool:
    """Whether the mention at ``start`` to ``end`` is denied.

    The mention may hold its own cue ("no rash").

    Args:
        text: The whole text.
        start: First character of the mention.
        end: One after its last.
    """
    before = _tokens(text[max(0, start - _LOOK_BACK) : start])
    within = _tokens(text[start:end])
    after = _tokens(text[end : end + _LOOK_ON])
    return (
        _cued(list(reversed(before)))
        or any(word in NEGATIONS or word in CUES_BEFORE for word in within[:1])
        or _follows(within[1:], REACH_AFTER)
        or _follows(after, REACH_AFTER)
        or " ".join(within).startswith(CUES_BEFORE)
    )


def _cued(backwards: list[str]) -> bool:
    """A cue among the words before, nearest first, with nothing that stops it."""
    reach: list[str] = []
    for word in backwards:
        if word in _STOPS or word in NEGATION_ENDS or len(reach) >= NEGATION_REACH:
            break
        reach.append(word)
    if any(word in NEGATIONS for word in reach):
        return True
    phrase = f" {' '.join(reversed(reach))} "
    return any(f" {cue} " in phrase for cue in CUES_BEFORE)


def _follows(words: list[str], reach: int) -> bool:
    """A cue among the next words, with nothing that stops it."""
    near: list[str] = []
    for word in words[:reach]:
        if word in _STOPS or word in NEGATION_ENDS:
            break
        near.append(word)
    phrase = f" {' '.join(near)} "
    return any(f" {cue} " in phrase for cue in CUES_AFTER)
