"""The whole report, its three forms and the card."""

from __future__ import annotations

import copy
import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from model.errors import ConfigurationError, SeedRefusedError
from model.evaluation.html_page import marked, to_html
from model.evaluation.markdown import (
    headline,
    missed_lines,
    number,
    table,
    to_markdown,
    with_interval,
)
from model.evaluation.report import Sizes, full_report, rows_of, verdicts
from model.evaluation.report_card import report_card
from model.inference.weights import LoadedCheckpoint

SECTIONS = [
    "Discrimination",
    "The paper's ablation",
    "Calibration",
    "Abstention",
    "Robustness",
    "Missing evidence",
    "Fairness",
    "Hallucination",
    "Notes that mislead, order",
    "Shortcuts",
    "Skills kept",
    "Explanations",
]


def test_every_section_has_rows_with_value_target_and_verdict(
    small_report: dict[str, Any],
) -> None:
    assert [s["title"] for s in small_report["sections"]] == SECTIONS
    for section in small_report["sections"]:
        assert section["rows"], section["title"]
        for row in section["rows"]:
            assert {"name", "value", "target", "holds"} <= set(row)
            assert row["value"] is not None or row["note"]
    json.dumps(small_report, allow_nan=False)


def test_verdicts_add_up(small_report: dict[str, Any]) -> None:
    count = verdicts(small_report)
    assert count["missed"] == len(missed_lines(small_report))
    assert sum(count.values()) <= len(rows_of(small_report))
    assert str(count["hold"]) in headline(small_report)


def test_markdown_shows_every_row(small_report: dict[str, Any]) -> None:
    text = to_markdown(small_report)
    for row in rows_of(small_report):
        assert row["name"] in text
    assert "    trivium-model evaluate" in text and "all, ceiling" in text
    assert "Printed by" not in to_markdown({**small_report, "command": ""})


def test_a_report_without_a_miss_lists_none(small_report: dict[str, Any]) -> None:
    good = copy.deepcopy(small_report)
    for row in rows_of(good):
        row["holds"] = None if row["holds"] is None else True  # type: ignore[index]
    assert "MISSED" not in to_markdown(good) and "Missed:" not in to_markdown(good)
    assert "<li>" not in to_html({**good, "examples": []})
    assert "missed:" not in report_card(good)


class _Page(HTMLParser):
    """Counts tags; anything that reaches outside the file is remembered."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: dict[str, int] = {}
        self.ids: list[str] = []
        self.outside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] = self.tags.get(tag, 0) + 1
        for name, value in attrs:
            if name in {"src", "href", "xlink:href"} and value:
                if not value.startswith(("#", "data:")):
                    self.outside.append(value)


def test_the_page_stands_alone(small_report: dict[str, Any]) -> None:
    page = _Page()
    text = to_html(small_report)
    page.feed(text)
    assert "script" not in page.tags and not page.outside
    assert page.tags["svg"] == 6 + 2 * len(small_report["examples"])
    assert page.tags["h2"] == len(SECTIONS) + 2
    clips = re.findall(r'<clipPath id="([^"]+)"', text)
    assert len(clips) == len(set(clips)), "plots must not share clip paths"
    assert to_html(small_report) == text


def test_words_are_shaded_and_everything_is_escaped() -> None:
    text = "<b>fever</b> & cough"
    shaded = marked(text, [[3, 8, 2.0], [4, 6, 1.0], [15, 20, 1.0]])
    assert (
        "&lt;b&gt;<mark" in shaded and ">fever</mark>&lt;/b&gt; &amp; <mark" in shaded
    )
    assert shaded.count("<mark") == 2, "overlapping words are shaded once"
    assert marked(text, [[3, 8, 0.0]]).count("<mark") == 0
    assert marked("a<b", []) == "a&lt;b"


def test_the_card_names_its_command_with_every_table(
    small_report: dict[str, Any],
) -> None:
    card = report_card(small_report)
    assert card.count("    trivium-model evaluate") == len(SECTIONS) + 3
    assert "    trivium-model train" in card and "from scratch" in card
    for heading in (
        "Intended use",
        "How it was trained",
        "Figures",
        "Subgroups",
        "Limits",
    ):
        assert f"## {heading}" in card
    assert "Not for clinical use" in card
    unknown = {k: v for k, v in small_report["model"].items() if k != "how_trained"}
    bare = report_card({**small_report, "command": "", "model": unknown})
    assert "Printed by" not in bare and "## How it was trained" not in bare
    alone = {**small_report["model"], "unstaged": None}
    assert "from scratch" not in report_card({**small_report, "model": alone})


def test_numbers_are_short() -> None:
    assert [number(x) for x in (None, 1.0, 0.12345, -3e-6, 12.0)] == [
        *("not measured", "1", "0.1235", "-3.0e-06", "12")
    ]
    row = {"value": 0.5, "low": 0.4, "high": None}
    assert with_interval(row) == "0.5000"
    assert with_interval({**row, "high": 0.6}) == "0.5000 (0.4000 to 0.6000)"
    assert "a\\|b" in table(("x",), [("a|b",)])


def test_seeds_labels_and_few_cases_are_refused(demo: LoadedCheckpoint) -> None:
    with pytest.raises(SeedRefusedError):
        full_report(demo, Sizes(cases=100), seed=7)
    with pytest.raises(ConfigurationError, match="100"):
        full_report(demo, Sizes(cases=20), seed=61)
    from dataclasses import replace

    other = replace(demo, config=replace(demo.config, labels=("covid19",)))
    with pytest.raises(ConfigurationError, match="label"):
        full_report(other, Sizes(cases=100), seed=61)
