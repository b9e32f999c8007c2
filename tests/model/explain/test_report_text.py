"""The report as lines and as Markdown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from model.explain.report_rows import at_least, at_most, figure
from model.explain.report_text import (
    CLOSING,
    OPENING,
    interval,
    number,
    report_markdown,
    report_table,
    write_markdown,
)

REPORT: dict[str, Any] = {
    "model": {"name": "m", "version": "1", "sha256": "ab"},
    "data": {"seed": 5, "cases": 9, "refused": 1, "called": 4, "with_lesion": 3},
    "figures": {
        "pointing_game": figure(0.9, at_least(0.85), interval=(0.8, 0.95), n=3),
        "lab_auprc": figure(0.5, at_least(0.9), n=4),
        "shapley_efficiency_error": figure(8.9e-16, at_most(1e-5), n=9),
        "road": figure(None),
        "dominance_index_x": {**figure(0.8, at_most(0.7)), "note": "largest: text"},
    },
    "alerts": ["text dominates x: 0.80"],
    "explainability_score": {"value": 0.7, "parts": {"localisation": 0.9}},
}


def test_the_table_says_value_interval_target_and_verdict() -> None:
    lines = report_table(REPORT).splitlines()
    row = next(line for line in lines if line.startswith("pointing_game"))
    assert row.split() == [
        *("pointing_game", "0.9000", "0.8000", "to", "0.9500", ">=", "0.85", "yes")
    ]
    missed = next(line for line in lines if line.startswith("lab_auprc"))
    assert missed.endswith("NO")
    assert any(line == "ALERT: text dominates x: 0.80" for line in lines)
    assert lines[-1] == "Explainability Score 0.700 (localisation 0.900)"
    assert "9 cases of seed 5, 1 refused, 4 called positive, 3 of them" in lines[0]


def test_the_markdown_names_its_command_and_every_row() -> None:
    text = report_markdown(REPORT, "trivium-model explain-report --cases 9")
    assert "    trivium-model explain-report --cases 9\n" in text
    assert "| pointing game | 0.9000 | 0.8000 to 0.9500 | 3 | >= 0.85 | yes |" in text
    assert "| lab auprc | 0.5000 |  | 4 | >= 0.9 | NO |" in text
    assert "| dominance index x | 0.8000 |  |  | <= 0.7 | NO | largest: text |" in text
    assert "| road | - |" in text
    assert "**ALERT**: text dominates x: 0.80" in text
    assert text.endswith("Explainability Score 0.700 (localisation 0.900).\n")


def test_errors_are_powers_of_ten_and_nothing_is_a_dash() -> None:
    assert number("shapley_efficiency_error", 8.9e-16) == "8.9e-16"
    assert number("lab_auprc", 0.96) == "0.9600"
    assert number("lab_auprc", None) == "-"
    assert interval(figure(1.0)) == ""


def test_a_document_keeps_its_prose_around_the_figures(tmp_path: Path) -> None:
    path = tmp_path / "docs" / "explanations.md"
    write_markdown("old figures", path)
    assert path.read_text() == "old figures"
    path.write_text(f"# Title\n\n{OPENING}\nold\n{CLOSING}\n\nThe end.\n")
    write_markdown("new figures\n", path)
    write_markdown("newer figures\n", path)
    text = path.read_text()
    assert text.startswith("# Title\n\n") and text.endswith("\n\nThe end.\n")
    assert text.count("figures\n") == 1 and "newer figures" in text
    assert "old" not in text
