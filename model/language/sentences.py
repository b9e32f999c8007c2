"""Where the sentences of a text stand; offsets into the original."""

from __future__ import annotations

import re

_SENTENCE = re.compile(r"\S.*?(?:[.!?](?=\s+[A-Z0-9\"(\[])|\n|$)", re.DOTALL)


def sentence_bounds(text: str) -> list[tuple[int, int]]:
    """Where each sentence starts and ends, white space left out; a line ends one."""
    return [
        (found.start(), found.start() + len(found.group().rstrip()))
        for found in _SENTENCE.finditer(text)
    ]
