"""Which recipe ``trivium-model train`` asks for, and how the card tells it."""

from __future__ import annotations

import argparse

import pytest

from model.evaluation.model_card import how_trained, rebuilt_by
from model.training.commands import add_train_options, synthetic_settings
from model.training.train_settings import TrainSettings


def asked(*options: str) -> TrainSettings:
    parser = argparse.ArgumentParser()
    add_train_options(parser)
    return synthetic_settings(parser.parse_args(options))


def test_the_default_recipe_varies_cases_and_tries_the_explainability_loss() -> None:
    settings = asked()
    assert settings.losses.names() == ("cls", "exp", "uni")
    assert settings.guard and settings.watch and settings.dropout == 0.6
    plain = asked("--plain")
    assert plain.losses.names() == ("cls", "uni") and plain == TrainSettings()


@pytest.mark.parametrize("more", [(), ("--plain",)])
def test_losses_that_were_asked_for_win(more: tuple[str, ...]) -> None:
    settings = asked("--losses", "cls,con", "--balanced", "--no-guard", *more)
    assert settings.losses.names() == ("cls", "con")
    assert settings.losses.balanced and not settings.guard
    assert asked("--balanced", *more).losses.balanced


def test_the_card_says_what_the_explainability_loss_brought() -> None:
    mass = {"without": 0.67, "with_it": 0.99}
    guard = {
        "on": True,
        "auroc_cost": 0.0006,
        "film_mass_of_unseen_patients": mass,
    }
    record = {
        "preset": "tiny",
        "staged": True,
        "data": {"varied": True, "cases": 20_000},
        "seeds": {"train": 7},
        "settings": {"watch": True},
        "figures": {"explanation_guard": guard},
    }
    words = how_trained(record)
    assert "-0.0006 AUROC" in words and "0.67 to 0.99" in words
    assert rebuilt_by(record).endswith("--cases 20000 --seed 7")
    off = {**record, "figures": {"explanation_guard": {**guard, "on": False}}}
    assert "AUROC" not in how_trained(off)
