"""A fusion may trust a film as far as films of other patients deserve."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from model.films.case_sets import CaseSet, drawn_set, joined_set, together
from model.films.case_tokens import film_tokens
from model.films.film_model import FilmRun
from model.films.film_reading import film_reading
from model.films.folder import FilmFolder
from model.films.joint_training import network
from model.synthetic.latents import Split


@pytest.fixture(scope="module")
def sets(folder: FilmFolder, taught: FilmRun) -> tuple[CaseSet, CaseSet]:
    grid = taught.model.encoder.grid
    training, held_out = (
        joined_set(folder, split, size=32, grid=grid, copies=1, seed=5)
        for split in ("train", "test")
    )
    return together(training, drawn_set(12, 5, Split.TRAIN, grid)), held_out


def test_an_encoder_that_knows_its_own_films_better_is_trusted_less(
    taught: FilmRun, sets: tuple[CaseSet, CaseSet]
) -> None:
    training, held_out = sets
    model, vocabulary = network(taught, training)
    films = film_tokens(model, training, vocabulary, progress=False)
    others = film_tokens(model, held_out, vocabulary, progress=False)
    fair = film_reading(model, (films, training), (others, held_out))
    assert fair["trained"] > 0.8 and fair["other"] > 0.7
    # Films of other patients that tell nothing: their tokens are shuffled.
    order = torch.from_numpy(np.random.default_rng(1).permutation(len(others)))
    blind = film_reading(model, (films, training), (others[order], held_out))
    assert blind["other"] < fair["other"]
    assert blind["shuffled"] > fair["shuffled"]
    gap = blind["trained"] - blind["other_high"]
    assert blind["shuffled"] == pytest.approx(gap / (blind["trained"] - 0.5), abs=1e-3)
