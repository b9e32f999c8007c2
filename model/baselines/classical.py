"""Traditional clinical prediction models: no network, no encoder of ours.

- TF-IDF over words and word pairs of the note, then logistic regression (Salton and
  Buckley, 1988): the bag of words that every text model has to beat.
- Gradient-boosted trees on the values (Friedman, 2001; histogram form of LightGBM, Ke
  et al., 2017): a value that was not measured is its own branch, nothing is filled in.
- Logistic regression on the values: the median for what is missing, and a flag beside
  it that says so.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from fhir_adapters.patient_record import PatientRecord
from model.baselines.scored import Scored
from model.baselines.shared import Shared
from model.inference.vocabulary import SEX_NUMBERS

Floats = NDArray[np.float64]

TEXT, VALUES = "text", "values"
_STEPS = 2_000


def note_text(record: PatientRecord) -> str:
    """All notes of a record, one after the other; empty without one."""
    return "\n".join(note.text for note in record.notes)


def value_codes(records: Sequence[PatientRecord]) -> tuple[str, ...]:
    """LOINC codes measured in any of the records, sorted."""
    return tuple(sorted({v.loinc for r in records for v in r.values}))


def value_table(records: Sequence[PatientRecord], codes: Sequence[str]) -> Floats:
    """Values by code, then age in years and sex: (n, codes + 2), NaN where missing.

    A code that is not in ``codes`` is left out: nothing was fitted for it.
    """
    column = {code: number for number, code in enumerate(codes)}
    table = np.full((len(records), len(codes) + 2), np.nan)
    for row, record in enumerate(records):
        for value in record.values:
            if value.loinc in column:
                table[row, column[value.loinc]] = float(value.value)
        years = record.patient.age_years(record.cutoff)
        table[row, -2] = np.nan if years is None else years
        table[row, -1] = SEX_NUMBERS.get(record.patient.sex or "", np.nan)
    return table


def fit_on_measured(
    model: HistGradientBoostingClassifier | Pipeline, table: Floats, target: Floats
) -> NDArray[np.int64]:
    """Fit on the columns that hold a value at all.

    Returns:
        Their numbers: what the fitted model reads of another table.
    """
    columns = np.flatnonzero((~np.isnan(table)).any(0))
    model.fit(table[:, columns], target)
    return columns


def text_pipeline(min_cases: int = 3) -> Pipeline:
    """TF-IDF of words and word pairs, then logistic regression.

    Args:
        min_cases: A word of fewer notes is left out.
    """
    words = TfidfVectorizer(
        ngram_range=(1, 2), min_df=min_cases, sublinear_tf=True, lowercase=True
    )
    return make_pipeline(words, LogisticRegression(C=1.0, max_iter=_STEPS))


def trees(seed: int, leaf: int = 20) -> HistGradientBoostingClassifier:
    """Gradient-boosted trees with early stopping; missing values are native.

    Args:
        seed: Of the split for early stopping.
        leaf: Cases that a leaf must hold.
    """
    return HistGradientBoostingClassifier(
        learning_rate=0.06,
        max_iter=300,
        max_leaf_nodes=15,
        min_samples_leaf=leaf,
        early_stopping=True,
        random_state=seed,
    )


def values_pipeline() -> Pipeline:
    """Median and missing flags, standard scale, logistic regression."""
    filled = SimpleImputer(
        strategy="median", add_indicator=True, keep_empty_features=True
    )
    return make_pipeline(
        filled, StandardScaler(), LogisticRegression(C=1.0, max_iter=_STEPS)
    )


def tfidf(shared: Shared) -> Scored:
    """TF-IDF and logistic regression on the notes."""
    model = text_pipeline()
    sides = [
        [note_text(record) for record in part.data.records]
        for part in (shared.training, shared.held_out, shared.tested)
    ]
    model.fit(sides[0], shared.training.truth)
    terms = float(len(model[0].vocabulary_))
    return Scored(
        {TEXT: model.decision_function(sides[1])},
        {TEXT: model.decision_function(sides[2])},
        {"parameters": terms + 1},
    )


def boosted_trees(shared: Shared) -> Scored:
    """Gradient-boosted trees on the values."""
    return _on_values(shared, trees(shared.recipe.seed))


def logistic_values(shared: Shared) -> Scored:
    """Logistic regression on the values."""
    return _on_values(shared, values_pipeline())


def _on_values(
    shared: Shared, model: HistGradientBoostingClassifier | Pipeline
) -> Scored:
    codes = value_codes(shared.training.data.records)
    sides = [
        value_table(part.data.records, codes)
        for part in (shared.training, shared.held_out, shared.tested)
    ]
    columns = fit_on_measured(model, sides[0], shared.training.truth)
    return Scored(
        {VALUES: model.decision_function(sides[1][:, columns])},
        {VALUES: model.decision_function(sides[2][:, columns])},
    )
