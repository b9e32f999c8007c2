"""The subcommand ``evaluate``: options in, functions called, lines out.

Everything heavy is imported when the command runs, so that help is instant.
"""

from __future__ import annotations

import argparse
import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.errors import ConfigurationError
from model.settings import DEMO_CHECKPOINT

if TYPE_CHECKING:
    from model.evaluation.report import Sizes
    from model.inference.weights import LoadedCheckpoint

Parser = argparse.ArgumentParser
Arguments = argparse.Namespace


def add_evaluate_options(parser: Parser) -> None:
    """Options of ``trivium-model evaluate``."""
    parser.add_argument(
        "--data", choices=("synthetic",), default="synthetic", help="what to test on"
    )
    parser.add_argument(
        "--checkpoint", type=Path, default=DEMO_CHECKPOINT, help="checkpoint folder"
    )
    parser.add_argument(
        "--cases", type=int, help="fresh cases (default: 4000; 200 with --quick)"
    )
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
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="measure everything: report.json, report.md and report.html go there",
    )
    parser.add_argument(
        "--model-card",
        type=Path,
        metavar="PATH",
        help="with --out: write a model card from the report",
    )
    parser.add_argument(
        "--quick", action="store_true", help="with --out: few cases, to try it"
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="0: one per core")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    parser.add_argument("--json", action="store_true", help="JSON instead of a table")
    parser.add_argument("--strict", action="store_true", help="exit 1 below a bar")


def evaluate(arguments: Arguments) -> int:
    """Score a checkpoint on fresh cases; prints a table or JSON.

    Raises:
        ConfigurationError: options that need ``--out`` without it, or with
            ``--against``.
    """
    from model.inference.runtime import choose_device, configure_threads
    from model.inference.weights import load_checkpoint

    if arguments.out is None and (arguments.model_card or arguments.quick):
        raise ConfigurationError("--model-card and --quick need --out")
    if arguments.out is not None and arguments.against is not None:
        raise ConfigurationError("--against is for the short table, without --out")
    configure_threads(arguments.threads)
    device, other = choose_device(arguments.device), arguments.against
    checkpoint = load_checkpoint(arguments.checkpoint, device)
    if arguments.out is not None:
        return _whole(arguments, checkpoint)
    against = load_checkpoint(other, device) if other else None
    return _short(arguments, checkpoint, against)


def _short(
    arguments: Arguments,
    checkpoint: LoadedCheckpoint,
    against: LoadedCheckpoint | None,
) -> int:
    """The table of coalitions alone."""
    from model.evaluation.evaluate import evaluate_synthetic
    from model.evaluation.evaluation_table import table

    report = evaluate_synthetic(
        checkpoint,
        cases=4_000 if arguments.cases is None else arguments.cases,
        seed=arguments.seed,
        parameters=arguments.parameters,
        against=against,
    )
    print(json.dumps(report, indent=2) if arguments.json else table(report))
    met = all(bar["passed"] for bar in report["checks"].values())
    return 0 if met or not arguments.strict else 1


def _whole(arguments: Arguments, checkpoint: LoadedCheckpoint) -> int:
    """Everything, into files."""
    from model.evaluation.markdown import headline, missed_lines
    from model.evaluation.report import full_report, verdicts

    report = full_report(
        checkpoint,
        _sizes(arguments),
        seed=arguments.seed,
        parameters=arguments.parameters,
        command=typed(arguments),
        progress=not arguments.quiet,
    )
    write(report, arguments.out, arguments.model_card)
    if arguments.json:
        print(json.dumps(report, indent=2))
    else:
        print("\n".join([headline(report), *missed_lines(report)]))
        print(f"report: {arguments.out}")
    return 1 if arguments.strict and verdicts(report)["missed"] else 0


def _sizes(arguments: Arguments) -> Sizes:
    from model.evaluation.report import QUICK, Sizes

    sizes = QUICK if arguments.quick else Sizes(cases=4_000)
    return sizes if arguments.cases is None else replace(sizes, cases=arguments.cases)


def typed(arguments: Arguments) -> str:
    """The command that prints the same report, without paths of this machine."""
    words = ["trivium-model", "evaluate"]
    if arguments.checkpoint != DEMO_CHECKPOINT:
        words += ["--checkpoint", arguments.checkpoint.name]
    words += ["--seed", str(arguments.seed), "--parameters", arguments.parameters]
    if arguments.cases is not None:
        words += ["--cases", str(arguments.cases)]
    words += ["--quick"] if arguments.quick else []
    return shlex.join([*words, "--out", arguments.out.name])


def write(report: dict[str, Any], folder: Path, card: Path | None) -> None:
    """Write report.json, report.md, report.html and, where asked for, a card."""
    from model.evaluation.html_page import to_html
    from model.evaluation.markdown import to_markdown
    from model.evaluation.report_card import report_card

    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(report, indent=1, allow_nan=False)
    (folder / "report.json").write_text(text + "\n", encoding="utf-8")
    (folder / "report.md").write_text(to_markdown(report), encoding="utf-8")
    (folder / "report.html").write_text(to_html(report), encoding="utf-8")
    if card is not None:
        card.parent.mkdir(parents=True, exist_ok=True)
        card.write_text(report_card(report), encoding="utf-8")
