"""One training run on synthetic cases, from seed to checkpoint folder.

Three seed namespaces keep the cases apart: weights see TRAIN, the calibration sees
VALIDATION, and the figure that the checkpoint states comes from TEST. All three seeds
are written down, and the evaluation refuses them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from model.errors import ConfigurationError, RunFolderError
from model.evaluation.evaluate import (
    FULL,
    bootstrap_auroc,
    key_of,
    score_coalitions,
)
from model.evaluation.model_card import NOTICE, TRAINED_ON, model_card
from model.inference.calibration import PATTERNS
from model.inference.tensors import to_tensors
from model.inference.weights import Description, LabelSpec
from model.jobs.prediction import Validation
from model.network.config import preset
from model.synthetic.case import SynthCase
from model.synthetic.ceiling import COALITIONS
from model.synthetic.latents import Split
from model.training.calibrate import pattern_logits
from model.training.loss_weights import LossWeights
from model.training.optimise import Schedule
from model.training.run_folder import RunFolder
from model.training.stages import cache_tokens
from model.training.synthetic_set import (
    DISPLAY,
    LABEL,
    synthetic_cases,
    synthetic_set,
)
from model.training.train import Trained, TrainSettings, train
from model.training.training_set import TrainingSet
from model.training.variants import Variety, varied

NAME = "trivium-demo"
VERSION = "0.1.0"
METHOD = "held-out synthetic cases, all three modalities present"


@dataclass(frozen=True, slots=True)
class SyntheticRun:
    """Sizes of a run; ``cases`` train the weights, ``held_out`` calibrate them.

    ``varied`` shows the weights a share of their cases as other sites would have sent
    them, see :mod:`.variants`; held-out cases stay plain.
    """

    cases: int = 20_000
    held_out: int = 6_000
    tested: int = 4_000
    parameters: str = "P0"
    varied: bool = True

    def seeds(self, seed: int) -> dict[str, int]:
        """The seed of each purpose; distinct, and refused by the evaluation."""
        return {"train": seed, "calibration": seed + 1, "validation": seed + 2}


def varied_recipe(settings: TrainSettings) -> TrainSettings:
    """The recipe for varied cases, which is that of the demonstration checkpoint.

    Varied films take the image encoder longer than films of one site. The text encoder
    reads its notes once: a second time taught it to rely on fewer words. More modality
    dropout and weight decay keep the pairs calibrated: with little of either the fusion
    learns chance differences between combinations that mean the same. The
    explainability loss is tried, and its guard decides.
    """
    return replace(
        settings,
        encoders=(
            Schedule(epochs=7, rate=2e-3, batch=64),
            Schedule(epochs=1, rate=1e-3, batch=128),
            Schedule(epochs=3, rate=2e-3, batch=128),
        ),
        pooled=replace(settings.pooled, rate=2e-3, weight_decay=0.1),
        fusion=replace(settings.fusion, weight_decay=0.1),
        dropout=0.6,
        losses=LossWeights.of(("cls", "uni", "exp")),
        watch=True,
    )


def run_synthetic(
    folder: Path,
    settings: TrainSettings,
    run: SyntheticRun = SyntheticRun(),
    unstaged: Mapping[str, Any] | None = None,
    records: Path | None = None,
) -> dict[str, Any]:
    """Train, calibrate, measure and write one checkpoint folder.

    Args:
        folder: Where the checkpoint goes.
        settings: Recipe and seed.
        run: How many cases of which parameter set.
        unstaged: ``training.json`` of an end-to-end run, to be quoted for comparison.
        records: Run folder for measurements, plots and states; see
            :mod:`model.training.run_folder`. A run that is already there is continued.

    Returns:
        What was written to ``training.json``.

    Raises:
        ConfigurationError: unknown parameter set, or too few cases.
        RunFolderError: the run folder holds a run with other settings.
    """
    start = time.monotonic()
    sets = drawn_sets(settings, run)
    kept = _started(records, folder, settings, run, unstaged)
    trained = train(*sets, settings, kept)
    record = write_run(folder, trained, settings, run, _quoted(unstaged), start)
    if kept is not None:
        kept.finish(record, trained.alignment)
    return record


def drawn_sets(
    settings: TrainSettings, run: SyntheticRun
) -> tuple[TrainingSet, TrainingSet]:
    """The records that weights see, and those that the calibration sees.

    Args:
        settings: Its seed and its preset's film size are used.
        run: How many cases, and whether the weights see them varied.

    Raises:
        ConfigurationError: unknown parameter set, or too few cases.
    """
    if min(run.cases, run.held_out, run.tested) < 50:
        raise ConfigurationError("a run needs at least 50 cases of each kind")
    seeds = run.seeds(settings.seed)
    training = synthetic_set(
        _draw(settings, run, run.cases, seeds["train"], Split.TRAIN)
    )
    if run.varied:
        training = varied(training, Variety(), seeds["train"])
    held_out = _draw(
        settings, run, run.held_out, seeds["calibration"], Split.VALIDATION
    )
    return training, synthetic_set(held_out)


def _draw(
    settings: TrainSettings, run: SyntheticRun, n: int, seed: int, split: Split
) -> list[SynthCase]:
    size = preset(settings.preset, vocabulary=1, codes=1, labels=(LABEL,)).image.size
    return synthetic_cases(
        n, seed, split=split, parameters=run.parameters, image_size=size
    )


def write_run(
    folder: Path,
    trained: Trained,
    settings: TrainSettings,
    run: SyntheticRun,
    quoted: Mapping[str, Any] | None,
    start: float,
) -> dict[str, Any]:
    """Measure a calibrated model on cases of the TEST namespace and write it.

    Args:
        folder: Where the checkpoint goes.
        trained: Model, vocabulary, calibration, figures.
        settings: Of the run.
        run: Of the run.
        quoted: Figures of an end-to-end run, or None.
        start: ``time.monotonic()`` when the work began.

    Returns:
        What was written to ``training.json``.
    """
    seeds = run.seeds(settings.seed)
    tested = _draw(settings, run, run.tested, seeds["validation"], Split.TEST)
    inputs = to_tensors(synthetic_set(tested).records, trained.vocabulary)
    inputs = inputs.to(next(trained.model.parameters()).device)  # "auto" is none
    validation = _validation(trained, inputs, tested)
    record = {
        "preset": settings.preset,
        "staged": settings.staged,
        "data": {"source": "synthetic", **asdict(run)},
        "seeds": seeds,
        "settings": settings.to_json(),
        "figures": dict(trained.figures),
        "coalitions": score_coalitions(
            trained.model, trained.calibration, inputs, tested
        ),
        "unstaged": quoted,
        "seconds": round(time.monotonic() - start, 1),
    }
    description = Description(
        name=NAME,
        version=VERSION,
        preset=settings.preset,
        trained_on=TRAINED_ON,
        labels=(LabelSpec(LABEL, DISPLAY),),
        validation=validation,
        training=record,
        card=model_card(record, validation),
        notice=NOTICE,
    )
    trained.save(folder, description)
    return record


def _started(
    records: Path | None,
    folder: Path,
    settings: TrainSettings,
    run: SyntheticRun,
    unstaged: Mapping[str, Any] | None,
) -> RunFolder | None:
    """The run folder, with everything in it that a continuation needs."""
    if records is None:
        return None
    config = {
        "settings": settings.to_json(),
        "data": asdict(run),
        "checkpoint": str(folder.resolve()),
        "unstaged": unstaged,
    }
    return RunFolder.start(records, config)


def continue_synthetic(records: Path) -> tuple[Path, dict[str, Any]]:
    """Continue a killed run; a finished one only writes its checkpoint again.

    Returns:
        Where the checkpoint is, and its ``training.json``.

    Raises:
        RunFolderError: there is no readable run in that folder.
    """
    config = RunFolder(records).config()
    try:
        settings = TrainSettings.from_json(config["settings"])
        run = SyntheticRun(**config["data"])
        folder, unstaged = Path(config["checkpoint"]), config["unstaged"]
    except (KeyError, TypeError) as error:
        raise RunFolderError("config.json of the run is malformed") from error
    return folder, run_synthetic(folder, settings, run, unstaged, records)


def _validation(trained: Trained, inputs: Any, tested: Any) -> Validation:
    """AUROC of the full input with its interval, on cases of the TEST namespace."""
    tokens = cache_tokens(trained.model, inputs)
    logits = pattern_logits(trained.model, tokens, inputs.present, PATTERNS[-1])
    truth = np.array([case.label for case in tested], dtype=np.float64)
    chance = logits[:, 0].double().cpu().numpy()  # AUROC needs the order only
    return bootstrap_auroc(chance, truth, method=METHOD)


def _quoted(unstaged: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The figures of an end-to-end run that are worth quoting beside the staged one."""
    if unstaged is None or "figures" not in unstaged:  # none, or a quote already
        return None if unstaged is None else dict(unstaged)
    names = [key_of(coalition) for coalition in COALITIONS]
    return {
        "cases": unstaged["data"]["cases"],
        "seeds": unstaged["seeds"],
        "epochs": len(unstaged["figures"]["whole"]),
        "seconds": unstaged["seconds"],
        "coalitions": {name: unstaged["coalitions"][name] for name in names},
    }


def read_unstaged(path: Path) -> dict[str, Any]:
    """``training.json`` of an end-to-end run, or what a checkpoint quotes of one.

    Raises:
        ConfigurationError: not such a file.
    """
    try:
        data = dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ConfigurationError("no readable training.json there") from error
    data = data.get("unstaged") or data
    if data.get("staged", False) is not False or FULL not in data.get("coalitions", {}):
        raise ConfigurationError("that run was not trained end to end")
    return data
