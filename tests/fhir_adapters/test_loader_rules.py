"""Each of the nineteen rules of the image loader is some test's name.

pytest tests/fhir_adapters -m loader        # all of them
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

RULES = {
    "R1": "SOP class",
    "R2": "size from the tags, before decoding",
    "R3": "short pixel data",
    "R4": "unused bits and signed values",
    "R5": "order of the grey-scale steps",
    "R6": "VOI",
    "R7": "one inversion",
    "R8": "presentation states",
    "R9": "colour",
    "R10": "one frame",
    "R11": "view and orientation",
    "R12": "burned-in text, recognisable features",
    "R13": "patient and instance",
    "R14": "choice of the instance",
    "R15": "geometry",
    "R16": "text and ids",
    "R17": "lossy compression",
    "R18": "quality",
    "R19": "provenance",
}
_MARKED = re.compile(
    r'((?:^@pytest\.mark\.loader\("R\d+"\)\n)+)(?:^@.*\n)*^def (test_\w+)', re.MULTILINE
)


def marked() -> dict[str, list[str]]:
    """Names of the tests of each rule."""
    found = defaultdict(list)
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        for marks, name in _MARKED.findall(path.read_text(encoding="utf-8")):
            for rule in re.findall(r"R\d+", marks):
                found[rule].append(name)
    return found


def test_every_rule_has_a_test_and_every_mark_a_rule() -> None:
    assert list(RULES) == [f"R{number}" for number in range(1, 20)]
    found = marked()
    assert set(found) == set(RULES)
    assert sum(len(set(names)) for names in found.values()) >= 40
