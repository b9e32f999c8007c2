"""What a method answers on the cases of one seed, and where it is kept on disk.

A method gives raw scores. Probabilities come from one rule for all of them: Platt's two
parameters per coalition, fitted on the held-out cases; so does the decision threshold
that keeps recall (conformal risk control). No method may calibrate on tested cases.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from model.errors import CheckpointError
from model.inference.calibration import Platt
from model.inference.conformal import conformal_threshold
from model.training.calibrate import fit_platt

Floats = NDArray[np.float64]
_FIGURES = "figures"


@dataclass(frozen=True)
class Scored:
    """Raw scores by coalition, (held-out,) and (tested,), and figures of the run."""

    held_out: Mapping[str, Floats]
    tested: Mapping[str, Floats]
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """Calibrated probabilities of the tested cases and the threshold for recall."""

    chance: Floats
    threshold: float


def calibrated(scored: Scored, coalition: str, truth: Floats) -> Answer:
    """Probabilities of one coalition.

    Args:
        scored: Raw scores of a method.
        coalition: Which of them.
        truth: Label (held-out,) of the held-out cases.
    """
    raw = scored.held_out[coalition]
    # Scores of any scale: the penalty of the fit is meant for logits of order one.
    middle, spread = float(raw.mean()), float(raw.std()) or 1.0
    unit = (raw - middle) / spread  # (held-out,)
    platt = fit_platt(unit, truth, Platt(1.0, 0.0))
    fresh = (scored.tested[coalition] - middle) / spread  # (tested,)
    threshold = conformal_threshold(_chances(platt, unit), truth)
    return Answer(_chances(platt, fresh), threshold)


def _chances(platt: Platt, logits: Floats) -> Floats:
    return np.array([platt.probability(x) for x in logits.tolist()])


def save_scored(path: Path, scored: Scored) -> None:
    """Keep a method's scores; an interruption leaves no half file behind."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {f"held_out/{name}": x for name, x in scored.held_out.items()}
    arrays |= {f"tested/{name}": x for name, x in scored.tested.items()}
    figures = json.dumps(dict(scored.figures)).encode()
    arrays[_FIGURES] = np.frombuffer(figures, dtype=np.uint8)
    draft = path.with_suffix(".part.npz")
    np.savez_compressed(draft, **arrays)  # type: ignore[arg-type]
    draft.replace(path)


def load_scored(path: Path) -> Scored:
    """Scores that :func:`save_scored` kept.

    Raises:
        CheckpointError: the file is damaged or something else.
    """
    try:
        with np.load(path, allow_pickle=False) as kept:
            arrays = {name: kept[name] for name in kept.files}
        figures = json.loads(arrays.pop(_FIGURES).tobytes())
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise CheckpointError(f"{path.name} holds no scores") from error
    sides: dict[str, dict[str, Floats]] = {"held_out": {}, "tested": {}}
    for name, array in arrays.items():
        side, _, coalition = name.partition("/")
        sides[side][coalition] = array
    return Scored(sides["held_out"], sides["tested"], figures)
