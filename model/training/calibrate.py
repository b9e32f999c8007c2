"""S5: what is fitted on held-out records once the weights are final.

Platt parameters per presence pattern, the decision threshold, and what is usual among
held-out patients: how far their features lie from the centre, full charts and sparse
ones, and how far a film without the finding can raise the estimate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.covariance import LedoitWolf
from torch import Tensor

from model.explain.grad_cam import evidence_floor, film_shares
from model.inference.calibration import (
    PATTERNS,
    Calibration,
    FeatureReference,
    Platt,
    mean_token,
    pattern_name,
)
from model.inference.conformal import (
    ConformalSet,
    conformal_set,
    conformal_threshold,
)
from model.network.fusion import Tokens, TriModalModel
from model.network.inputs import MODALITIES
from model.training.optimise import in_batches
from model.training.stages import pick

Floats = NDArray[np.float64]

VERSION = "platt-by-pattern-1"
_SHRINKAGE = 4.0  # strength of the pull toward the full pattern, in records
_LIMIT_QUANTILE = 0.995
_BATCH = 256


@dataclass(frozen=True)
class HeldOut:
    """Held-out records after the encoders: ``present`` (n, 3), targets (n, C).

    ``plain_film`` (n,) marks films known to be without the finding; None where the
    source does not say, and then every record with a negative label counts as such.
    """

    tokens: Tokens
    present: Tensor
    targets: Tensor
    known: Tensor
    plain_film: Tensor | None = None


@dataclass(frozen=True)
class Charts:
    """Tokens of full records, and of their sparser copies."""

    full: Tokens
    sparse: Tokens

    def features(self, m: int) -> list[Tensor]:
        """Mean tokens (n, D) of modality ``m`` where present, full and sparse."""
        found = []
        for tokens in (self.full, self.sparse):
            x, mask = tokens.content()[m], tokens.masks()[m]
            found.append(mean_token(x, mask)[mask.any(1)].double().cpu())
        return found


@torch.no_grad()
def pattern_logits(
    model: TriModalModel, tokens: Tokens, present: Tensor, pattern: tuple[bool, ...]
) -> Tensor:
    """Logits (n, C) with only the modalities of ``pattern`` in use."""
    model.eval()
    allowed = present & torch.tensor(pattern, device=present.device)  # (n, 3)
    rows = in_batches(torch.arange(len(present), device=present.device), _BATCH)
    return torch.cat([model.fuse(pick(tokens, r), allowed[r]).logits for r in rows])


def fit_platt(logits: Floats, targets: Floats, toward: Platt) -> Platt:
    """Slope and intercept by penalised maximum likelihood (Newton's method).

    Args:
        logits: (n,).
        targets: (n,) in {0, 1}.
        toward: Parameters that a pattern with few records falls back to.

    Returns:
        The fitted parameters; ``toward`` itself when there is no record.
    """
    anchor = np.array([toward.slope, toward.intercept])
    x = np.stack([logits, np.ones_like(logits)], axis=1)  # (n, 2)
    at = anchor.copy()
    for _ in range(100):
        p = 1.0 / (1.0 + np.exp(-np.clip(x @ at, -30, 30)))  # (n,)
        gradient = x.T @ (p - targets) + _SHRINKAGE * (at - anchor)
        curve = (x.T * (p * (1 - p))) @ x + _SHRINKAGE * np.eye(2)
        step = np.linalg.solve(curve, gradient)
        here = _penalised(at, x, targets, anchor)
        # far from the optimum a whole Newton step overshoots: halve it
        while _penalised(at - step, x, targets, anchor) > here + 1e-9:
            step = step / 2
        at = at - step
        if float(np.abs(step).max()) < 1e-9:
            break
    return Platt(round(float(at[0]), 6), round(float(at[1]), 6))


def _penalised(at: Floats, x: Floats, targets: Floats, anchor: Floats) -> float:
    """Negative log-likelihood plus the pull toward the anchor."""
    z = x @ at  # (n,)
    loss = np.logaddexp(0.0, z) - targets * z
    return float(loss.sum() + 0.5 * _SHRINKAGE * ((at - anchor) ** 2).sum())


def fit_references(training: Charts, held_out: Charts) -> dict[str, FeatureReference]:
    """Centre and spread from training records, limit from held-out ones.

    The limit is the larger of the two that full and sparse charts give: a short note
    is not a foreign one. A modality that fewer than ten records of either set have
    gets no reference.
    """
    references = {}
    for m, name in enumerate(MODALITIES):
        seen, fresh = training.features(m), held_out.features(m)
        if min(len(seen[0]), len(fresh[0])) < 10:
            continue
        spread = LedoitWolf().fit(torch.cat(seen).numpy())
        reference = FeatureReference(
            tuple(np.round(spread.location_, 6).tolist()),
            tuple(tuple(row) for row in np.round(spread.precision_, 4).tolist()),
            1.0,
        )
        limit = max(
            float(np.quantile(reference.distance(x).numpy(), _LIMIT_QUANTILE))
            for x in fresh
        )
        references[name] = FeatureReference(
            reference.mean, reference.precision, round(limit, 6)
        )
    return references


def shares_of_films(model: TriModalModel, data: HeldOut, c: int) -> Tensor:
    """Shapley value of each film for label ``c``, 0 without a film: (n,)."""
    model.eval()
    shares = []
    for rows in in_batches(torch.arange(len(data.present)), _BATCH):
        part = pick(data.tokens, rows)
        shares.append(film_shares(model, part, data.present[rows], c).cpu())
    return torch.cat(shares)


def calibrate(
    model: TriModalModel, training: Charts, held_out: HeldOut, sparse: Tokens
) -> tuple[Calibration, tuple[float, ...]]:
    """Fit everything on held-out records.

    Args:
        model: With final weights.
        training: Cached tokens of training records and of sparser copies.
        held_out: Records that no weight has seen.
        sparse: Cached tokens of sparser copies of the held-out records.

    Returns:
        The calibration, and one decision threshold per label (for the full pattern).
    """
    labels = model.config.labels
    full = PATTERNS[-1]
    by_pattern: dict[str, dict[str, Platt]] = {}
    sets: dict[str, dict[str, ConformalSet]] = {}
    thresholds = []
    identity = {label: Platt(1.0, 0.0) for label in labels}
    for pattern in (full, *PATTERNS[:-1]):
        wanted = torch.tensor(pattern, device=held_out.present.device)
        usable = (held_out.present | ~wanted).all(1)  # (n,) has all of the pattern
        logits = pattern_logits(model, held_out.tokens, held_out.present, pattern)
        anchor = by_pattern.get(pattern_name(full), identity)
        fitted = {}
        kept: dict[str, ConformalSet] = {}
        for c, label in enumerate(labels):
            rows = usable & held_out.known[:, c]
            x = logits[rows, c].double().cpu().numpy()
            y = held_out.targets[rows, c].double().cpu().numpy()
            fitted[label] = fit_platt(x, y, anchor[label])
            chance = np.array([fitted[label].probability(v) for v in x.tolist()])
            if found := conformal_set(chance, y):
                kept[label] = found
            if pattern == full:
                thresholds.append(conformal_threshold(chance, y))
        by_pattern[pattern_name(pattern)] = fitted
        if any(pattern):  # the empty pattern is only a baseline
            sets[pattern_name(pattern)] = kept
    floors = {
        label: _floor(shares_of_films(model, held_out, c), held_out, c)
        for c, label in enumerate(labels)
    }
    references = fit_references(training, Charts(held_out.tokens, sparse))
    calibration = Calibration(VERSION, by_pattern, references, floors, sets)
    return calibration, tuple(thresholds)


def _floor(shares: Tensor, data: HeldOut, c: int) -> float:
    """The evidence floor among held-out films without the finding."""
    plain = data.known[:, c] & (data.targets[:, c] < 0.5)
    if data.plain_film is not None:
        plain = data.plain_film.to(data.present.device)
    plain = plain & data.present[:, 0]
    return round(evidence_floor(shares[plain.cpu()]), 8)
