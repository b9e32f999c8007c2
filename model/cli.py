"""``trivium-model``: train and evaluate the tri-modal network from the command line.

A subcommand is a row of ``COMMANDS``: its summary, what adds its options, what runs it.
Exit codes: 0 done, 1 below a bar (with --strict), 2 refused.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from model.datasets import commands as data
from model.errors import ModelError
from model.training import commands as training

Parser = argparse.ArgumentParser
Arguments = argparse.Namespace

COMMANDS: dict[
    str, tuple[str, Callable[[Parser], None], Callable[[Arguments], int]]
] = {
    "train": (
        "train, calibrate and write a checkpoint",
        training.add_train_options,
        training.train,
    ),
    "evaluate": (
        "score a checkpoint per coalition",
        training.add_evaluate_options,
        training.evaluate,
    ),
    "datasets": (
        "check a local copy of a data set",
        data.add_datasets_options,
        data.datasets,
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand; a typed error ends in one line and exit code 2."""
    parser = Parser("trivium-model", description="The tri-modal model of Trivium.")
    subcommands = parser.add_subparsers(dest="command", required=True)
    for name, (summary, add_arguments, _) in COMMANDS.items():
        add_arguments(
            subcommands.add_parser(
                name,
                help=summary,
                description=summary,
                formatter_class=argparse.ArgumentDefaultsHelpFormatter,
            )
        )
    chosen = parser.parse_args(arguments)
    try:
        return COMMANDS[chosen.command][2](chosen)
    except ModelError as error:
        print(f"trivium-model: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
