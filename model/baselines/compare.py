"""The comparison: every method on every seed, resumable, and the report it adds up to.

Each seed has its own cases and weights. Scores are kept per seed and method, so that an
interrupted run goes on where it stopped and the report costs no training.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from model.baselines.registry import METHODS, Method
from model.baselines.scored import Scored, load_scored, save_scored
from model.baselines.settings import CompareSettings
from model.baselines.shared import (
    COALITION_KEYS,
    WEIGHTS_FILE,
    Shared,
    prepare_shared,
)

Floats = NDArray[np.float64]

FOLDER = Path("build/comparison")
TRUTH_FILE = "truth.npz"
_TRUTH = "label"


@dataclass(frozen=True)
class SeedResult:
    """One seed: labels, exact posteriors by coalition, and every method's scores."""

    seed: int
    held_out: Floats
    tested: Floats
    posteriors: Mapping[str, Floats]
    methods: Mapping[str, Scored]


def run_comparison(
    settings: CompareSettings,
    *,
    folder: Path = FOLDER,
    methods: Sequence[Method] = METHODS,
    fresh: bool = False,
    progress: bool = True,
) -> list[SeedResult]:
    """Run what is not kept yet, and return all of it.

    Args:
        settings: Sizes and recipe.
        folder: Where encoders and scores are kept.
        methods: Which methods; the first to come are the first to run.
        fresh: Run again what is kept.
        progress: Draw bars.

    Returns:
        One result per seed, in the order of the seeds.
    """
    settings = replace(settings, train=replace(settings.train, progress=progress))
    return [
        _run_seed(settings, seed, folder, methods, fresh, progress)
        for seed in settings.seed_list()
    ]


def _run_seed(
    settings: CompareSettings,
    seed: int,
    folder: Path,
    methods: Sequence[Method],
    fresh: bool,
    progress: bool,
) -> SeedResult:
    """All methods of one seed; the cases are drawn only when one has to run."""
    shared: Shared | None = None
    place = _seed_folder(folder, settings, seed)
    if fresh:
        (place / WEIGHTS_FILE).unlink(missing_ok=True)
    scores: dict[str, Scored] = {}
    for method in tqdm(methods, desc=f"seed {seed}", disable=not progress):
        kept = _scores_file(folder, settings, seed, method)
        if kept.exists() and not fresh:
            scores[method.name] = load_scored(kept)
            continue
        if shared is None:
            shared = prepare_shared(settings, seed, place)
        start = time.monotonic()
        found = method.run(shared)
        figures = {**found.figures, "seconds": round(time.monotonic() - start, 1)}
        scores[method.name] = replace(found, figures=figures)
        save_scored(kept, scores[method.name])
    truth = place / f"{settings.digest()}-{TRUTH_FILE}"
    if shared is None and not truth.exists():
        shared = prepare_shared(settings, seed, place)
    if shared is not None:
        save_scored(truth, _truth_of(shared))
    known = load_scored(truth)
    return SeedResult(
        seed,
        known.held_out[_TRUTH],
        known.tested[_TRUTH],
        {key: known.tested[key] for key in COALITION_KEYS},
        scores,
    )


def _truth_of(shared: Shared) -> Scored:
    """Labels and exact posteriors, kept like scores."""
    return Scored(
        {_TRUTH: shared.held_out.truth},
        {_TRUTH: shared.tested.truth, **shared.tested.posteriors},
    )


def _seed_folder(folder: Path, settings: CompareSettings, seed: int) -> Path:
    return folder / settings.encoder_digest() / str(seed)


def _scores_file(
    folder: Path, settings: CompareSettings, seed: int, method: Method
) -> Path:
    place = _seed_folder(folder, settings, seed)
    return place / f"{settings.digest()}-{method.name}.npz"


def data_of(settings: CompareSettings, results: Sequence[SeedResult]) -> dict[str, Any]:
    """What a report says of its data."""
    return {
        "source": "synthetic",
        "parameters": settings.parameters,
        "preset": settings.train.preset,
        "seeds": [result.seed for result in results],
        "cases": settings.cases,
        "held_out": settings.held_out,
        "tested": settings.tested,
    }
