"""Exact ceilings: the published table, and agreement with counting."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from fhir_adapters.patient_record import Modality
from model.synthetic.ceiling import (
    COALITIONS,
    coalition_name,
    joint,
    population_ceiling,
    posterior,
    severity_only_ceiling,
)
from model.synthetic.generate import generate
from model.synthetic.latents import (
    PARAMETERS,
    Split,
    draw_latents,
    generator,
    parameter_set,
)

# AUROC and accuracy of I, T, S, I+T, I+S, T+S, I+T+S.
TABLE = {
    "P0": (
        (0.8385, 0.809),
        (0.8212, 0.794),
        (0.8538, 0.823),
        (0.8558, 0.811),
        (0.8603, 0.823),
        (0.8599, 0.823),
        (0.9228, 0.897),
    ),
    "P1": (
        (0.8509, 0.824),
        (0.8333, 0.808),
        (0.8631, 0.835),
        (0.8669, 0.824),
        (0.8705, 0.835),
        (0.8696, 0.835),
        (0.9340, 0.908),
    ),
}


@pytest.mark.parametrize("name", ["P0", "P1"])
def test_ceilings_are_those_of_the_table(name: str) -> None:
    found = population_ceiling(name)
    for coalition, (auroc, accuracy) in zip(COALITIONS, TABLE[name], strict=True):
        assert found[coalition].auroc == pytest.approx(auroc, abs=1e-4)
        assert found[coalition].accuracy == pytest.approx(accuracy, abs=1e-3)


@pytest.mark.parametrize(
    ("name", "auroc", "accuracy"), [("P0", 0.8623, 0.828), ("P1", 0.8722, 0.841)]
)
def test_severity_only_ceiling(name: str, auroc: float, accuracy: float) -> None:
    found = severity_only_ceiling(name)
    assert found.auroc == pytest.approx(auroc, abs=1e-4)
    assert found.accuracy == pytest.approx(accuracy, abs=1e-3)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"p_concordant": 0.6},
        {"severity_error": (0.2, 0.01, 0.05), "flip_clear": 0.2},
    ],
)
def test_joint_is_a_distribution(changes: dict[str, object]) -> None:
    table = joint(dataclasses.replace(PARAMETERS["P0"], **changes))
    assert table.shape == (2, 3, 3, 3, 3, 3, 3)
    assert table.sum() == pytest.approx(1)
    assert table.min() > 0


def test_joint_cannot_be_changed_by_a_caller() -> None:
    with pytest.raises(ValueError, match="read-only"):
        joint(PARAMETERS["P0"])[0] = 0


@pytest.mark.parametrize("coalition", COALITIONS, ids=coalition_name)
def test_posterior_is_calibrated_and_attains_the_ceiling(
    coalition: frozenset[Modality],
) -> None:
    n = 40_000
    latents = draw_latents(n, generator(Split.TEST, 11), parameter_set("P1"))
    chance = posterior(latents, coalition, "P1")
    ceiling = population_ceiling("P1")[coalition]
    assert chance.mean() == pytest.approx(latents.label.mean(), abs=0.01)
    assert roc_auc_score(latents.label, chance) == pytest.approx(
        ceiling.auroc, abs=0.008
    )
    accuracy = ((chance > 0.5) == latents.label).mean()
    assert accuracy == pytest.approx(ceiling.accuracy, abs=0.008)
    for low in np.arange(0, 1, 0.2):
        rows = (chance >= low) & (chance < low + 0.2)
        if rows.sum() > 500:
            assert latents.label[rows].mean() == pytest.approx(
                chance[rows].mean(), abs=0.04
            )


def test_posterior_of_cases_equals_posterior_of_their_latents() -> None:
    cases = list(generate(30, 4, "P1", 32, Split.TEST))
    latents = draw_latents(30, generator(Split.TEST, 4, 0), parameter_set("P1"))
    for coalition in COALITIONS:
        assert np.array_equal(
            posterior(cases, coalition), posterior(latents, coalition, "P1")
        )


def test_empty_coalition_gives_the_prevalence() -> None:
    cases = list(generate(2, 4, image_size=32))
    assert posterior(cases, ()) == pytest.approx([0.421, 0.421], abs=1e-3)
    assert posterior([], (), "P0").shape == (0,)


def test_posterior_needs_one_known_parameter_set() -> None:
    latents = draw_latents(3, generator(Split.TEST, 4))
    with pytest.raises(ValueError, match="not known"):
        posterior(latents, COALITIONS[0])
    mixed = [*generate(1, 4, "P0", 32), *generate(1, 4, "P1", 32)]
    with pytest.raises(ValueError, match="different parameter sets"):
        posterior(mixed, COALITIONS[0])


def test_coalition_names_keep_the_order_of_the_modalities() -> None:
    assert coalition_name({Modality.VALUES, Modality.IMAGE}) == "image+values"
