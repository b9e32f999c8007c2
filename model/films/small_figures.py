"""Figures of the ``small`` checkpoint, on real films and on drawn ones, apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from model.evaluation.evaluate import key_of, scores
from model.evaluation.scores import ece
from model.films.case_sets import CaseSet, drawn_set, of_joined
from model.films.film_trimodal import (
    COALITIONS,
    Column,
    coalition_logits,
    coalition_report,
)
from model.films.folder import FilmFolder
from model.films.joined_cases import joined_cases
from model.inference.calibration import Calibration
from model.inference.vocabulary import InputVocabulary
from model.network.fusion import TriModalModel
from model.synthetic.ceiling import COALITIONS as MEMBERS
from model.synthetic.ceiling import posterior
from model.synthetic.latents import Split
from model.training.synthetic_set import LABEL

#: Coalitions by letters, as the synthetic ceiling names them.
_KEYS = dict(zip(COALITIONS, (key_of(members) for members in MEMBERS)))


@dataclass(frozen=True, slots=True)
class FigureSizes:
    """``seed`` joins notes and values to films, ``drawn_seed`` draws whole cases."""

    seed: int
    drawn: int
    drawn_seed: int
    draws: int
    progress: bool


def small_figures(
    folder: FilmFolder,
    built: tuple[TriModalModel, InputVocabulary, Calibration],
    sizes: FigureSizes,
) -> dict[str, Any]:
    """Figures on test patients of film-trimodal, and on drawn test cases; plain JSON.

    Args:
        folder: The films.
        built: Model, vocabulary, calibration.
        sizes: How many drawn cases, of which seed, and how many resamples.
    """
    model = built[0]
    grid, size = model.image_encoder.grid, model.config.image.size
    tested = joined_cases(folder, "test", size=size, copies=1, seed=sizes.seed)
    real = _chances(built, of_joined(tested, grid), sizes.progress)
    truth = np.array([case.label for case in tested.cases], dtype=np.float64)
    report = coalition_report(tested, real, sizes.draws)
    for name, row in report["coalitions"].items():
        row["ece"] = ece(real[name], truth)
    drawn = drawn_set(sizes.drawn, sizes.drawn_seed, Split.TEST, grid, sparse=0.0)
    found = _chances(built, drawn, sizes.progress)
    label = np.array([case.label for case in drawn.cases], dtype=np.float64)
    rows = {}
    for (name, chance), members in zip(found.items(), MEMBERS):
        best = posterior(drawn.cases, members)
        rows[_KEYS[name]] = scores(chance, label) | {
            "ceiling": scores(best, label)["auroc"]
        }
    return {"film_trimodal": report, "coalitions": rows}


def _chances(
    built: tuple[TriModalModel, InputVocabulary, Calibration],
    cases: CaseSet,
    progress: bool,
) -> dict[str, Column]:
    """Calibrated probability (n,) by coalition."""
    model, vocabulary, calibration = built
    logits = coalition_logits(model, cases, vocabulary, progress)
    found = {}
    for name, raw in logits.items():
        platt = calibration.of(COALITIONS[name], LABEL)
        found[name] = np.array([platt.probability(x) for x in raw.tolist()])
    return found
