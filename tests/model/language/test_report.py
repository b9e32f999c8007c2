"""The page of text figures: from records, missing runs named, gaps computed."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from model.errors import CheckpointError, ConfigurationError
from model.language.published import ACCURACY, ENTITY_F1, Published
from model.language.report import CHOICES, markdown, text_report, write_page
from model.language.report_plot import loss_plot
from model.language.report_tables import (
    choice_lines,
    entity_lines,
    link_lines,
    pretraining_lines,
    source_lines,
    table,
)

SCORE = {"precision": 0.5, "recall": 0.25, "f1": 0.3333}
SCORE |= {"f1_low": 0.3, "f1_high": 0.4, "right": 1, "found": 2, "annotated": 4}
ERRORS = {"type": 1, "bounds": 2, "spurious": 3, "missed": 4}
MASKED: dict[str, Any] = {
    "settings": {"layers": 6, "width": 256, "held_out": 96},
    "vocabulary": 8000,
    "parameters": 6_900_000,
    "step": 200,
    "seconds": 120.0,
    "history": [
        {
            "step": step,
            "pieces_read": step * 2048,
            "train_loss": 7.0 - step / 100,
            "held_out_loss": 7.1 - step / 100,
            "held_out_accuracy": 0.05,
        }
        for step in (100, 200)
    ],
    "final": {
        "held_out": {"loss": 5.1, "accuracy": 0.2, "places": 10},
        "single_pieces": {"loss": 6.9, "accuracy": 0.04, "places": 10},
    },
}
ENTITIES: dict[str, Any] = {
    "split": "test",
    "training": {
        "run": {"corpora": ["bc5cdr"], "splits": ["train"], "epochs": 3},
        "documents": 8,
        "seconds": 60,
    },
    "corpora": {
        "bc5cdr": {
            "scores": {"disease": SCORE, "medication": SCORE, "all": SCORE},
            "errors": ERRORS,
        },
        "ncbi-disease": {
            "scores": {"disease": {**SCORE, "f1": 0.8971}, "all": SCORE},
            "errors": ERRORS,
        },
        "synthetic": {"scores": {"symptom": SCORE, "all": SCORE}, "errors": ERRORS},
    },
}
COUNTS: dict[str, Any] = {
    "cases": 3,
    "planted": 10,
    "recovered": 9,
    "recall": 0.9,
    "links": 12,
    "right": 11,
    "precision": 0.917,
    "refused": {"negated": 5, "wrong_side": 0},
    "decoys_linked": {"negated": 0, "family": 1, "wrong_side": 2},
}
LINKS = {
    "cases": 3,
    "seed": 9,
    "mentions": {"planted passages": {"plain": COUNTS, "wrong_side": COUNTS}},
}
SUMMARY = {
    "notes": 4,
    "seed": 9,
    "limit": 3,
    "passages": 21,
    "kept": {"summary": 0.61, "first sentences": 0.52},
    "length": {"summary": 0.33, "first sentences": 0.34},
}
CHOICE: dict[str, Any] = {
    "training": {
        "run": {"name": "head-qa", "epochs": 1, "longest": 96, "limit": 23},
        "questions": 23,
        "seconds": 60,
    },
    "sets": {
        "head-qa": {
            "questions": 7,
            "left_out": 1,
            "accuracy": 0.3,
            "low": 0.2,
            "high": 0.4,
            "macro_f1": 0.29,
            "baselines": {
                "random": 0.25,
                "best_constant": 0.26,
                "longest": 0.31,
                "most_frequent_in_training": 0.24,
            },
        }
    },
}


def record(
    models: Path, name: str, data: object, file: str = "evaluation.json"
) -> None:
    (models / name).mkdir(parents=True)
    (models / name / file).write_text(json.dumps(data))


def whole(models: Path) -> None:
    record(models, "bert", MASKED, "history.json")
    record(models, "entities", ENTITIES)
    record(models, "entities-synthetic", ENTITIES)
    record(models, "links", LINKS)
    record(models, "summary", SUMMARY)
    record(models, "head-qa", CHOICE)
    (models / "entities" / "evaluation-dev.json").write_text(json.dumps(ENTITIES))


def test_tables_are_padded() -> None:
    assert table(("a", "long name"), [("longer", "b")]) == [
        "| a      | long name |",
        "|--------|-----------|",
        "| longer | b         |",
    ]


def test_masked_words_stand_beside_guessing_and_along_a_curve() -> None:
    lines = pretraining_lines(MASKED)
    assert "6.9 M parameters; 200 steps, 0.4 M pieces" in lines[0]
    assert any("6.900" in line and "guessing" in line for line in lines)
    assert not any("PriMock57" in line for line in lines), "it was not measured"
    assert sum(line.startswith(("| 100 ", "| 200 ")) for line in lines) == 2


def test_gaps_are_ours_minus_the_first_published_figure() -> None:
    lines = entity_lines(ENTITIES)
    (disease,) = [line for line in lines if "| bc5cdr" in line and "disease" in line]
    assert "33.3 (30.0 to 40.0)" in disease and "-53.8" in disease
    (ncbi,) = [line for line in lines if "ncbi-disease" in line and "| disease" in line]
    assert ncbi.rstrip(" |").endswith("+0.0")
    assert sum("ncbi-disease" in line for line in lines) == 2, "one row and its errors"
    (own,) = [line for line in lines if "| symptom" in line]
    assert own.rstrip(" |").endswith("-"), "nothing is published"
    lines = choice_lines(CHOICE)
    assert "-7.0" in lines[-3] and "24.0" in lines[-3]
    assert lines[-1] == "Not shown to be above what needs no reading: head-qa."
    plain = copy.deepcopy(CHOICE)
    del plain["sets"]["head-qa"]["baselines"]["most_frequent_in_training"]
    plain["sets"]["head-qa"]["low"] = 0.32
    last = choice_lines(plain)[-1]
    assert "24.0" not in last and "30.0 (32.0 to 40.0)" in last


def test_links_show_the_decoys_that_were_linked() -> None:
    rows = link_lines(LINKS)[-2:]
    assert "91.7 (11 of 12)" in rows[0] and "90.0 (9 of 10)" in rows[0]
    assert "negated 5" in rows[0] and "wrong_side" not in rows[0]
    assert "note on the wrong side" in rows[1]


def test_published_figures_say_where_they_are_from() -> None:
    figures = [f for group in (*ENTITY_F1.values(), *ACCURACY.values()) for f in group]
    assert all(0 < figure.value < 1 and figure.source for figure in figures)
    lines = source_lines()
    assert len(lines) == len(set(figures))
    memory = [line for line in lines if line.endswith("(from memory, to be checked)")]
    assert len(memory) == len({f for f in figures if not f.checked})
    assert Published("x", 0.5, "y").marked == "50.0 (x, from memory)"
    assert Published("x", 0.5, "y", True).marked == "50.0 (x)"


def test_the_curve_is_one_small_picture_and_always_the_same() -> None:
    picture = loss_plot(MASKED)
    assert picture == loss_plot(copy.deepcopy(MASKED))
    assert ElementTree.fromstring(picture).tag.endswith("svg")
    assert "guessing by frequency" in picture and len(picture) < 40_000
    with pytest.raises(ConfigurationError, match="no measured step"):
        loss_plot({**MASKED, "history": []})


def test_the_page_holds_every_record_and_its_commands(tmp_path: Path) -> None:
    whole(tmp_path / "models")
    report = text_report(tmp_path, tmp_path / "models")
    path = tmp_path / "page.md"
    write_page(report, path)
    page = path.read_text()
    assert (tmp_path / "page-masked-loss.svg").read_text().startswith("<svg")
    assert "](page-masked-loss.svg)" in page
    for command in (
        "pretrain --data FOLDER",
        "ner-train --data FOLDER",
        "ner-evaluate --data FOLDER",
        "choice-train --data FOLDER --set head-qa --epochs 1 --longest 96 --limit 23",
        "choice-evaluate --data FOLDER --model build/language/head-qa --sets head-qa",
        "link --model",
    ):
        assert f"    trivium-model language {command}" in page, command
    assert page.count("Not run.") == 1, "PubMedQA was not"
    assert "--split dev`): bc5cdr 33.3, ncbi-disease 33.3" in page
    assert "| summary         | 61.0 " in page
    assert "MedQA files are not part" in page


def test_what_was_not_run_is_said_to_be_missing(tmp_path: Path) -> None:
    report = text_report(tmp_path, tmp_path)
    assert report["choice"] == dict.fromkeys(CHOICES)
    page = markdown(report)
    assert page.count("Not run.") == 7 and "dev splits" not in page
    write_page(report, tmp_path / "page.md")
    assert not list(tmp_path.glob("*.svg"))


@pytest.mark.parametrize("text", ["{", "[]"])
def test_a_damaged_record_is_refused(text: str, tmp_path: Path) -> None:
    record(tmp_path, "links", {})
    (tmp_path / "links" / "evaluation.json").write_text(text)
    with pytest.raises(CheckpointError, match="evaluation.json"):
        text_report(tmp_path, tmp_path)
