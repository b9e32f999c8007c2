"""A network around a film encoder: what is copied, what learns, how far it trusts."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from model.films.case_sets import CaseSet, drawn_set, joined_set, together
from model.films.case_tokens import film_tokens
from model.films.film_model import FilmRun
from model.films.folder import FilmFolder
from model.films.joint_training import (
    JointSettings,
    network,
    teach,
    teach_pool,
)
from model.network.fusion import TriModalModel
from model.network.inputs import IMAGE
from model.synthetic.latents import Split
from model.training.optimise import Schedule

ONE = Schedule(epochs=1, rate=1e-3, batch=64)
BRIEF = JointSettings(
    pool=Schedule(epochs=40, rate=2e-2, batch=32),
    text=ONE,
    values=ONE,
    pooled=ONE,
    tokens=ONE,
    progress=False,
)


@pytest.fixture(scope="module")
def sets(folder: FilmFolder, taught: FilmRun) -> tuple[CaseSet, CaseSet]:
    grid = taught.model.encoder.grid
    training, held_out = (
        joined_set(folder, split, size=32, grid=grid, copies=1, seed=5)
        for split in ("train", "test")
    )
    return together(training, drawn_set(12, 5, Split.TRAIN, grid)), held_out


def fresh(run: FilmRun, cases: CaseSet) -> TriModalModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        return network(run, cases)[0]


def test_the_network_takes_over_encoder_and_pool(
    taught: FilmRun, sets: tuple[CaseSet, CaseSet]
) -> None:
    model = fresh(taught, sets[0])
    for own, given in (
        (model.image_encoder, taught.model.encoder),
        (model.pools[IMAGE], taught.model.pool),
    ):
        for name, x in given.state_dict().items():
            assert torch.equal(own.state_dict()[name], x), name
    assert model.config.width == taught.model.config.width


def test_teaching_leaves_the_film_encoder_as_it_is(
    taught: FilmRun, sets: tuple[CaseSet, CaseSet]
) -> None:
    training, held_out = sets
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        model, vocabulary = network(taught, training)
        before = {n: x.clone() for n, x in model.state_dict().items()}
        figures = teach(model, vocabulary, training, held_out, BRIEF)
    after = model.state_dict()
    changed = {
        n.split(".")[0] for n, x in after.items() if not torch.equal(x, before[n])
    }
    assert "image_encoder" not in changed
    assert changed >= {"text_encoder", "values_encoder", "fusion", "pools"}
    assert not model.training
    assert set(figures) == {"pool", "film_reading", "text", "values", "fusion"}


def test_the_pool_learns_where_to_look(
    taught: FilmRun, sets: tuple[CaseSet, CaseSet]
) -> None:
    cases = sets[0]
    model, vocabulary = network(taught, cases)
    films = film_tokens(model, cases, vocabulary, progress=False)
    lesion = torch.from_numpy(cases.subset(cases.one_of_each_film()).lesion)
    boxed = lesion.any(1)

    def inside() -> float:
        with torch.no_grad():
            score = model.pools[IMAGE].get_submodule("score")(films).squeeze(-1)
            share = (score.softmax(-1) * lesion).sum(1)[boxed].mean()
        return float(share)

    before = inside()
    losses = teach_pool(model, films, cases, BRIEF)
    assert losses[-1] < losses[0]
    assert inside() > before + 0.1
    without = teach_pool(model, films, cases, replace(BRIEF, lesion=0.0))
    assert len(without) == BRIEF.pool.epochs
