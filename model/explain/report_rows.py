"""From a tally to the rows of the report: value, 95 % interval, target, holds.

Intervals are percentile bootstrap intervals over cases (Efron and Tibshirani, 1993); a
verdict rests on the value, the interval says how far to trust it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.explain.film_measures import ATTENTION, BEST, MAP, RANDOM
from model.explain.perturbation import FILM_SHARES
from model.explain.scoring import mean_of, removal_area
from model.explain.tally import Tally

DRAWS = 1000
TAILS = (2.5, 97.5)

Figure = dict[str, Any]
Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Bar:
    """A target: ``sign`` is ">=" or "<="."""

    sign: str
    limit: float

    def holds(self, value: float) -> bool:
        """Whether a value reaches it."""
        return value >= self.limit if self.sign == ">=" else value <= self.limit


def at_least(limit: float) -> Bar:
    """A target from below."""
    return Bar(">=", limit)


def at_most(limit: float) -> Bar:
    """A target from above."""
    return Bar("<=", limit)


def figure(
    value: float | None,
    bar: Bar | None = None,
    *,
    interval: tuple[float, float] | None = None,
    n: int = 0,
) -> Figure:
    """One value (None: not measured), its target, and whether it holds."""
    low, high = interval or (None, None)
    return {
        "value": value,
        "target": f"{bar.sign} {bar.limit:g}" if bar else None,
        "holds": None if bar is None or value is None else bar.holds(value),
        "low": low,
        "high": high,
        "n": n,
    }


def interval_of(
    n: int, measure: Callable[[Rows], float], seed: int, draws: int = DRAWS
) -> tuple[float, float]:
    """Percentile interval of a measure over resampled cases.

    Args:
        n: How many cases there are.
        measure: From the numbers of the chosen cases (n,) to the measure.
        seed: Of the resampling.
        draws: Resamples.
    """
    random = np.random.default_rng(seed)
    found = [measure(random.integers(n, size=n)) for _ in range(draws)]
    low, high = np.percentile(found, TAILS)
    return float(low), float(high)


class RowMaker:
    """Rows of one tally, all intervals from one seed."""

    def __init__(self, tally: Tally, seed: int) -> None:
        self.tally = tally
        self.seed = seed

    def mean(self, name: str, bar: Bar | None = None) -> Figure:
        """The mean of one number over cases."""
        values = np.asarray(self.tally.numbers[name], dtype=np.float64)
        return self._row(len(values), lambda rows: float(values[rows].mean()), bar)

    def ratio(self, name: str, other: str, bar: Bar | None = None) -> Figure:
        """One mean over another on the same cases."""
        a, b = (np.asarray(self.tally.numbers[x], float) for x in (name, other))
        return self._row(
            len(a),
            lambda rows: float(a[rows].mean() / max(b[rows].mean(), 1e-9)),
            bar,
        )

    def gap(self, name: str, other: str, bar: Bar | None = None) -> Figure:
        """One mean minus another on the same cases."""
        a, b = (np.asarray(self.tally.numbers[x], float) for x in (name, other))
        return self._row(len(a), lambda rows: float((a[rows] - b[rows]).mean()), bar)

    def standard_errors(self, name: str, other: str, bar: Bar | None = None) -> Figure:
        """By how many standard errors one mean exceeds another on the same cases."""
        a, b = (np.asarray(self.tally.numbers[x], float) for x in (name, other))
        gap = a - b
        if len(gap) < 2:
            return figure(None, bar, n=len(gap))
        spread = float(gap.std(ddof=1)) / len(gap) ** 0.5
        return figure(float(gap.mean()) / max(spread, 1e-9), bar, n=len(gap))

    def removal(
        self,
        kind: str,
        combine: Callable[[float, float], float],
        bar: Bar | None = None,
    ) -> Figure:
        """Areas under the mean removal curves of map and random order, combined.

        Args:
            kind: "deletion" or "insertion".
            combine: From the map's area and the random order's to the figure.
            bar: The target.
        """
        curves = [
            np.asarray(self.tally.curves[f"{kind}_{name}"], dtype=np.float64)
            for name in (MAP, RANDOM)
        ]

        def measure(rows: Rows) -> float:
            areas = [
                removal_area(FILM_SHARES, curve[rows].mean(0).tolist())
                for curve in curves
            ]
            return combine(areas[0], areas[1])

        return self._row(len(curves[0]), measure, bar)

    def _row(self, n: int, measure: Callable[[Rows], float], bar: Bar | None) -> Figure:
        if not n:
            return figure(None, bar)
        interval = interval_of(n, measure, self.seed)
        return figure(measure(np.arange(n)), bar, interval=interval, n=n)


def film_rows(rows: RowMaker) -> dict[str, Figure]:
    """Localisation, beside attention and the best map on that grid, and removal."""
    mass, attention = f"mass_{MAP}", f"mass_{ATTENTION}"
    return {
        "pointing_game": rows.mean(f"pointing_{MAP}", at_least(0.85)),
        "pointing_game_attention": rows.mean(f"pointing_{ATTENTION}"),
        "mass_in_lesion": rows.mean(mass, at_least(0.5)),
        "mass_in_lesion_attention": rows.mean(attention),
        "mass_over_attention": rows.ratio(mass, attention, at_least(2.0)),
        "mass_of_best_patch_map": rows.mean(f"mass_{BEST}"),
        "mass_in_lesion_patches": rows.mean("mass_patches"),
        "lesion_area": rows.mean("lesion_area"),
        "lesion_area_patches": rows.mean("lesion_patches"),
        "iou_top_15": rows.mean(f"overlap_{MAP}"),
        "iou_top_15_attention": rows.mean(f"overlap_{ATTENTION}"),
        "iou_top_15_best_patch_map": rows.mean(f"overlap_{BEST}"),
        "maps_drawn": rows.mean("drawn"),
        "deletion_over_random": rows.removal(
            "deletion", lambda own, other: own / max(other, 1e-9), at_most(0.5)
        ),
        "insertion_above_random": rows.removal(
            # Curves start at the blurred film, so a smaller area is a faster rise.
            "insertion", lambda own, other: other - own, at_least(0.2)
        ),
        "road": rows.mean(f"road_{MAP}"),
        "road_above_random": rows.gap(f"road_{MAP}", f"road_{RANDOM}", at_least(0.0)),
    }  # fmt: skip


def note_rows(rows: RowMaker) -> dict[str, Figure]:
    """Planted words, and what removing or keeping the top words does."""
    removed, kept = "comprehensiveness", "sufficiency"
    return {
        removed: rows.mean(removed, at_least(0.3)),
        "comprehensiveness_random": rows.mean(f"{removed}_random"),
        "comprehensiveness_se_above_random": rows.standard_errors(
            removed, f"{removed}_random", at_least(3.0)
        ),
        kept: rows.mean(kept, at_most(0.05)),
        "sufficiency_random": rows.mean(f"{kept}_random"),
        "sufficiency_se_below_random": rows.standard_errors(
            f"{kept}_random", kept, at_least(3.0)
        ),
        "word_auprc": rows.mean("word_precision"),
        "word_auprc_by_phrase": rows.mean("phrase_precision", at_least(0.9)),
        "planted_words": rows.mean("planted_words"),
        "word_infidelity": rows.mean("word_infidelity"),
        "word_infidelity_below_random": rows.gap(
            "word_infidelity_random", "word_infidelity", at_least(0.0)
        ),
    }


def value_rows(rows: RowMaker) -> dict[str, Figure]:
    """Planted values by each attribution."""
    return {
        "lab_auprc": rows.mean("lab_precision", at_least(0.9)),
        "lab_direction": rows.mean("lab_direction"),
        "lab_direction_full_record": rows.mean("lab_direction_full_record"),
        "lab_auprc_full_record": rows.mean("lab_change_precision"),
        "lab_auprc_integrated": rows.mean("lab_path_precision"),
        "planted_values": rows.mean("planted_values"),
        "lab_completeness_gap": rows.mean("lab_path_gap"),
        "lab_infidelity": rows.mean("lab_infidelity"),
        "lab_infidelity_below_random": rows.gap(
            "lab_infidelity_random", "lab_infidelity", at_least(0.0)
        ),
    }


def rule_rows(tally: Tally) -> dict[str, Figure]:
    """Axioms of the modality game, and sentences held against their evidence."""
    n = tally.numbers
    return {
        "shapley_efficiency_error": _largest(n["efficiency"], 1e-5),
        "shapley_dummy_error": _largest(n["dummy"], 1e-9),
        "shapley_symmetry_error": _largest(n["symmetry"], 1e-9),
        "sentences_verified": _share(n["sentence_passes"], at_least(1.0)),
        "false_sentences_caught": _share(n["plant_caught"], at_least(1.0)),
        "counterfactual_found": _share(n["edit_found"]),
    }


def _largest(values: Sequence[float], bar: float) -> Figure:
    return figure(max(values), at_most(bar), n=len(values))


def _share(values: Sequence[float], bar: Bar | None = None) -> Figure:
    return figure(mean_of(values), bar, n=len(values))
