"""One run or several read together, set beside the encoder that is reported.

All on the same NIH films of the folder's split, with one view of a film and with the
mean over a few; how well the maps point is measured for single runs only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from model.films.film_model import FilmRun
from model.films.folder import NIH, QUESTIONS, FilmFolder, answers
from model.films.pixels import film_bytes
from model.films.pointing import lung_share, pointing_game
from model.films.pretrain import predict
from model.films.scoring import (
    Floats,
    Scored,
    counted,
    mean_decisions,
    mean_row,
    patients_of,
    plain,
    within,
)

POINTING_BAR = 1.5


def pointing(run: FilmRun, folder: FilmFolder, draws: int) -> dict[str, Any]:
    """The pointing game with its bar; plain JSON."""
    found = pointing_game(run.model, folder, draws=draws)
    ratio = found.get("ratio")
    return found | {"bar": POINTING_BAR, "holds": bool(ratio and ratio >= POINTING_BAR)}


def variant(folder: FilmFolder, runs: Sequence[FilmRun], draws: int) -> dict[str, Any]:
    """Mean figures of one or several runs on the NIH test films; plain JSON.

    Args:
        folder: The films.
        runs: Read together: the mean of their logits.
        draws: Resamples of patients.
    """
    found: dict[str, Any] = {"runs": len(runs), "one_view": None, "views": None}
    tested, validation = (_together(folder, runs, split) for split in ("test", "val"))
    chosen = counted(tested[0].truth, QUESTIONS[NIH])
    for kind, test, val in zip(("one_view", "views"), tested, validation):
        if chosen:
            everyone = ["all"] * len(val.truth)
            found[kind] = {
                "auroc": mean_row(test, chosen, draws=draws).to_json(),
                "validation_auroc": plain(within(val, chosen, everyone)),
                **mean_decisions(test, val, chosen),
            }
    if len(runs) == 1:
        found["pointing"] = pointing(runs[0], folder, draws)
        found["lungs"] = lung_share(runs[0].model, folder)
    return found


def _together(
    folder: FilmFolder, runs: Sequence[FilmRun], split: str
) -> tuple[Scored, Scored]:
    """Mean logits of several runs on the NIH films of one split: one view, several."""
    rows = folder.select(NIH, split)
    truth, patients = answers(rows, NIH), patients_of(rows)
    found: tuple[list[Floats], list[Floats]] = ([], [])
    for run in runs:
        films = film_bytes(folder, rows, run.model.config.image.size, progress=False)
        for kind, averaged in zip(found, (False, True)):
            kind.append(predict(run.model, films, NIH, averaged=averaged))
    one, several = (Scored(np.mean(kind, axis=0), truth, patients) for kind in found)
    return one, several
