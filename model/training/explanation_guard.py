"""The explainability loss has to pay for itself, or it stays off.

It is on only when, on held-out patients, it costs at most .005 AUROC *and* makes
explanations more faithful on masks that nobody trained on: the film masks of those
patients must improve (the whole 95 % interval above zero), and passages and values,
which have no trained mask at all, must not get worse.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from model.evaluation.resampling import paired_bootstrap
from model.evaluation.scores import auroc
from model.inference.calibration import PATTERNS
from model.network.fusion import TriModalModel
from model.training.cached_tokens import Prepared, cache_tokens
from model.training.calibrate import pattern_logits
from model.training.faithfulness import Floats, Gain, Truth, kinds, masses, paired_gain

MOST_COST = 0.005
_FEWEST = 20  # held-out positives with a mask: fewer prove nothing


@dataclass(frozen=True, slots=True)
class LabelCost:
    """AUROC without minus AUROC with the loss, and its 95 % interval, of one label."""

    label: str
    without: float
    cost: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class GuardDecision:
    """Whether the loss is on, why, and the figures it was decided by."""

    on: bool
    reason: str
    cost: float
    labels: tuple[LabelCost, ...]
    film: Gain
    rest: Gain

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "on": self.on,
            "reason": self.reason,
            "auroc_cost": self.cost,
            "most_cost": MOST_COST,
            "labels": [
                {
                    "label": x.label,
                    "without": x.without,
                    "cost": x.cost,
                    "low": x.low,
                    "high": x.high,
                }
                for x in self.labels
            ],
            "film_mass_of_unseen_patients": self.film.to_json(),
            "mass_of_untrained_kinds": self.rest.to_json(),
        }


def judge(
    without: TriModalModel, with_loss: TriModalModel, fresh: Prepared, truth: Truth
) -> GuardDecision:
    """Compare two models that differ by the explainability loss alone.

    Args:
        without: Trained without it.
        with_loss: Trained with it, from the same start, on the same budget.
        fresh: Held-out records.
        truth: What carries their label.
    """
    sides = []
    for model in (without, with_loss):
        tokens = cache_tokens(model, fresh.inputs)
        logits = pattern_logits(model, tokens, fresh.inputs.present, PATTERNS[-1])
        mass = masses(model, tokens, fresh, truth)
        sides.append((logits.double().cpu().numpy(), mass))
    labels = label_costs(without.config.labels, (sides[0][0], sides[1][0]), fresh)
    (film_a, rest_a), (film_b, rest_b) = (kinds(mass) for _, mass in sides)
    return decide(labels, paired_gain(film_a, film_b), paired_gain(rest_a, rest_b))


def label_costs(
    names: Sequence[str], logits: tuple[Floats, Floats], fresh: Prepared
) -> tuple[LabelCost, ...]:
    """AUROC without minus with, of each label that has both classes.

    Args:
        names: C labels.
        logits: Two (n, C), without and with the loss.
        fresh: The records.
    """
    costs = []
    for c, name in enumerate(names):
        known = fresh.known[:, c].cpu().numpy()
        truth = (fresh.targets[:, c].cpu().numpy()[known] > 0.5).astype(np.float64)
        if 0 < truth.sum() < len(truth):
            a, b = (x[known, c] for x in logits)
            change = paired_bootstrap(auroc, a, b, truth)
            costs.append(
                LabelCost(name, auroc(a, truth), change.value, change.low, change.high)
            )
    return tuple(costs)


def decide(labels: Sequence[LabelCost], film: Gain, rest: Gain) -> GuardDecision:
    """The rule itself; see the module.

    Args:
        labels: Cost per label; their mean counts.
        film: Relevance on film masks of unseen patients.
        rest: Relevance on passages and values; no case when they are not known.
    """
    cost = float(np.mean([x.cost for x in labels])) if labels else float("nan")
    on, reason = True, "it costs no more than allowed, and held-out masks improve"
    if not labels or film.n < _FEWEST:
        on, reason = False, "too few held-out positives with a mask to judge"
    elif cost > MOST_COST:
        on, reason = False, "it costs more AUROC than allowed"
    elif not film.low > 0:
        on, reason = False, "film masks of unseen patients do not improve"
    elif rest.n and rest.high < 0:
        on, reason = False, "passages and values get worse"
    return GuardDecision(on, reason, cost, tuple(labels), film, rest)


def keep_better(
    without: TriModalModel, with_loss: TriModalModel, decision: GuardDecision
) -> None:
    """Put the weights in ``with_loss`` back to ``without``'s when the loss is off."""
    if not decision.on:
        with torch.no_grad():
            with_loss.load_state_dict(without.state_dict())
