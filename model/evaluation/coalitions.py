"""Discrimination and calibration of all seven coalitions beside the exact ceiling.

The posterior of the generator is a model like any other: it is scored by the same
functions on the same cases, so that the difference is the model's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from sklearn.metrics import precision_recall_curve, roc_curve
from tqdm import tqdm

from fhir_adapters.patient_record import Modality
from model.baselines.paper import PAPER_ABLATION, WITHOUT
from model.evaluation.bench import Bench, probability
from model.evaluation.evaluate import FULL, key_of
from model.evaluation.resampling import Metric, bootstrap, paired_bootstrap
from model.evaluation.rows import Row, at_least, at_most, judged, reported
from model.evaluation.scores import (
    Floats,
    accuracy,
    all_scores,
    auprc,
    auroc,
    conformal_recall,
    f1,
    precision,
    recall,
    reliability,
)
from model.inference.tensors import to_tensors
from model.synthetic.ceiling import COALITIONS, posterior
from model.training.calibrate import pattern_logits
from model.training.stages import cache_tokens
from model.training.synthetic_set import LABEL

BELOW_CEILING = 0.010
ABOVE_BEST_PAIR = 0.05
CALIBRATION_ERROR = 0.03
BRIER_ABOVE_BAYES = 0.01
RECALL = 0.90
BESIDE_PAPER = 0.015
_CURVE_POINTS = 120
_DECIDED = (accuracy, precision, recall, f1)


@dataclass(frozen=True)
class Coalition:
    """One coalition's forced probabilities and the exact posterior: (n,) each."""

    name: str
    chance: Floats
    best: Floats


def coalition_chances(bench: Bench) -> dict[str, Coalition]:
    """Every coalition on every case; the encoders run once."""
    checkpoint = bench.checkpoint
    inputs = to_tensors(bench.records, checkpoint.vocabulary)
    inputs = inputs.to(next(checkpoint.model.parameters()).device)
    tokens = cache_tokens(checkpoint.model, inputs)
    found = {}
    for coalition in tqdm(
        COALITIONS, desc="coalitions", leave=False, disable=not bench.progress
    ):
        pattern = tuple(m in coalition for m in Modality)
        raw = pattern_logits(checkpoint.model, tokens, inputs.present, pattern)
        platt = checkpoint.calibration.of(pattern, LABEL)
        logits = raw[:, bench.column].double().cpu().numpy()  # (n,)
        name = key_of(coalition)
        found[name] = Coalition(
            name,
            probability(platt.slope * logits + platt.intercept),
            posterior(bench.cases, coalition),
        )
    return found


def coalition_table(
    bench: Bench, coalitions: Mapping[str, Coalition]
) -> dict[str, dict[str, Any]]:
    """For each coalition every score of the model and of the exact posterior.

    ``intervals`` holds AUROC, AUPRC, accuracy, precision, recall and F1 with their
    bounds; decisions are taken at one half, the posterior's too, and once more at the
    checkpoint's own threshold under ``at_threshold``.
    """
    truth, table = bench.truth, {}
    for one in tqdm(
        coalitions.values(), desc="intervals", leave=False, disable=not bench.progress
    ):
        scored: tuple[Metric, ...] = (auroc, auprc, *_DECIDED)
        table[one.name] = {
            "model": all_scores(one.chance, truth),
            "ceiling": all_scores(one.best, truth),
            "intervals": {
                metric.__name__: bootstrap(
                    metric, one.chance, truth, draws=bench.draws, seed=bench.seed
                ).to_json()
                for metric in scored
            },
            "at_threshold": {
                metric.__name__: metric(one.chance, truth, bench.threshold)
                for metric in _DECIDED
            },
        }
    return table


def discrimination_rows(bench: Bench, coalitions: Mapping[str, Coalition]) -> list[Row]:
    """AUROC against the ceiling, and what fusion adds to the best pair."""
    truth = bench.truth
    compare = partial(
        paired_bootstrap, auroc, truth=truth, draws=bench.draws, seed=bench.seed
    )
    rows = []
    for one in coalitions.values():
        gap = compare(one.best, one.chance)
        name = f"AUROC below the ceiling, {one.name}"
        rows.append(at_most(name, gap, BELOW_CEILING, n=len(truth)))
    pairs = [one for one in coalitions.values() if one.name.count("+") == 1]
    pair = max(pairs, key=lambda one: auroc(one.chance, truth))
    above = compare(coalitions[FULL].chance, pair.chance)
    exact = auroc(coalitions[FULL].best, truth) - auroc(pair.best, truth)
    rows.append(
        at_least(
            f"AUROC of all above the best pair ({pair.name})",
            above,
            ABOVE_BEST_PAIR,
            note=f"p = {above.p:.4f}; exact posterior {exact:.4f}",
        )
    )
    return rows


def paper_rows(bench: Bench, coalitions: Mapping[str, Coalition]) -> list[Row]:
    """The paper's ablation: each coalition beside its row there and its own ceiling."""
    rows, truth = [], bench.truth
    for coalition, stated in PAPER_ABLATION.items():
        one = coalitions[FULL if coalition.count("+") == 2 else coalition]
        mine, best = all_scores(one.chance, truth), all_scores(one.best, truth)
        below = best["auroc"] - mine["auroc"]
        rows.append(
            judged(
                f"AUROC {WITHOUT[coalition]}, beside the paper's",
                mine["auroc"],
                f"\u2265 ceiling \u2212 {BESIDE_PAPER:g}",
                below <= BESIDE_PAPER,
                n=len(truth),
                note=f"accuracy {mine['accuracy']:.3f}, precision "
                f"{mine['precision']:.3f}, recall {mine['recall']:.3f}, F1 "
                f"{mine['f1']:.3f}; ceiling {best['auroc']:.4f}, accuracy "
                f"{best['accuracy']:.3f}; paper {stated.auroc:.3f}, accuracy "
                f"{stated.accuracy:.3f} (other data)",
            )
        )
    return rows


def calibration_rows(bench: Bench, coalitions: Mapping[str, Coalition]) -> list[Row]:
    """ECE, Brier and recall at the conformal threshold."""
    rows, truth = [], bench.truth
    for one in coalitions.values():
        mine, best = all_scores(one.chance, truth), all_scores(one.best, truth)
        note = f"exact posterior {best['ece']:.4f}"
        rows.append(
            at_most(
                f"ECE, {one.name}",
                mine["ece"],
                CALIBRATION_ERROR,
                n=len(truth),
                note=note,
            )
        )
        rows.append(
            at_most(
                f"Brier score above the exact posterior's, {one.name}",
                mine["brier"] - best["brier"],
                BRIER_ABOVE_BAYES,
                n=len(truth),
                note=f"{mine['brier']:.4f}, exact {best['brier']:.4f}",
            )
        )
        rows.append(
            reported(
                f"calibration slope, {one.name}",
                mine["calibration_slope"],
                n=len(truth),
                note=f"NLL {mine['nll']:.4f}, exact {best['nll']:.4f}",
            )
        )
    return rows + [_recall_row(bench, one) for one in coalitions.values()]


def _recall_row(bench: Bench, one: Coalition) -> Row:
    """Recall where a conformal guarantee was given: that pattern's own threshold."""
    members = one.name.split("+")
    pattern = [one.name == FULL or m.value in members for m in Modality]
    held = bench.checkpoint.calibration.conformal_of(pattern, LABEL)
    name = f"recall at the conformal threshold, {one.name}"
    if held is None and one.name != FULL:
        found = conformal_recall(one.chance, bench.truth, bench.threshold)
        note = "threshold of the full pattern: no guarantee for this one"
        return reported(
            f"recall at the threshold, {one.name}", found.value, n=found.n, note=note
        )
    threshold = bench.threshold if held is None else held.positive_from
    found = conformal_recall(one.chance, bench.truth, threshold)
    return judged(
        name,
        found.value,
        f"\u2265 {RECALL:g} \u2212 2 SE",
        found.at_least(RECALL),
        n=found.n,
        note=f"threshold {threshold:.4f}, SE {found.error:.4f}",
    )


def curves(bench: Bench, coalitions: Mapping[str, Coalition]) -> dict[str, Any]:
    """Points of the ROC, precision-recall and reliability diagrams, thinned out."""
    truth, found = bench.truth, {}
    for one in coalitions.values():
        lines: dict[str, list[list[float]]] = {}
        for who, chance in (("model", one.chance), ("ceiling", one.best)):
            alarm, hit, _ = roc_curve(truth, chance)
            exact, share, _ = precision_recall_curve(truth, chance)
            predicted, observed, size = reliability(chance, truth)
            lines[f"roc_{who}"] = _thin(alarm, hit)
            lines[f"pr_{who}"] = _thin(share, exact)
            lines[f"reliability_{who}"] = _thin(predicted, observed, size)
        found[one.name] = lines
    return found


def _thin(*columns: Sequence[float] | Floats) -> list[list[float]]:
    """At most so many points, ends kept, four digits: [[x...], [y...], ...]."""
    length = len(columns[0])
    rows = np.unique(np.linspace(0, length - 1, min(length, _CURVE_POINTS)).astype(int))
    return [np.round(np.asarray(column)[rows], 4).tolist() for column in columns]
