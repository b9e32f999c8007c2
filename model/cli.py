"""``trivium-model``: train and evaluate the tri-modal network from the command line.

A subcommand is a row of ``COMMANDS``: its summary, what adds its options, what runs it.
Exit codes: 0 done, 1 below a bar (with --strict), 2 refused.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from model.baselines import commands as baselines
from model.datasets import commands as data
from model.errors import ModelError
from model.evaluation import commands as evaluation
from model.explain import commands as explain
from model.films import commands as films
from model.films import small_commands
from model.language import commands as language
from model.network import describe
from model.training import ablation_command
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
    "refit": (
        "fit statistics and calibration of a checkpoint again; weights stay",
        training.add_refit_options,
        training.refit,
    ),
    "ablate-losses": (
        "what each loss brings, one row per loss",
        ablation_command.add_ablation_options,
        ablation_command.ablate,
    ),
    "evaluate": (
        "score a checkpoint per coalition",
        evaluation.add_evaluate_options,
        evaluation.evaluate,
    ),
    "compare": (
        "the model beside its baselines, with the paper's rows",
        baselines.add_compare_options,
        baselines.compare,
    ),
    "cases": (
        "cross-validation on a folder of real cases, beside shortcuts",
        baselines.add_cases_options,
        baselines.cases,
    ),
    "datasets": (
        "check a local copy of a data set",
        data.add_datasets_options,
        data.datasets,
    ),
    "films-trimodal": (
        "fusion on real films joined to synthetic notes and values",
        small_commands.add_trimodal_options,
        small_commands.trimodal,
    ),
    "build-small": (
        "build the checkpoint that has seen real films and real language",
        small_commands.add_small_options,
        small_commands.small,
    ),
    "explain-report": (
        "measure explanations against what was planted",
        explain.add_report_options,
        explain.report,
    ),
    "explain": (
        "one synthetic case explained as a picture",
        explain.add_explain_options,
        explain.explain,
    ),
    "films": (
        "teach the image encoder real films, and report what it reads",
        films.add_films_options,
        films.films,
    ),
    "language": (
        "text tasks: masked words, entities, links, questions, summaries",
        language.add_language_options,
        language.language,
    ),
    "describe": (
        "parameters and multiply-adds of each part of a preset",
        describe.add_options,
        describe.run,
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
