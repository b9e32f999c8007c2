"""Cached tokens are those that the model makes of the same records."""

from __future__ import annotations

import pytest
import torch

from model.films.case_sets import CaseSet, drawn_set, joined_set, together
from model.films.case_tokens import (
    case_tokens,
    film_tokens,
    note_states,
    prepared,
    without_films,
)
from model.films.film_model import FilmRun
from model.films.folder import FilmFolder
from model.films.joint_training import network
from model.inference.tensors import to_tensors
from model.inference.vocabulary import InputVocabulary
from model.network.fusion import TriModalModel
from model.synthetic.latents import Split

Made = tuple[TriModalModel, InputVocabulary, CaseSet]


@pytest.fixture(scope="module")
def made(folder: FilmFolder, taught: FilmRun) -> Made:
    grid = taught.model.encoder.grid
    cases = together(
        joined_set(folder, "val", size=32, grid=grid, copies=2, seed=5),
        drawn_set(6, 5, Split.TRAIN, grid),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        model, vocabulary = network(taught, cases)
    return model.eval(), vocabulary, cases


def test_tokens_equal_those_of_whole_records(made: Made) -> None:
    model, vocabulary, cases = made
    films = film_tokens(model, cases, vocabulary, progress=False)
    assert len(films) == len(cases.one_of_each_film())
    inputs = without_films(cases.data.records, vocabulary)
    assert inputs.pixels.shape[-1] < vocabulary.image_size
    found = case_tokens(model, inputs, films, cases.film, progress=False)
    whole = to_tensors(cases.data.records, vocabulary)
    with torch.no_grad():
        wanted = model.encode(whole)
        same = [model.fuse(t, whole.present).logits for t in (found, wanted)]
    assert torch.equal(inputs.present, whole.present)
    assert torch.allclose(found.image, wanted.image, atol=1e-4)
    assert torch.equal(found.text_mask, wanted.text_mask)
    assert torch.allclose(same[0], same[1], atol=1e-4)


def test_known_states_give_the_same_tokens(made: Made) -> None:
    model, vocabulary, cases = made
    inputs = without_films(cases.data.records, vocabulary)
    films = film_tokens(model, cases, vocabulary, progress=False)
    states = note_states(model, inputs, progress=False)
    assert states.shape[:2] == inputs.input_ids.shape
    plain = case_tokens(model, inputs, films, cases.film, progress=False)
    known = case_tokens(model, inputs, films, cases.film, states=states, progress=False)
    there = plain.text_mask
    assert torch.allclose(known.text[there], plain.text[there], atol=1e-5)


def test_bfloat16_is_close_and_comes_back_as_float32(made: Made) -> None:
    model, vocabulary, cases = made
    exact = film_tokens(model, cases, vocabulary, progress=False)
    quick = film_tokens(model, cases, vocabulary, progress=False, bfloat16=True)
    assert quick.dtype == torch.float32 and not torch.equal(quick, exact)
    assert (quick - exact).abs().mean() < 0.05 * exact.abs().mean()
    inputs = without_films(cases.data.records, vocabulary)
    states = note_states(model, inputs, progress=False, bfloat16=True)
    assert states.dtype == torch.bfloat16
    tokens = case_tokens(
        model, inputs, quick, cases.film, states=states, progress=False, bfloat16=True
    )
    assert {x.dtype for x in tokens.content()} == {torch.float32}


def test_prepared_holds_targets_and_no_films(made: Made) -> None:
    _, vocabulary, cases = made
    data = prepared(cases.data, vocabulary)
    assert data.targets[:, 0].tolist() == [case.label for case in cases.cases]
    assert bool(data.known.all()) and data.lesion is None
    assert bool(data.inputs.present[:, 0].all())
