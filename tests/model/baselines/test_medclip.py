"""MedCLIP style: pairs are made by findings, not by patients."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from model.baselines import medclip as module
from model.baselines.contrastive import embeddings
from model.baselines.medclip import medclip, shown_findings, soft_match
from model.evaluation.scores import auroc
from model.training.optimise import Schedule
from tests.model.baselines.samples import shared


@pytest.mark.component("A24b")
def test_equal_findings_are_targets_for_each_other() -> None:
    alike = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    fits, paired = 20 * alike, 20 * torch.eye(3)
    assert soft_match(fits, alike) < soft_match(20 * (1 - alike), alike)
    assert soft_match(4 * alike, alike) < soft_match(paired, alike)  # no pairing


@pytest.mark.component("A24b")
def test_findings_are_those_of_each_modality() -> None:
    films, notes = (shown_findings(shared().tested, m) for m in (0, 1))
    assert films.shape == notes.shape == (1_000, 5)
    assert torch.allclose(films.norm(dim=1), torch.ones(1_000))
    assert not torch.equal(films, notes)  # each sees severity with its own errors
    assert torch.equal(films[:, 3:], notes[:, 3:])  # one diagnosis


@pytest.mark.component("A24b")
def test_films_lie_near_notes_of_equal_findings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept = []
    real = module.scored
    monkeypatch.setattr(
        module, "scored", lambda s, model, z: kept.append(model) or real(s, model, z)
    )
    quick = replace(shared().settings, contrastive=Schedule(6, 2e-3, 32))
    found = medclip(replace(shared(), settings=quick))
    films, notes = embeddings(kept[0], shared().tested)
    alike = shown_findings(shared().tested, 0) @ shown_findings(shared().tested, 1).T
    near = films @ notes.T
    both = (alike > 0.9) | (alike < 0.1)
    assert auroc(near[both].numpy(), (alike[both] > 0.5).double().numpy()) > 0.8
    truth = shared().tested.truth
    assert auroc(found.tested["image+text"], truth) > 0.7  # linear
    assert auroc(found.tested["image"], truth) > 0.7  # zero-shot
