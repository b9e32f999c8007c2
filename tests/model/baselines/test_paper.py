"""The paper's rows are the stated facts, and every one has a row of ours beside it."""

from __future__ import annotations

import pytest

from model.baselines.paper import PAPER_ABLATION, PAPER_MODELS, WITHOUT
from model.baselines.registry import METHODS
from model.baselines.shared import COALITION_KEYS


@pytest.mark.component("A25f")
def test_the_six_models_are_as_stated() -> None:
    stated = {
        "BioViL-T": (85.7, 88.2, 83.1, 82.5, 82.8),
        "MedCLIP": (86.4, 89.0, 84.3, 83.7, 84.0),
        "CheXzero": (87.1, 89.5, 85.2, 84.6, 84.8),
        "Unimodal text LLM": (78.2, 82.5, 75.8, 74.3, 75.0),
        "Unimodal ViT": (80.4, 84.1, 78.6, 76.5, 77.5),
        "M-LLM": (89.6, 92.3, 87.4, 86.9, 87.1),
    }
    found = {
        name: (row.accuracy, row.auroc, row.precision, row.recall, row.f1)
        for name, row in PAPER_MODELS.items()
    }
    assert list(found) == list(stated)
    for name, row in stated.items():
        assert found[name] == pytest.approx([x / 100 for x in row])
        precision, recall, f1 = row[2:]
        assert 2 * precision * recall / (precision + recall) == pytest.approx(
            f1, abs=0.11
        )


def test_the_ablation_is_as_stated() -> None:
    stated = {
        "image+text+values": (89.6, 92.3),
        "image+values": (82.5, 85.7),
        "text+values": (83.2, 86.3),
        "image+text": (81.9, 84.9),
    }
    assert {k: (r.accuracy, r.auroc) for k, r in PAPER_ABLATION.items()} == {
        k: (pytest.approx(a / 100), pytest.approx(b / 100))
        for k, (a, b) in stated.items()
    }
    assert set(WITHOUT) == set(PAPER_ABLATION) <= set(COALITION_KEYS)


@pytest.mark.component("A25f")
def test_every_row_of_the_paper_has_one_of_ours() -> None:
    named = [method.paper for method in METHODS if method.paper]
    assert sorted(named) == sorted(PAPER_MODELS)
    assert len({method.name for method in METHODS}) == len(METHODS)
