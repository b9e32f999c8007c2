"""Explanations in the report: measured where there are measures, shown in any case."""

from __future__ import annotations

import sys
from dataclasses import replace
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import pytest

from model.evaluation import explanations
from model.evaluation.bench import Bench
from model.evaluation.explanations import examples, explanation_rows, figures

NAME = "tests.model.evaluation.measures_for_test"


def _measures(monkeypatch: pytest.MonkeyPatch, report: dict[str, Any]) -> None:
    module = ModuleType(NAME)
    module.__spec__ = ModuleSpec(NAME, None)
    module.explanation_report = lambda *_, **__: report  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, NAME, module)
    monkeypatch.setattr(explanations, "_MEASURES", NAME)


def test_nested_figures_become_rows() -> None:
    rows = list(
        figures(
            {
                "images": {
                    "pointing_game": {
                        "value": 0.9, "target": ">= 0.85", "holds": True, "n": 7
                    },
                    "words": "no figure",
                },
                "verifier": {"value": None},
            }
        )
    )  # fmt: skip
    assert [row.name for row in rows] == ["images: pointing game", "verifier"]
    assert (rows[0].value, rows[0].holds, rows[0].n) == (0.9, True, 7)
    assert rows[1].value is None and rows[1].holds is None


def test_measures_are_used_where_they_are(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = {"explainability_score": 0.8, "verifier": {"value": 1, "holds": True}}
    _measures(monkeypatch, report)
    rows, whole = explanation_rows(bench, 5)
    assert whole == report
    assert (rows[0].name, rows[0].value) == ("Explainability Score", 0.8)
    assert rows[1].holds is True


def test_a_version_without_measures_says_so(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explanations, "_MEASURES", "model.explain.none_such")
    rows, whole = explanation_rows(bench, 5)
    assert rows[0].value is None and "no measures" in rows[0].note and whole == {}


def test_examples_are_of_three_kinds(bench: Bench) -> None:
    found = examples(bench)
    assert [e["label"] for e in found] == [1, 1, 0]
    for example in found:
        assert len(example["film"]) == 64 and example["sentences"]
        assert (example["probability"] >= example["threshold"]) == example["label"]
    assert not examples(replace(bench, cases=()))
