"""Painting hidden patches: what is hidden, what is learnt, and what the probe tells."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from model.errors import ConfigurationError
from model.films.folder import NIH, QUESTIONS, FilmFolder
from model.films.masked import (
    MaskedSettings,
    epochs_of,
    features,
    hidden_patches,
    patch_targets,
    pretrain_masked,
    probe,
    probe_report,
)
from model.films.training_set import FilmSet, film_set
from tests.model.films.conftest import TINY, fresh


@pytest.fixture(scope="module")
def training(folder: FilmFolder) -> FilmSet:
    """Films of the training patients."""
    return film_set(folder, folder.for_weights("train"), TINY, progress=False)


def sided(count: int, seed: int) -> FilmSet:
    """Noisy films with a disc in one lung; the answer is which lung.

    Brightness says nothing, so that random features know little of it.
    """
    random = np.random.default_rng(seed)
    films = random.normal(120, 25, (count, 32, 32))
    films[:, 5:27, 3:14] -= 50
    films[:, 5:27, 18:29] -= 50
    truth = np.zeros((count, len(QUESTIONS[NIH])), np.float32)
    truth[:, 2] = np.arange(count) % 2
    down, across = np.mgrid[0:32, 0:32]
    for film, left in zip(films, truth[:, 2]):
        y, x = random.integers(9, 23), random.integers(6, 11) + (0 if left else 15)
        film[(down - y) ** 2 + (across - x) ** 2 < 16] += 60
    return FilmSet([], films.clip(0, 255).astype(np.uint8), (truth,))


@pytest.mark.component("A15")
def test_a_probe_after_painting_beats_random_weights() -> None:
    settings = MaskedSettings(epochs=5, rate=4e-3, batch=16, progress=False)
    run = pretrain_masked(sided(256, 3).films, TINY, settings)
    found = probe_report(run, sided(80, 1), sided(150, 2), random=2)
    assert found["masked"] > max(found["random"]) + 0.03 and found["holds"]
    assert len(found["random"]) == 2 and found["losses"][-1] < found["losses"][0]


def test_no_film_has_no_features_and_cannot_be_painted() -> None:
    nothing = np.zeros((0, 32, 32), np.uint8)
    assert features(fresh(), nothing).shape == (0, 32)
    with pytest.raises(ConfigurationError):
        pretrain_masked(nothing, TINY, MaskedSettings(progress=False))


def test_hidden_squares_are_whole_and_targets_are_means() -> None:
    hidden = hidden_patches(50, (5, 6), 0.5, torch.Generator().manual_seed(0))
    assert hidden.shape == (50, 5, 6)
    assert torch.equal(hidden[:, 0], hidden[:, 1])
    assert 0.4 < float(hidden.float().mean()) < 0.6
    film = torch.arange(64.0).view(1, 1, 8, 8)
    targets = patch_targets(film, (2, 2))
    assert targets.shape == (1, 4, 16)
    assert torch.equal(targets[0, 0].view(4, 4), film[0, 0, :4, :4])


def test_painting_learns_and_a_rerun_agrees(
    training: FilmSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = MaskedSettings(epochs=3, rate=4e-3, batch=16, progress=True)
    run = pretrain_masked(training.films, TINY, settings, state=tmp_path)
    losses = run.record["losses"]
    assert losses[-1] < losses[0] and "masked epoch 3" in capsys.readouterr().out
    again = pretrain_masked(training.films, TINY, settings, state=tmp_path)
    for name, x in run.model.state_dict().items():
        assert torch.equal(x, again.model.state_dict()[name])
    with pytest.raises(ConfigurationError):
        pretrain_masked(
            training.films, TINY, replace(settings, hidden=0.4), state=tmp_path
        )
    assert epochs_of([]) == "not run" and "2 epochs" in epochs_of([1.0, 0.5])


def test_a_probe_of_a_question_without_both_answers_is_left_out() -> None:
    films = sided(40, 1)
    films.targets[0][:, 2] = 1
    assert np.isnan(probe(fresh(), films, films))
