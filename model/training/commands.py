"""The subcommands ``train`` and ``evaluate``: options in, functions called, lines out.

Everything heavy is imported when a command runs, so that help is instant.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from model.settings import DEMO_CHECKPOINT

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
    parser.add_argument("--cases", type=int, default=10_000, help="training cases")
    parser.add_argument("--seed", type=int, default=7, help="of cases and weights")
    parser.add_argument(
        "--parameters", choices=("P0", "P1"), default="P0", help="generator parameters"
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
        help="folder of an --unstaged run whose figures the checkpoint shall quote",
    )
    parser.add_argument(
        "--out", type=Path, help="checkpoint folder (default: a new one in var/runs)"
    )
    parser.add_argument("--threads", type=int, default=1, help="0: one per core")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="cpu")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def train(arguments: Arguments) -> int:
    """Train on synthetic cases or on a folder; prints where the checkpoint is."""
    if arguments.data != SYNTHETIC:
        return _train_on_folder(arguments)
    from model.training.synthetic_run import (
        SyntheticRun,
        read_unstaged,
        run_synthetic,
    )
    from model.training.train import TrainSettings

    folder = _out(arguments)
    settings = TrainSettings(
        preset=arguments.preset,
        seed=arguments.seed,
        staged=not arguments.unstaged,
        threads=arguments.threads,
        device=arguments.device,
        progress=not arguments.quiet,
    )
    compare = arguments.compare
    record = run_synthetic(
        folder,
        settings,
        SyntheticRun(cases=arguments.cases, parameters=arguments.parameters),
        read_unstaged(compare / "training.json") if compare else None,
    )
    full = record["coalitions"]["all"]
    print(f"checkpoint: {folder}")
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


def _out(arguments: Arguments) -> Path:
    """The folder that was asked for, or a new one named after the moment."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    folder: Path = arguments.out or RUNS / f"{arguments.preset}-{stamp}"
    return folder


def add_evaluate_options(parser: Parser) -> None:
    """Options of ``trivium-model evaluate``."""
    parser.add_argument(
        "--data", choices=("synthetic",), default="synthetic", help="what to test on"
    )
    parser.add_argument(
        "--checkpoint", type=Path, default=DEMO_CHECKPOINT, help="checkpoint folder"
    )
    parser.add_argument("--cases", type=int, default=4_000, help="fresh cases")
    parser.add_argument(
        "--seed", type=int, default=2_026, help="of the cases; training seeds refused"
    )
    parser.add_argument(
        "--parameters", choices=("P0", "P1"), default="P0", help="generator parameters"
    )
    parser.add_argument(
        "--against",
        type=Path,
        metavar="CHECKPOINT",
        help="second checkpoint folder, compared on the same cases",
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="cpu")
    parser.add_argument("--json", action="store_true", help="JSON instead of a table")
    parser.add_argument("--strict", action="store_true", help="exit 1 below a bar")


def evaluate(arguments: Arguments) -> int:
    """Score a checkpoint on fresh cases; prints a table or JSON."""
    from model.inference.runtime import choose_device
    from model.inference.weights import load_checkpoint
    from model.training.evaluate import evaluate_synthetic
    from model.training.evaluation_table import table

    device, other = choose_device(arguments.device), arguments.against
    report = evaluate_synthetic(
        load_checkpoint(arguments.checkpoint, device),
        cases=arguments.cases,
        seed=arguments.seed,
        parameters=arguments.parameters,
        against=load_checkpoint(other, device) if other else None,
    )
    print(json.dumps(report, indent=2) if arguments.json else table(report))
    met = all(bar["passed"] for bar in report["checks"].values())
    return 0 if met or not arguments.strict else 1
