"""docs/explanations.md says what docs/explanations.json holds."""

from __future__ import annotations

import json
from pathlib import Path

from model.explain.report_text import CLOSING, OPENING, report_markdown


def test_the_documents_figures_are_those_of_the_report(repository: Path) -> None:
    text = (repository / "docs" / "explanations.md").read_text(encoding="utf-8")
    found = json.loads((repository / "docs" / "explanations.json").read_text())
    figures = text.partition(OPENING)[2].partition(CLOSING)[0].strip()
    command = figures.splitlines()[2].strip()
    assert figures == report_markdown(found, command).strip()
    data = found["data"]
    assert f"--cases {data['cases']} --seed {data['seed']}" in command


def test_what_is_missed_is_printed_as_missed(repository: Path) -> None:
    found = json.loads((repository / "docs" / "explanations.json").read_text())
    text = (repository / "docs" / "explanations.md").read_text(encoding="utf-8")
    for name, row in found["figures"].items():
        (line,) = (
            line
            for line in text.splitlines()
            if line.startswith(f"| {name.replace('_', ' ')} |")
        )
        assert ("| NO |" in line) is (row["holds"] is False), name
