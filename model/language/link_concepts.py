"""What a note can say that a measured value or a film can bear out.

The table is data, ``link_concepts.json``. Each row names the words of the note
(patterns that start at a word), the LOINC codes that tell the same and on which side of
their reference range, whether a finding on the chest film does, and whether a number
among the words is in the unit of the value. A text-book table of our own; it claims an
association, never a cause.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from importlib.resources import files


class Direction(StrEnum):
    """On which side of its reference range a value tells what the words tell."""

    HIGH = "high"
    LOW = "low"


@dataclass(frozen=True, slots=True)
class Concept:
    """Words and what may stand behind them.

    ``values`` by LOINC code; ``film`` where a chest film may show it; ``number`` where
    a number among the words is in the unit of the value.
    """

    name: str
    words: re.Pattern[str]
    values: dict[str, Direction]
    film: bool = False
    number: bool = False

    def matches(self, text: str) -> bool:
        """Whether the words name the concept."""
        return self.words.search(text) is not None


@lru_cache(maxsize=1)
def concepts() -> tuple[Concept, ...]:
    """The table, read once."""
    text = files("model.language").joinpath("link_concepts.json").read_text("utf-8")
    return tuple(
        Concept(
            name=row["name"],
            words=re.compile(rf"\b(?:{'|'.join(row['words'])})", re.IGNORECASE),
            values={code: Direction(side) for code, side in row["values"].items()},
            film=row.get("film", False),
            number=row.get("number", False),
        )
        for row in json.loads(text)
    )
