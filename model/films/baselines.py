"""What needs no encoder: pixels, the rim of the film, age and sex and view.

A model that does not beat the rim has learnt hospitals; one that does not beat age, sex
and view has learnt who lies in bed. All are logistic regressions on training films of
one source, fitted again for every report.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression

from model.films.folder import FilmFolder, FilmRow
from model.films.pixels import film_bytes

SMALL = 32
RIM = 3
COMPONENTS = 100
_AGE = 58.0  # years per unit, so that ages weigh like the other columns

Table = NDArray[np.float64]


def pixel_table(folder: FilmFolder, rows: Sequence[FilmRow]) -> Table:
    """(n, 1024): the film at 32 x 32, in [0, 1]."""
    films = film_bytes(folder, rows, SMALL, progress=False)
    return films.reshape(len(rows), SMALL * SMALL) / 255.0


def rim(table: Table) -> Table:
    """The outer three pixels of :func:`pixel_table`: (n, 348)."""
    inner = np.zeros((SMALL, SMALL), dtype=np.bool_)
    inner[RIM:-RIM, RIM:-RIM] = True
    return table[:, ~inner.ravel()]


def person_table(rows: Sequence[FilmRow]) -> Table:
    """(n, 6): age and whether it is known, sex and view as two columns each."""
    return np.array(
        [
            [
                (row.age or 0.0) / _AGE,
                float(row.age is not None),
                float(row.sex == "M"),
                float(row.sex == "F"),
                float(row.view == "PA"),
                float(row.view == "AP"),
            ]
            for row in rows
        ],
        dtype=np.float64,
    ).reshape(len(rows), 6)


def read_off(
    training: Table, truth: NDArray[np.float32], tested: Sequence[Table]
) -> list[NDArray[np.float32]]:
    """One logistic regression per question, on 100 components of wider tables.

    Args:
        training: (n, columns).
        truth: (n, questions), NaN where not asked.
        tested: Tables (m, columns).

    Returns:
        Logits (m, questions) of every tested table; 0 for a question of which the
        training films hold one answer only.
    """
    if training.shape[1] > COMPONENTS:
        size = min(COMPONENTS, len(training))
        axes = PCA(size, svd_solver="full").fit(training)
        training = axes.transform(training)
        tested = [axes.transform(t) if len(t) else t for t in tested]
    found = [np.zeros((len(t), truth.shape[1]), dtype=np.float32) for t in tested]
    for question in range(truth.shape[1]):
        known = ~np.isnan(truth[:, question])
        wanted = truth[known, question]
        if len(np.unique(wanted)) < 2:
            continue
        reader = LogisticRegression(max_iter=3000).fit(training[known], wanted)
        for table, logits in ((t, x) for t, x in zip(tested, found) if len(t)):
            logits[:, question] = reader.decision_function(table)
    return found
