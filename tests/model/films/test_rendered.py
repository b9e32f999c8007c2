"""Rendered films: a source of its own, with a lesion in every box."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model.errors import DatasetError
from model.films import rendered
from model.films.boxes import patch_boxes
from model.films.film_model import FilmConfig
from model.films.folder import NIH, OPACITY, QUESTIONS, RENDERED, FilmFolder
from model.films.pretrain import predict, pretrain
from model.films.rendered import SIDES, joined, rendered_set
from model.films.scoring import film_auroc
from model.films.training_set import film_set
from tests.model.films.conftest import QUICK, TINY

SMALL = (32, 48)
MIXED: FilmConfig = replace(TINY, sources=(NIH, RENDERED))
WHERE = MIXED.sources.index(RENDERED)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Films that are rendered small, because that is quick."""
    monkeypatch.setattr(rendered, "SIDES", SMALL)


def test_a_high_lesion_is_an_opacity_and_its_box_is_brighter() -> None:
    found = rendered_set(60, MIXED, "train", progress=False)
    table = found.targets[WHERE]
    assert found.films.shape == (60, 32, 32) and len(found.rows) == 60
    assert set(np.unique(table[~np.isnan(table[:, 0]), 0])) == {0.0, 1.0}
    assert np.isnan(table[:, 0]).any() and not np.isnan(table[:, 1:]).any()
    assert np.isnan(found.targets[0]).all()
    lead = []
    for row, film in zip(found.rows, found.films.astype(float)):
        (box,) = row.boxes
        assert 0 < box.left and box.left + box.width < 32 and box.label == OPACITY
        x, y = int(box.left), int(box.top)
        inside = film[y : y + int(box.height), x : x + int(box.width)].mean()
        if row.findings[OPACITY] == 1:
            width = int(box.width)
            mirrored = film[:, ::-1][y : y + int(box.height), x : x + width].mean()
            lead.append(inside - mirrored)
    assert np.mean(lead) > 10


def test_films_agree_from_run_to_run_and_from_the_cache(tmp_path: Path) -> None:
    first = rendered_set(7, MIXED, "val", cache=tmp_path, progress=False)
    again = rendered_set(7, MIXED, "val", cache=tmp_path, progress=False)
    plain = rendered_set(7, MIXED, "val", progress=False)
    for other in (again, plain):
        assert np.array_equal(first.films, other.films) and str(first.rows) == str(
            other.rows
        )
    test = rendered_set(7, MIXED, "test", progress=False)
    assert not np.array_equal(first.films, test.films)
    assert len(SIDES) == 5 and min(SIDES) < 192 < max(SIDES)


def test_boxes_of_both_sources_are_laid_for_their_own_head(
    folder: FilmFolder,
) -> None:
    real = film_set(folder, folder.select(NIH, "val"), MIXED, progress=False)
    both = joined(real, rendered_set(30, MIXED, "val", progress=False))
    assert len(both) == len(real) + 30 and both.films.shape[0] == len(both)
    boxes = patch_boxes(both.rows, MIXED, (4, 4))
    assert boxes is not None
    heads = np.where(boxes.film < len(real), 2, len(QUESTIONS[NIH]))
    assert np.array_equal(boxes.question, heads)
    drawn = [both.rows[k].findings.get(OPACITY) for k in boxes.film.tolist()]
    assert set(drawn) == {None, 1.0}


def test_the_head_learns_the_lesion_beside_real_films(folder: FilmFolder) -> None:
    config = replace(MIXED, sources=(RENDERED, NIH))
    real = film_set(folder, folder.select(NIH, "train")[:16], config, progress=False)
    extra = rendered_set(220, config, "train", progress=False)
    held_out = rendered_set(50, config, "val", progress=False)
    settings = replace(QUICK, epochs=8)
    run = pretrain(joined(real, extra), held_out, config, settings)
    tested = rendered_set(100, config, "test", progress=False)
    logits = predict(run.model, tested.films, RENDERED)
    assert film_auroc(logits[:, 0], tested.targets[0][:, 0]) > 0.9


def test_a_folder_never_holds_rendered_films(folder: FilmFolder) -> None:
    with pytest.raises(DatasetError):
        folder.select(RENDERED)
