"""Plots: well-formed, repeatable, and apart from each other."""

from __future__ import annotations

import copy
from typing import Any
from xml.etree import ElementTree

import pytest

from model.evaluation import plots

WHOLE = [
    plots.roc,
    plots.precision_recall,
    plots.reliability,
    plots.coalition_bars,
    plots.subgroup_plot,
    plots.robustness_bars,
]


@pytest.mark.parametrize("draw", WHOLE, ids=lambda f: f.__name__)
def test_a_plot_is_well_formed_and_the_same_twice(
    draw: Any, small_report: dict[str, Any]
) -> None:
    text = draw(small_report)
    assert text.startswith("<svg")
    ElementTree.fromstring(text)
    assert draw(small_report) == text


def test_films_show_a_map_or_say_that_it_is_blank(
    small_report: dict[str, Any],
) -> None:
    assert small_report["examples"]
    example = copy.deepcopy(small_report["examples"][0])
    example["maps"] = [
        {"grid": [[0.0, 1.0], [0.0, 0.0]], "box": [0, 0, 1, 1], "blank": False}
    ]
    shown = plots.film(example, 0)
    example["maps"][0]["blank"] = True
    assert "map: blank" in plots.film(example, 0) and "map: blank" not in shown
    ElementTree.fromstring(plots.value_bars(example, 0))


def test_a_subgroup_without_a_score_leaves_a_gap(
    small_report: dict[str, Any],
) -> None:
    report = copy.deepcopy(small_report)
    empty = {"value": None, "low": None, "high": None, "n": 3}
    report["subgroups"][0]["auroc"] = empty
    assert plots.subgroup_plot(report) != plots.subgroup_plot(small_report)
