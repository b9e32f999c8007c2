"""``trivium-model ablate-losses``: what each loss brings, as table, JSON or page."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

KEPT = Path("build/loss-ablation")


def add_ablation_options(parser: argparse.ArgumentParser) -> None:
    """Options of ``trivium-model ablate-losses``."""
    parser.add_argument("--cases", type=int, default=4_000, help="training cases")
    parser.add_argument(
        "--held-out", type=int, default=1_000, help="cases for the guard of exp"
    )
    parser.add_argument("--tested", type=int, default=4_000, help="fresh test cases")
    parser.add_argument("--seed", type=int, default=31, help="of cases and weights")
    parser.add_argument(
        "--starts", type=int, default=2, help="random starts (cases and weights)"
    )
    parser.add_argument(
        "--parameters", choices=("P0", "P1"), default="P0", help="generator parameters"
    )
    parser.add_argument(
        "--parts", action="store_true", help="also one row per part of exp"
    )
    parser.add_argument(
        "--draws", type=int, default=1_000, help="bootstrap draws of the intervals"
    )
    parser.add_argument(
        "--keep",
        type=Path,
        default=KEPT,
        metavar="FOLDER",
        help="where the scores of a start are kept, so that a run can go on",
    )
    parser.add_argument("--threads", type=int, default=1, help="0: one per core")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="cpu")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    parser.add_argument("--json", action="store_true", help="JSON instead of a table")
    parser.add_argument(
        "--markdown",
        type=Path,
        metavar="PATH",
        help="also write a page there, and its JSON beside it",
    )


def ablate(arguments: argparse.Namespace) -> int:
    """Train every row and print what it does.

    Raises:
        ConfigurationError: fewer than 50 cases of a kind, or no start.
        CheckpointError: what was kept is damaged.
    """
    from model.errors import ConfigurationError
    from model.training.loss_ablation import Ablation, ablate_losses
    from model.training.loss_ablation_table import page, table

    if min(arguments.cases, arguments.held_out, arguments.tested) < 50:
        raise ConfigurationError("an ablation needs at least 50 cases of each kind")
    if arguments.starts < 1 or arguments.draws < 1:
        raise ConfigurationError("an ablation needs a start and a draw")
    report = ablate_losses(
        Ablation(
            cases=arguments.cases,
            held_out=arguments.held_out,
            tested=arguments.tested,
            seed=arguments.seed,
            starts=arguments.starts,
            parameters=arguments.parameters,
            parts=arguments.parts,
            draws=arguments.draws,
            threads=arguments.threads,
            device=arguments.device,
            progress=not arguments.quiet,
        ),
        keep=arguments.keep,
    )
    if arguments.markdown is not None:
        command = (
            f"trivium-model ablate-losses --cases {arguments.cases} "
            f"--held-out {arguments.held_out} --tested {arguments.tested} "
            f"--seed {arguments.seed} --starts {arguments.starts} "
            f"--draws {arguments.draws}"
            + (" --parts" if arguments.parts else "")
            + " --markdown FILE"
        )
        arguments.markdown.write_text(page(report, command), encoding="utf-8")
        beside = arguments.markdown.with_suffix(".json")
        beside.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=2) if arguments.json else table(report))
    return 0
