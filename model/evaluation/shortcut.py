"""A burnt-in tag that goes with the label, as a hospital's own marker may.

Two rows. The checkpoint has never seen the tag: its AUROC must not depend on whether
the tag goes with the label. And the probe itself is tested: a plain classifier on
pixels that *was* trained with the tag (correlation .9) must lose when the correlation
is gone, or the probe would find nothing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from model.evaluation import film_shifts
from model.evaluation.bench import Bench, probability
from model.evaluation.resampling import Interval, bootstrap
from model.evaluation.rows import Row, at_most, judged
from model.evaluation.scores import Floats, auroc

CORRELATION = 0.9
LOST = 0.03
_SIDE = 16  # pixels of the planted classifier's view


def shortcut_rows(bench: Bench) -> list[Row]:
    """The checkpoint under the tag, and the planted classifier."""
    part, truth = bench.shifted, bench.truth[bench.shifted]
    tagged = [
        film_shifts.with_film(record, film_shifts.stamped, bench.random(400))
        for record in bench.records[part]
    ]
    with_tag = probability(bench.logits(tagged, "burnt-in tag"))
    bare = bench.chance[part]
    plain = auroc(np.where(tags(bench, truth, 0.0), with_tag, bare), truth)
    rows = []
    for rho in (CORRELATION, -CORRELATION):
        mixed = np.where(tags(bench, truth, rho), with_tag, bare)
        rows.append(
            at_most(
                f"AUROC change when a tag goes with the label (correlation {rho:+g})",
                abs(auroc(mixed, truth) - plain),
                LOST,
                n=len(truth),
                note=f"correlation 0: {plain:.4f}",
            )
        )
    return [*rows, _planted_row(bench)]


def tags(bench: Bench, truth: Floats, correlation: float) -> NDArray[np.bool_]:
    """Who wears the tag, (n,): correlated so with the label."""
    agrees = bench.random(410).random(len(truth)) < (1 + correlation) / 2
    worn: NDArray[np.bool_] = np.where(agrees, truth == 1, truth == 0)
    return worn


def _planted_row(bench: Bench) -> Row:
    """A classifier that learnt the tag: its loss must be seen."""
    films = [record.images[0].pixels for record in bench.records[bench.shifted]]
    truth = bench.truth[bench.shifted]
    stamps = [film_shifts.stamped(film, bench.random(420)) for film in films]
    bare, tagged = _views(films), _views(stamps)
    worn = tags(bench, truth, CORRELATION)
    half = len(truth) // 2
    fitted = LogisticRegression(max_iter=500).fit(
        np.where(worn[:half, None], tagged[:half], bare[:half]), truth[:half]
    )

    def score(correlation: float) -> Interval:
        rest = tags(bench, truth, correlation)[half:, None]
        chance = fitted.predict_proba(np.where(rest, tagged[half:], bare[half:]))[:, 1]
        return bootstrap(
            auroc, chance, truth[half:], draws=bench.draws, seed=bench.seed
        )

    with_it, without = score(CORRELATION), score(0.0)
    return judged(
        "a planted shortcut's loss of AUROC",
        with_it.value - without.value,
        f"found: > {LOST:g}",
        with_it.value - without.value > LOST and with_it.low > without.high,
        n=without.n,
        note=f"{with_it.value:.3f} with the tag's correlation, {without.value:.3f} "
        "without",
    )


def _views(films: list[NDArray[np.float32]]) -> Floats:
    """Films as a plain classifier sees them: brightest pixel of each block, (n, k)."""
    views = []
    for film in films:
        side = film.shape[0] // _SIDE
        whole = film[: side * _SIDE, : side * _SIDE]
        views.append(whole.reshape(_SIDE, side, _SIDE, side).max((1, 3)).ravel())
    return np.array(views, dtype=np.float64)
