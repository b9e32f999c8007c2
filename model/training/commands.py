"""The subcommands ``train`` and ``refit``: options in, functions called, lines out.

Everything heavy is imported when a command runs, so that help is instant.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.training.recipe_options import add_recipe_options, recipe

if TYPE_CHECKING:
    from model.training.train_settings import TrainSettings

Parser = argparse.ArgumentParser
Arguments = argparse.Namespace

RUNS = Path("var/runs")
SYNTHETIC = "synthetic"


def add_train_options(parser: Parser) -> None:
    """Options of ``trivium-model train``."""
    parser.add_argument(
        "--preset", choices=("tiny", "small", "base"), default="tiny", help="size"
    )
    parser.add_argument(
        "--data",
        default=SYNTHETIC,
        help='what to learn from: "synthetic", or a folder with cases.jsonl and images',
    )
    parser.add_argument("--cases", type=int, default=20_000, help="training cases")
    parser.add_argument("--seed", type=int, default=7, help="of cases and weights")
    parser.add_argument(
        "--parameters", choices=("P0", "P1"), default="P0", help="generator parameters"
    )
    parser.add_argument(
        "--plain",
        action="store_true",
        help="synthetic cases as they are drawn; by default a share of them is shown "
        "as other sites would have sent them",
    )
    parser.add_argument(
        "--unstaged",
        action="store_true",
        help="end to end from scratch, to see why training goes in stages",
    )
    parser.add_argument(
        "--compare",
        type=Path,
        metavar="RUN",
        help="folder of an --unstaged run whose figures the checkpoint shall quote, or "
        "of a checkpoint that quotes one",
    )
    parser.add_argument(
        "--out",
        type=Path,
        help="checkpoint folder; the run folder is OUT-run beside it (default: a new "
        "run folder in var/runs, with the checkpoint inside)",
    )
    add_recipe_options(parser)
    parser.add_argument("--threads", type=int, default=1, help="0: one per core")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="cpu")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def train(arguments: Arguments) -> int:
    """Train on synthetic cases or on a folder; prints where the checkpoint is."""
    if arguments.data != SYNTHETIC:
        return _train_on_folder(arguments)
    from model.training.synthetic_run import (
        SyntheticRun,
        continue_synthetic,
        read_unstaged,
        run_synthetic,
    )

    if arguments.resume is not None:
        folder, record = continue_synthetic(arguments.resume)
        return _report(folder, arguments.resume, record)
    folder, records = _folders(arguments)
    settings = synthetic_settings(arguments)
    compare = arguments.compare
    record = run_synthetic(
        folder,
        settings,
        SyntheticRun(
            cases=arguments.cases,
            parameters=arguments.parameters,
            varied=not arguments.plain,
        ),
        read_unstaged(compare / "training.json") if compare else None,
        records,
    )
    return _report(folder, records, record)


def synthetic_settings(arguments: Arguments) -> TrainSettings:
    """What a run on synthetic cases is asked to do.

    Raises:
        ConfigurationError: see :func:`.recipe_options.recipe`.
    """
    from model.training.synthetic_run import varied_recipe
    from model.training.train_settings import TrainSettings

    settings = TrainSettings(
        preset=arguments.preset,
        seed=arguments.seed,
        staged=not arguments.unstaged,
        threads=arguments.threads,
        device=arguments.device,
        progress=not arguments.quiet,
    )
    if not arguments.plain:
        settings = varied_recipe(settings)
    return recipe(settings, arguments)


def add_refit_options(parser: Parser) -> None:
    """Options of ``trivium-model refit``."""
    parser.add_argument(
        "checkpoint", type=Path, help="checkpoint folder of a run on synthetic cases"
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="where the new checkpoint goes"
    )
    parser.add_argument("--threads", type=int, default=1, help="0: one per core")
    parser.add_argument("--json", action="store_true", help="figures as JSON")


def refit(arguments: Arguments) -> int:
    """Fit statistics and calibration again; prints what the model then scores."""
    from model.training.refit import refit as fit_again

    record = fit_again(arguments.checkpoint, arguments.out, threads=arguments.threads)
    if arguments.json:
        print(json.dumps(record["coalitions"], indent=2))
        return 0
    full = record["coalitions"]["all"]
    print(f"checkpoint: {arguments.out}")
    print(f"AUROC {full['auroc']:.4f} of {full['ceiling']:.4f} attainable")
    return 0


def _report(folder: Path, records: Path, record: Mapping[str, Any]) -> int:
    """What a run on synthetic cases ends with."""
    full = record["coalitions"]["all"]
    print(f"checkpoint: {folder}\nrun folder: {records}")
    guard = record["figures"].get("explanation_guard")
    if guard:
        print(
            f"explainability loss {'on' if guard['on'] else 'off'}: {guard['reason']}"
        )
    print(
        f"AUROC {full['auroc']:.4f} of {full['ceiling']:.4f} attainable, "
        f"{record['seconds']:.0f} s"
    )
    return 0


def _train_on_folder(arguments: Arguments) -> int:
    """Real cases: cross-validate, then train; prints the honest figure."""
    from model.training.folder_study import FOLDER_SETTINGS, study

    settings = replace(
        FOLDER_SETTINGS,
        preset=arguments.preset,
        seed=arguments.seed,
        threads=arguments.threads,
        device=arguments.device,
    )
    settings = recipe(settings, arguments)
    trained, description = study(
        Path(arguments.data), settings, progress=not arguments.quiet
    )
    folder = _out(arguments)
    trained.save(folder, description)
    found = description.validation
    print(f"checkpoint: {folder}\ntrained on {description.trained_on}")
    if found is not None:
        print(
            f"{found.metric} {found.value:.3f} ({found.low:.3f} to {found.high:.3f}), "
            f"n = {found.n}: {found.method}"
        )
    return 0


def _folders(arguments: Arguments) -> tuple[Path, Path]:
    """Checkpoint folder and run folder: the one in the other, or side by side."""
    folder = _out(arguments)
    if arguments.out is None:
        return folder / "checkpoint", folder
    return folder, folder.with_name(f"{folder.name}-run")


def _out(arguments: Arguments) -> Path:
    """The folder that was asked for, or a new one named after the moment."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    folder: Path = arguments.out or RUNS / f"{arguments.preset}-{stamp}"
    return folder
