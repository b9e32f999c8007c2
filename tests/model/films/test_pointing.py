"""Maps point at what was planted, and the chances beside them are right."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.errors import ConfigurationError
from model.films.film_model import FilmRun
from model.films.folder import KERMANY, NIH, FilmFolder
from model.films.map_picture import draw_maps
from model.films.pointing import (
    boxed_findings,
    lung_share,
    maps,
    mean_lung,
    peak,
    pointing_game,
)


def test_maps_point_at_the_planted_disc(
    taught: FilmRun, folder: FilmFolder, report: dict[str, Any]
) -> None:
    found = report["pointing"]
    assert found["hit"]["value"] >= 10 * found["whole_image"]
    assert found["ratio"] > 3 and found["holds"]
    assert found["whole_image"] == pytest.approx(16 * 16 / 64**2, rel=0.2)
    assert set(found["centre_of_lung"]) == {"film_left", "film_right"}
    assert found["per_finding"]["Effusion"]["n"] == found["n"]
    asked = boxed_findings(folder.select(NIH, "test"))
    assert asked[0].hit(0.0, 0.0) is False
    drawn = maps(taught.model, folder, [(asked[0].row, 2)])
    assert drawn.shape == (1, *taught.model.encoder.grid) and drawn.min() >= 0
    assert maps(taught.model, folder, []).shape[0] == 0


def test_the_peak_is_the_centre_of_the_strongest_cell() -> None:
    field = np.zeros((4, 8))
    field[1, 6] = 1
    assert peak(field) == (0.375, 0.8125)


def test_lungs_are_measured_on_films_of_no_training(
    taught: FilmRun, folder: FilmFolder
) -> None:
    found = lung_share(taught.model, folder)
    assert found["n"] > 0 and 0.3 < found["lung_area"] < 0.6
    lung = mean_lung(folder)
    assert lung is not None and 0.3 < lung.mean() < 0.6
    bare = replace(folder, rows=folder.select(NIH))
    assert mean_lung(bare) is None and lung_share(taught.model, bare) == {"n": 0}
    assert "ratio" not in pointing_game(taught.model, bare, draws=5)
    children = replace(folder, rows=folder.select(KERMANY))
    assert pointing_game(taught.model, children) == {"n": 0}


def test_a_point_without_training_boxes_is_not_made_up(
    taught: FilmRun, folder: FilmFolder
) -> None:
    rows = folder.select(NIH, "test")
    found = pointing_game(taught.model, replace(folder, rows=rows), draws=5)
    assert found["most_boxed_point"] is None


def test_maps_are_drawn_over_boxed_films(
    taught: FilmRun, folder: FilmFolder, tmp_path: Path
) -> None:
    path = tmp_path / "new" / "maps.png"
    draw_maps(path, folder, taught, count=3)
    assert path.read_bytes()[:4] == b"\x89PNG" and path.stat().st_size > 5000
    with pytest.raises(ConfigurationError):
        draw_maps(path, replace(folder, rows=folder.select(KERMANY)), taught)
