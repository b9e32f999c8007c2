"""TF-IDF, logistic regression, trees: missing values, unknown codes, real skill."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fhir_adapters.patient_record import Modality
from model.baselines.classical import (
    boosted_trees,
    fit_on_measured,
    logistic_values,
    note_text,
    tfidf,
    trees,
    value_codes,
    value_table,
    values_pipeline,
)
from model.evaluation.scores import auroc
from tests.model.baselines.samples import shared
from tests.model.network_samples import records, without


@pytest.mark.component("A24f")
def test_traditional_models_learn_from_their_own_modality() -> None:
    truth = shared().tested.truth
    for method, modality in (
        (boosted_trees, "values"),
        (logistic_values, "values"),
        (tfidf, "text"),
    ):
        found = method(shared())
        assert list(found.tested) == [modality]
        assert auroc(found.tested[modality], truth) > 0.7


def test_missing_values_stay_missing_in_the_table() -> None:
    chosen = list(records()[:3])
    chosen[1] = without(chosen[1], Modality.VALUES)
    codes = value_codes(chosen)
    table = value_table(chosen, codes)
    assert table.shape == (3, len(codes) + 2)
    assert np.isnan(table[1, :-2]).all() and not np.isnan(table[0, :-2]).all()
    assert note_text(chosen[0]) and note_text(without(chosen[0], Modality.TEXT)) == ""
    assert (value_table(chosen, ()).shape) == (3, 2)  # unknown codes are left out


def test_without_birth_date_and_sex_both_are_missing() -> None:
    record = records()[0]
    nobody = replace(record.patient, birth_date=None, sex=None)
    table = value_table([replace(record, patient=nobody)], ())
    assert np.isnan(table).all()


@pytest.mark.parametrize("make", [lambda: trees(0), values_pipeline])
def test_a_missing_value_is_informative_not_filled_with_harm(make) -> None:
    random = np.random.default_rng(0)
    truth = random.integers(0, 2, 400)
    informative = np.where(truth == 1, np.nan, random.normal(size=400))
    never = np.full(400, np.nan)
    table = np.stack([informative, random.normal(size=400), never], axis=1)
    model = make()
    columns = fit_on_measured(model, table[:300], truth[:300])
    assert columns.tolist() == [0, 1]  # a value nobody had tells nothing
    chance = model.predict_proba(table[300:, columns])[:, 1]
    assert auroc(chance, truth[300:]) > 0.95
