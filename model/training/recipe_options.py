"""Options of ``trivium-model train`` that change the recipe, and what they change."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.errors import ConfigurationError

if TYPE_CHECKING:
    from model.training.train_settings import TrainSettings

FUSIONS = ("catm", "late", "concat", "cascade", "sequential", "bottleneck")


def add_recipe_options(parser: argparse.ArgumentParser) -> None:
    """``--losses``, ``--stages``, ``--fusion``, ``--early-stop`` and the rest."""
    _add_losses(parser)
    _add_lengths(parser)


def _add_losses(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--resume",
        type=Path,
        metavar="RUN",
        help="continue the run of that folder, with its own settings",
    )
    parser.add_argument(
        "--losses",
        help="of cls, con, exp, uni; exp stays only where it pays, see --no-guard "
        "(default: cls,uni,exp on synthetic cases, cls,uni with --plain or a folder)",
    )
    parser.add_argument(
        "--balanced", action="store_true", help="positives weigh as much as negatives"
    )
    parser.add_argument(
        "--no-guard",
        action="store_true",
        help="keep the explainability loss even where it does not pay",
    )
    parser.add_argument(
        "--stages", default="S1,S2,S3,S4,S5", help="stages to run, of S1 to S5"
    )
    parser.add_argument(
        "--fusion", choices=FUSIONS, default="catm", help="fusion module"
    )


def _add_lengths(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--early-stop",
        type=int,
        default=0,
        metavar="N",
        help="end a stage after N epochs without a better held-out loss; 0: never",
    )
    parser.add_argument(
        "--self-supervised",
        type=int,
        default=0,
        metavar="N",
        help="N epochs of masked patches, words and values before S1",
    )
    parser.add_argument(
        "--finetune",
        type=int,
        default=0,
        metavar="N",
        help="N epochs of S4: all weights, encoders at a tenth of the rate",
    )
    parser.add_argument(
        "--precision",
        choices=("auto", "float32"),
        default="auto",
        help="auto: bfloat16 on a CUDA device, float32 elsewhere",
    )


def recipe(settings: TrainSettings, arguments: argparse.Namespace) -> TrainSettings:
    """The settings with what was asked for on the command line.

    Raises:
        ConfigurationError: an unknown loss or stage, a negative number, or both
            ``--resume`` and a folder of cases.
    """
    from model.training.loss_weights import LossWeights
    from model.training.optimise import Schedule

    if arguments.resume is not None:
        raise ConfigurationError("only runs on synthetic cases can be continued")
    counts = (arguments.self_supervised, arguments.finetune, arguments.early_stop)
    if min(counts) < 0:
        raise ConfigurationError("a number of epochs is negative")
    losses = replace(settings.losses, balanced=arguments.balanced)
    if arguments.losses is not None:
        names = tuple(filter(None, arguments.losses.split(",")))
        losses = LossWeights.of(names, balanced=arguments.balanced)
    changes: dict[str, Any] = {
        "losses": losses,
        "stages": tuple(filter(None, arguments.stages.split(","))),
        "fusion_module": arguments.fusion,
        "early_stop": arguments.early_stop,
        "guard": not arguments.no_guard,
        "precision": arguments.precision,
    }
    if arguments.self_supervised:
        once = Schedule(epochs=arguments.self_supervised, rate=1e-3, batch=128)
        changes["self_supervised"] = (once, once, once)
    if arguments.finetune:
        changes["finetune"] = Schedule(
            epochs=arguments.finetune, rate=5e-4, batch=128, average=0.98
        )
    return replace(settings, **changes)
