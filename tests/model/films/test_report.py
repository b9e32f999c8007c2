"""The film report: sources apart, baselines beside, shortcuts checked."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from model.errors import ConfigurationError
from model.films import report as report_module
from model.films.film_model import FilmRun, begin_from
from model.films.folder import (
    KERMANY,
    MONTGOMERY,
    NIH,
    OPACITY,
    RENDERED,
    SHENZHEN,
    FilmFolder,
    answers,
)
from model.films.parts import Parts, parts_of
from model.films.pixels import film_bytes
from model.films.pretrain import predict
from model.films.report import film_report, source_report
from model.films.scoring import film_auroc
from tests.model.films.conftest import TINY, fresh


def test_every_source_has_its_own_rows(report: dict[str, Any]) -> None:
    assert list(report["sources"]) == [NIH, KERMANY, MONTGOMERY, SHENZHEN]
    nih = report["sources"][NIH]
    assert nih["read_by"] == "own head"
    assert report["sources"][MONTGOMERY]["read_by"].startswith("logistic")
    effusion = nih["findings"]["Effusion"]
    assert effusion["auroc"]["value"] > 0.85
    assert effusion["auroc"]["low"] <= effusion["auroc"]["value"]
    assert set(effusion["baselines"]) == {"pixels", "rim", "person"}
    assert set(report["sources"][KERMANY]["findings"]) == {"Paediatric_Pneumonia"}
    tuberculosis = report["sources"][SHENZHEN]["findings"]["Tuberculosis"]
    assert "person" not in tuberculosis["baselines"]
    assert report["rendered"] is None
    json.dumps(report)


def test_the_carrier_is_checked_within(report: dict[str, Any]) -> None:
    found = report["sources"][NIH]["carrier"]
    assert found["carriers"] == 3
    assert found["model_within"] == pytest.approx(found["model"], abs=0.1)
    assert "carrier" not in report["sources"][KERMANY]


def test_runs_read_together_are_the_mean_of_their_logits(
    report: dict[str, Any],
) -> None:
    alone, twice = report["variants"]["this encoder"], report["variants"]["twice"]
    assert twice["runs"] == 2 and "pointing" not in twice
    assert alone["pointing"]["hit"] == report["pointing"]["hit"]
    assert alone["one_view"] == twice["one_view"]


def test_several_findings_have_a_mean_beside_every_reader(
    taught: FilmRun, folder: FilmFolder
) -> None:
    random = np.random.default_rng(2)
    rows = tuple(
        replace(row, findings={**row.findings, "Nodule": float(random.integers(2))})
        for row in folder.rows
        if row.source == NIH
    )
    both = replace(folder, rows=rows)
    found = film_report(both, taught, draws=5)
    mean = found["sources"][NIH]["mean"]
    assert mean["findings"] == ["Effusion", "Nodule"]
    assert set(mean["readers"]) == {"encoder", "pixels", "rim", "person"}
    tested = parts_of(both, NIH).test
    logits = predict(taught.model, film_bytes(both, tested, 32, progress=False), NIH)
    truth = answers(tested, NIH)
    wanted = np.mean([film_auroc(logits[:, q], truth[:, q]) for q in (2, 5)])
    assert mean["auroc"]["value"] == pytest.approx(wanted)
    lead = mean["auroc"]["value"] - mean["readers"]["pixels"]["auroc"]["value"]
    assert mean["ahead_of_pixels"]["value"] == pytest.approx(lead)
    assert mean["holds"] == (lead >= 0.05)
    assert list(found["sources"]) == [NIH] and found["lungs"] == {"n": 0}


def test_a_source_without_films_is_refused(taught: FilmRun, folder: FilmFolder) -> None:
    with pytest.raises(ConfigurationError):
        source_report(folder, taught, Parts(NIH, (), (), ()))
    parts = replace(parts_of(folder, NIH), val=())
    found = source_report(folder, taught, parts, draws=5)
    assert found["findings"]["Effusion"]["threshold"] == 0.5


def test_a_rendered_head_is_reported_apart(
    taught: FilmRun, folder: FilmFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_module, "RENDERED_FILMS", 30)
    model = fresh(replace(TINY, sources=(NIH, RENDERED)))
    begin_from(model, taught.model)
    children = replace(folder, rows=folder.select(KERMANY))
    found = film_report(children, FilmRun(model), draws=5)
    assert found["rendered"]["films"] == 30
    assert 0 < found["rendered"]["auroc"][OPACITY] < 1
    assert found["sources"][KERMANY]["read_by"].startswith("logistic")
    assert found["variants"]["this encoder"]["one_view"] is None
