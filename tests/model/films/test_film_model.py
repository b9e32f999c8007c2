"""The film model: round trip, heads apart, pixels as the hook path reads them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from model.errors import CheckpointError, ConfigurationError, DatasetError
from model.films.film_model import (
    FILM_IMAGE,
    FilmConfig,
    FilmModel,
    FilmRun,
    begin_from,
    load_run,
    save_run,
)
from model.films.folder import KERMANY, NIH, RENDERED, SHENZHEN, FilmFolder
from model.films.pixels import augmented, film_bytes, standardised, views
from model.inference.tensors import letterbox
from tests.model.films.conftest import TINY, fresh


def test_a_run_comes_back_bit_for_bit_and_half_as_close(tmp_path: Path) -> None:
    model, x = fresh().eval(), torch.randn(2, 1, 32, 32)
    save_run(tmp_path / "whole", FilmRun(model, {"seed": 1}))
    save_run(tmp_path / "half", FilmRun(model), half=True)
    whole, half = load_run(tmp_path / "whole"), load_run(tmp_path / "half")
    assert whole.record == {"seed": 1} and whole.model.config == TINY
    for a, b, c in zip(model(x), whole.model(x), half.model(x)):
        assert torch.equal(a, b)
        assert torch.allclose(a, c, atol=1e-2)
    sizes = [
        (tmp_path / n / "weights.safetensors").stat().st_size for n in ("whole", "half")
    ]
    assert sizes[1] < 0.65 * sizes[0]


@pytest.mark.parametrize("damage", ["missing", "garbage", "other", "config"])
def test_a_damaged_run_is_refused(tmp_path: Path, damage: str) -> None:
    save_run(tmp_path, FilmRun(fresh()))
    weights, config = tmp_path / "weights.safetensors", tmp_path / "config.json"
    if damage == "missing":
        weights.unlink()
    elif damage == "garbage":
        weights.write_bytes(b"no tensors")
    else:
        data = json.loads(config.read_text())
        data["network"]["width" if damage == "other" else "extra"] = 32
        config.write_text(json.dumps(data))
    with pytest.raises(CheckpointError):
        load_run(tmp_path)


def test_heads_answer_the_questions_of_their_source() -> None:
    model = fresh()
    nih, kermany = model(torch.randn(3, 1, 32, 32))
    assert nih.shape == (3, 15) and kermany.shape == (3, 1)
    assert model.place(NIH) == 0 and model.place(KERMANY) == 1
    with pytest.raises(ConfigurationError):
        model.place(SHENZHEN)


def test_the_shipped_sizes_give_twelve_by_twelve_patches() -> None:
    model = FilmModel(FilmConfig())
    assert model.encoder.grid == (12, 12) and FILM_IMAGE.size == 192
    assert sum(p.numel() for p in model.parameters()) < 5e6


def test_films_are_read_as_the_hook_path_reads_them(folder: FilmFolder) -> None:
    film = folder.select(NIH)[0]
    square, _ = letterbox(folder.pixels(film), 32)
    ours = standardised(film_bytes(folder, [film], 32, progress=False))[0, 0]
    assert np.abs(ours.numpy() - square).max() < 0.05


def test_decoded_films_are_kept_and_used_again(
    folder: FilmFolder, tmp_path: Path
) -> None:
    rows = folder.select(NIH)[:3]
    first = film_bytes(folder, rows, 32, cache=tmp_path, progress=False)
    (kept,) = tmp_path.iterdir()
    np.save(kept, first + 1)
    again = film_bytes(folder, rows, 32, cache=tmp_path, progress=False)
    assert (again == first + 1).all()
    assert film_bytes(folder, rows, 96, progress=False).shape == (3, 96, 96)


def test_a_film_that_is_not_square_is_refused(
    folder: FilmFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import Image

    (tmp_path / "images").mkdir()
    film = folder.rows[0]
    Image.fromarray(np.zeros((20, 30), np.uint8)).save(tmp_path / "images" / film.image)
    with pytest.raises(DatasetError):
        film_bytes(replace(folder, folder=tmp_path), [film], 32, progress=False)


def test_augmentation_keeps_the_side_and_is_reproducible() -> None:
    film = np.full((40, 64, 64), 40, dtype=np.uint8)
    film[:, 24:40, 8:20] = 250  # bright on the film's left
    seen, place = augmented(film, torch.Generator().manual_seed(1))
    left, right = seen[..., :32].sum((1, 2, 3)), seen[..., 32:].sum((1, 2, 3))
    assert bool((left > right).all())
    assert bool((torch.linalg.det(place[:, :, :2]) > 0).all())  # no mirror
    again, _ = augmented(film, torch.Generator().manual_seed(1))
    assert torch.equal(seen, again)


def test_a_mirror_is_drawn_only_when_asked_for_and_places_follow() -> None:
    film = np.full((60, 64, 64), 40, dtype=np.uint8)
    film[:, 24:40, 8:20] = 250  # bright on the film's left
    seen, place = augmented(film, torch.Generator().manual_seed(1), mirror=True)
    turned = torch.linalg.det(place[:, :, :2]) < 0
    left, right = seen[..., :32].sum((1, 2, 3)), seen[..., 32:].sum((1, 2, 3))
    assert torch.equal(turned, left < right)
    assert 15 < int(turned.sum()) < 45


def test_views_are_the_film_and_two_other_distances() -> None:
    film = np.zeros((1, 64, 64), dtype=np.uint8)
    film[:, 20:44, 20:44] = 200
    same, nearer, farther = views(standardised(film))
    assert torch.equal(same, standardised(film))
    bright = [int((v > 0).sum()) for v in (nearer, same, farther)]
    assert bright[0] > bright[1] > bright[2]
    assert all(abs(float(v.mean())) < 1e-4 for v in (nearer, farther))


def test_a_start_of_other_size_and_fewer_heads_gives_its_weights() -> None:
    image = replace(TINY.image, size=64)
    config = replace(TINY, image=image, sources=(RENDERED, KERMANY, NIH))
    start, model = fresh(seed=1), fresh(config, seed=2)
    before = model.heads[0].weight.clone()
    begin_from(model, start)
    assert torch.equal(model.encoder.project.weight, start.encoder.project.weight)
    assert torch.equal(model.heads[2].weight, start.heads[0].weight)
    assert torch.equal(model.heads[1].bias, start.heads[1].bias)
    assert torch.equal(model.heads[0].weight, before)
    fewer = fresh(replace(TINY, sources=(KERMANY,)), seed=3)
    begin_from(fewer, start)
    assert torch.equal(fewer.heads[0].weight, start.heads[1].weight)
    with pytest.raises(ConfigurationError):
        begin_from(fresh(replace(TINY, width=8)), start)
