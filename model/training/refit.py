"""Fit everything but the weights again: statistics, calibration, thresholds, figures.

A checkpoint of an older version lacks detectors whose statistics it never stored. Its
training cases can be drawn again from the seeds in ``training.json``, so what travels
beside the weights is fitted anew on the very same cases, and the weights stay.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from model.errors import ConfigurationError
from model.inference.runtime import configure_threads
from model.inference.weights import LoadedCheckpoint, load_checkpoint
from model.training.synthetic_run import SyntheticRun, drawn_sets, write_run
from model.training.train import Trained, TrainSettings, calibrate_on, prepare

_RUN_FIELDS = ("cases", "held_out", "tested", "parameters")


def refit(source: Path, folder: Path, *, threads: int = 1) -> dict[str, Any]:
    """Write a checkpoint with the same weights and everything else fitted again.

    Args:
        source: Checkpoint folder of a run on synthetic cases.
        folder: Where the new one goes; may be the same folder.
        threads: Torch threads.

    Returns:
        What was written to ``training.json``.

    Raises:
        CheckpointError: the folder cannot be read.
        ConfigurationError: it was not trained on synthetic cases.
    """
    start = time.monotonic()
    configure_threads(threads)
    loaded = load_checkpoint(source)
    settings, run = asked_of(loaded)
    training, held_out = drawn_sets(settings, run)
    vocabulary = loaded.vocabulary.watching(training.records)
    device = torch.device("cpu")
    sets = (training, held_out)
    prepared = tuple(prepare(s, vocabulary, loaded.config, device) for s in sets)
    calibration, thresholds = calibrate_on(
        loaded.model, vocabulary, sets, (prepared[0], prepared[1]), settings.seed
    )
    trained = Trained(
        loaded.model,
        vocabulary,
        calibration,
        thresholds,
        loaded.training.get("figures", {}),
    )
    quoted = loaded.training.get("unstaged")
    return write_run(folder, trained, settings, run, quoted, start)


def asked_of(loaded: LoadedCheckpoint) -> tuple[TrainSettings, SyntheticRun]:
    """Settings and cases of the run that made a checkpoint.

    Raises:
        ConfigurationError: ``training.json`` says nothing of a synthetic run.
    """
    training: Mapping[str, Any] = loaded.training
    data = training.get("data", {})
    if data.get("source") != "synthetic" or "settings" not in training:
        raise ConfigurationError("that checkpoint was not trained on synthetic cases")
    run = SyntheticRun(
        **{name: data[name] for name in _RUN_FIELDS if name in data},
        varied=bool(data.get("varied", False)),
    )
    settings = TrainSettings.from_json(training["settings"])
    return replace(settings, watch=True), run
