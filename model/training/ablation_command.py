"""``trivium-model ablate-losses``: what each loss brings, as table, JSON or page."""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def add_ablation_options(parser: argparse.ArgumentParser) -> None:
    """Options of ``trivium-model ablate-losses``."""
    parser.add_argument("--cases", type=int, default=4_000, help="training cases")
    parser.add_argument(
        "--held-out", type=int, default=1_000, help="cases for the guard of exp"
    )
    parser.add_argument("--tested", type=int, default=4_000, help="fresh test cases")
    parser.add_argument("--seed", type=int, default=31, help="of cases and weights")
    parser.add_argument(
        "--parameters", choices=("P0", "P1"), default="P0", help="generator parameters"
    )
    parser.add_argument(
        "--parts", action="store_true", help="also one row per part of exp"
    )
    parser.add_argument("--threads", type=int, default=1, help="0: one per core")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="cpu")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    parser.add_argument("--json", action="store_true", help="JSON instead of a table")
    parser.add_argument(
        "--markdown", type=Path, metavar="PATH", help="also write a page there"
    )


def ablate(arguments: argparse.Namespace) -> int:
    """Train every row and print what it does.

    Raises:
        ConfigurationError: fewer than 50 cases of a kind.
    """
    from model.errors import ConfigurationError
    from model.training.loss_ablation import Ablation, ablate_losses
    from model.training.loss_ablation_table import page, table

    if min(arguments.cases, arguments.held_out, arguments.tested) < 50:
        raise ConfigurationError("an ablation needs at least 50 cases of each kind")
    report = ablate_losses(
        Ablation(
            cases=arguments.cases,
            held_out=arguments.held_out,
            tested=arguments.tested,
            seed=arguments.seed,
            parameters=arguments.parameters,
            parts=arguments.parts,
            threads=arguments.threads,
            device=arguments.device,
            progress=not arguments.quiet,
        )
    )
    if arguments.markdown is not None:
        command = (
            f"trivium-model ablate-losses --cases {arguments.cases} "
            f"--seed {arguments.seed} --markdown {arguments.markdown}"
        )
        arguments.markdown.write_text(page(report, command), encoding="utf-8")
    print(json.dumps(report, indent=2) if arguments.json else table(report))
    return 0
