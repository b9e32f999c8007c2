"""The same quality for every subgroup: AUROC and sensitivity, and the widest gap.

Sex, age and style carry no information in synthetic cases, so any gap is the model's or
chance; the exact posterior's gap on the same subgroups shows how much chance makes. A
gap over several groups is never negative, so chance alone makes it wider the more
groups there are.

The measure itself is tested: noise planted in one subgroup must be found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from math import isnan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fhir_adapters.patient_record import Modality
from model.evaluation import film_shifts, note_shifts
from model.evaluation.bench import Bench, probability
from model.evaluation.note_shifts import TELEGRAPHIC
from model.evaluation.resampling import Interval, Metric, bootstrap, resamples
from model.evaluation.robustness import other_site
from model.evaluation.rows import Row, at_most, judged
from model.evaluation.scores import Floats, all_scores, auroc, recall
from model.synthetic.case import SynthCase
from model.synthetic.ceiling import posterior

AUROC_GAP = 0.03
RECALL_GAP = 0.05
_BANDS = ((20, 40), (40, 60), (60, 75), (75, 90))
_PLANTED = "female"

Names = NDArray[np.str_]


def age_band(years: int) -> str:
    """The band of an age: "60-74"."""
    for low, high in _BANDS:
        if years < high:
            return f"{low}-{high - 1}"
    return f"{_BANDS[-1][1]}+"


def style(case: SynthCase) -> str:
    """Telegraphic notes use two or more common abbreviations."""
    found = TELEGRAPHIC.findall(case.note.text)
    return "telegraphic" if len(found) >= 2 else "prose"


def attributes(cases: Sequence[SynthCase]) -> dict[str, Names]:
    """Subgroup of each case, (n,), by attribute."""
    return {
        "sex": np.array([case.sex for case in cases]),
        "age": np.array([age_band(case.age_years) for case in cases]),
        "language style": np.array([style(case) for case in cases]),
    }


def subgroup_table(
    bench: Bench, chance: Floats, groups: Mapping[str, Names]
) -> list[dict[str, Any]]:
    """AUROC and sensitivity of every subgroup with intervals, beside the ceiling."""
    best = posterior(bench.cases, Modality)
    sensitivity = _at(bench.threshold)
    table = []
    for attribute, names in groups.items():
        for name in np.unique(names):
            rows = names == name
            make = partial(bootstrap, draws=bench.draws, seed=bench.seed)
            table.append(
                {
                    "attribute": attribute,
                    "group": str(name),
                    "n": int(rows.sum()),
                    "auroc": make(auroc, chance[rows], bench.truth[rows]).to_json(),
                    "recall": make(
                        sensitivity, chance[rows], bench.truth[rows]
                    ).to_json(),
                    "ceiling": auroc(best[rows], bench.truth[rows]),
                    "decided": _decided(chance[rows], bench.truth[rows]),
                }
            )
    return table


def _decided(chance: Floats, truth: Floats) -> dict[str, float | None]:
    """Accuracy, precision, recall and F1 at one half; None where not defined."""
    found = all_scores(chance, truth)
    names = ("accuracy", "precision", "recall", "f1")
    return {name: None if isnan(found[name]) else found[name] for name in names}


def _at(threshold: float) -> Metric:
    return lambda chance, truth: recall(chance, truth, threshold)


def gap(
    metric: Metric,
    chance: Floats,
    truth: Floats,
    names: Names,
    *,
    draws: int,
    seed: int,
) -> Interval:
    """Best minus worst subgroup, with a percentile interval.

    Args:
        metric: As for :func:`~model.evaluation.resampling.bootstrap`.
        chance: (n,).
        truth: (n,) in {0, 1}.
        names: (n,) subgroup of each case.
        draws: Resamples.
        seed: Of the resampling.
    """
    member = np.unique(names, return_inverse=True)[1]

    def widest(rows: NDArray[np.int64]) -> float:
        found = [
            metric(chance[part], truth[part])
            for number in range(member.max() + 1)
            if len(part := rows[member[rows] == number])
        ]
        return float(np.ptp(found))

    everyone = np.arange(len(truth))
    values = [widest(rows) for rows in resamples(len(truth), None, draws, seed)]
    low, high = np.nanquantile(values, [0.025, 0.975])
    return Interval(widest(everyone), float(low), float(high), len(truth))


def fairness_rows(bench: Bench) -> tuple[list[Row], list[dict[str, Any]]]:
    """Gaps per attribute, the planted-bias control, and the table of subgroups."""
    groups = attributes(bench.cases)
    best = posterior(bench.cases, Modality)
    rows = []
    for attribute, names in groups.items():
        rows += _gap_rows(bench, attribute, bench.chance, names, best)
    table = subgroup_table(bench, bench.chance, groups)
    sites, chance = _two_sites(bench)
    rows += _gap_rows(bench, "site", chance, sites, best)
    table += subgroup_table(bench, chance, {"site": sites})
    return [*rows, _planted_row(bench, groups["sex"])], table


def _gap_rows(
    bench: Bench, attribute: str, chance: Floats, names: Names, best: Floats
) -> list[Row]:
    measure = partial(gap, names=names, draws=bench.draws, seed=bench.seed)
    sensitivity = _at(bench.threshold)
    exact = measure(auroc, best, bench.truth)
    return [
        at_most(
            f"AUROC gap by {attribute}",
            measure(auroc, chance, bench.truth),
            AUROC_GAP,
            note=f"exact posterior {exact.value:.3f}",
        ),
        at_most(
            f"sensitivity gap by {attribute}",
            measure(sensitivity, chance, bench.truth),
            RECALL_GAP,
            note=f"at the threshold {bench.threshold:.4f}",
        ),
    ]


def _two_sites(bench: Bench) -> tuple[Names, Floats]:
    """Every other case in another site's style: sites and probabilities, (n,)."""
    names = np.array(
        ["home" if i % 2 == 0 else "other" for i in range(len(bench.cases))]
    )
    chance = bench.chance.copy()
    away = np.flatnonzero(names == "other")
    records = [other_site(bench.records[i], bench.random(700, int(i))) for i in away]
    chance[away] = probability(bench.logits(records, "another site"))
    return names, chance


def _planted_row(bench: Bench, sexes: Names) -> Row:
    """Noise in the films and notes of one sex: the gap must be found."""
    part = bench.shifted
    chance, names = bench.chance[part].copy(), sexes[part]
    hit = np.flatnonzero(names == _PLANTED)
    records = []
    for row in hit:
        random = bench.random(710, int(row))
        record = film_shifts.with_film(
            bench.records[row], film_shifts.strong_noise, random
        )
        records.append(note_shifts.with_text(record, note_shifts.garbled, random))
    chance[hit] = probability(bench.logits(records, "planted bias"))
    found = gap(
        auroc, chance, bench.truth[part], names, draws=bench.draws, seed=bench.seed
    )
    return judged(
        "planted bias against one sex: AUROC gap",
        found,
        f"found: > {AUROC_GAP:g}",
        found.value > AUROC_GAP and found.low > 0,
        note="films noisy and notes garbled for one sex only",
    )
