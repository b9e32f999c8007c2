"""What is missing must not speak: evidence that is absent for a reason.

In hospitals a test is ordered because somebody is ill. Here the values (or the note)
are missing more often on one side of the label than on the other, and then the other
way round. A model that reads absence as evidence would gain on the one and lose on the
other against the exact posterior, which ignores why something is missing.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from model.evaluation.bench import Bench
from model.evaluation.coalitions import Coalition
from model.evaluation.evaluate import FULL
from model.evaluation.resampling import paired_bootstrap
from model.evaluation.robustness import decided
from model.evaluation.rows import Row, at_most
from model.evaluation.scores import auroc

BELOW = 0.015
OFTEN, SELDOM = 0.6, 0.1
#: What goes missing, and the coalition that is left.
_LEFT = {"values": "image+text", "note": "image+values", "film": "text+values"}


def missing_rows(bench: Bench, coalitions: Mapping[str, Coalition]) -> list[Row]:
    """AUROC below the exact posterior under absence that depends on the label."""
    rows = []
    full, truth = coalitions[FULL], bench.truth
    for number, (what, left) in enumerate(_LEFT.items()):
        rest = coalitions[left]
        for ill in (True, False):
            often = (truth == 1) == ill
            chance = np.where(often, OFTEN, SELDOM)
            gone = bench.random(500 + number, int(ill)).random(len(truth)) < chance
            chance_now = np.where(gone, rest.chance, full.chance)
            found = paired_bootstrap(
                auroc,
                np.where(gone, rest.best, full.best),
                chance_now,
                truth,
                draws=bench.draws,
                seed=bench.seed,
            )
            whom = "positives" if ill else "negatives"
            rows.append(
                at_most(
                    f"AUROC below the ceiling: {what} missing for {OFTEN:.0%} of "
                    f"{whom}, {SELDOM:.0%} of the others",
                    found,
                    BELOW,
                    note=decided(chance_now, truth),
                )
            )
    return rows
