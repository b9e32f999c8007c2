"""Tables: the same cells in a terminal and in Markdown, nothing invented."""

from __future__ import annotations

import pytest

from model.baselines.report import build_report
from model.baselines.tables import (
    Section,
    as_markdown,
    as_text,
    checks_section,
    comparison_intro,
    comparison_sections,
    number,
    with_interval,
)
from tests.model.baselines.samples import SETTINGS, seed_result


def test_numbers_and_their_absence() -> None:
    assert number(0.9234) == ".923" and number(1.0) == "1.000"
    assert number(-0.02) == "-.020" and number(0.12345, 4) == ".1235"
    assert number(None) == number(float("nan")) == "-"
    assert with_interval({"value": 0.9, "low": 0.85, "high": 0.951}) == (
        ".900 (.850-.951)"
    )


def test_both_renderings_hold_every_cell() -> None:
    section = Section("Title", "A note.", ("a", "b|c"), [("1", "2"), ("33", "4")])
    text, marked = (f("H", "I", [section]) for f in (as_text, as_markdown))
    assert text.splitlines()[-2:] == ["1   2", "33  4"]
    assert "| a | b\\|c |\n| --- | --- |\n| 1 | 2 |" in marked
    assert marked.startswith("# H\n\nI\n\n## Title\n\nA note.\n\n")
    assert as_markdown("H", "I", [Section("T", "", ("a",), [])]).count("\n\n\n") == 0


def test_a_bar_that_does_not_hold_is_plain_to_see() -> None:
    bar = {"name": "x", "value": 0.2, "target": "<= 0.1", "holds": False}
    good = {**bar, "holds": True}
    rows = checks_section([bar, good]).rows
    assert [row[-1] for row in rows] == ["DOES NOT HOLD", "holds"]


@pytest.mark.component("A25f")
def test_the_comparison_shows_the_papers_rows_beside_ours() -> None:
    report = build_report(SETTINGS, [seed_result(7)])
    sections = {s.title: s for s in comparison_sections(report)}
    table = sections["Comparison"]
    assert all(len(row) == len(table.headings) for row in table.rows)
    rows = {row[0]: row for row in table.rows}
    assert rows["M-LLM (CATM)"][-5:] == [".896", ".923", ".874", ".869", ".871"]
    assert rows["Late fusion"][-5:] == ["-"] * 5
    ablation = next(s for s in sections.values() if s.title.startswith("Ablation"))
    assert len(ablation.rows) == 7
    by_name = {row[0]: row for row in ablation.rows}
    assert by_name["image+text"][-2:] == [".819", ".849"]
    assert by_name["image+text"][1] == "without structured record"
    assert by_name["text"][-2:] == ["-", "-"]
    assert "seeds 7" in comparison_intro(report)
