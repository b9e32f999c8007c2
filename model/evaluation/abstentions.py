"""What abstaining is worth: wrong decisions among the doubted cases, and the price.

*Abstention precision* is the share of doubted cases whose decision at one half would
have been wrong. It is worth something only where it exceeds the error on the cases that
are not doubted; both stand in the same row. Doubted are cases whose conformal set holds
both outcomes (the warning ``conformal_ambiguous``). Plain records that the predictor
refuses altogether are the price of its other detectors.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import nan

import numpy as np

from model.evaluation.bench import Bench, refused
from model.evaluation.coalitions import Coalition
from model.evaluation.evaluate import FULL
from model.evaluation.rows import Row, judged, not_measured, reported
from model.evaluation.scores import HALF, share
from model.training.synthetic_set import LABEL


def abstention_rows(bench: Bench, coalitions: Mapping[str, Coalition]) -> list[Row]:
    """How many are doubted, how often rightly, and how many plain records refused."""
    held = bench.checkpoint.calibration.conformal_of((True, True, True), LABEL)
    name = "abstention precision: wrong decisions among ambiguous cases"
    plain = _plain_row(bench)
    if held is None:
        return [not_measured(name, "", "the checkpoint has no conformal sets"), plain]
    chance = coalitions[FULL].chance
    doubted = np.array([held.ambiguous(float(x)) for x in chance], dtype=np.bool_)
    wrong = (chance >= HALF) != (bench.truth == 1)
    there = float(wrong[doubted].mean()) if doubted.any() else nan
    elsewhere = float(wrong[~doubted].mean()) if not doubted.all() else nan
    return [
        reported(
            "cases with both outcomes in the conformal set",
            float(doubted.mean()),
            n=len(doubted),
            note="all three modalities",
        ),
        judged(
            name,
            there,
            "> error elsewhere",
            there > elsewhere,
            n=int(doubted.sum()),
            note=f"error elsewhere {elsewhere:.4f}, of all {wrong.mean():.4f}",
        ),
        plain,
    ]


def _plain_row(bench: Bench) -> Row:
    records = bench.records[: bench.served_cases]
    gone = refused(bench.serve(records, "plain records"))
    found = share(int(gone.sum()), len(gone))
    return reported("plain records that the predictor refuses", found.value, n=found.n)
