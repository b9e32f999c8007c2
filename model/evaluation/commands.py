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


#: Options that bound parts of the whole report, and their defaults in words.
_SIZES = {
    "shifted": ("cases that shifts and probes are measured on", "2000"),
    "served": ("records that go one by one through the predictor", "300"),
    "explained": ("cases whose explanations are measured", "200"),
}


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
    _add_report_options(parser)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="0: one per core")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    parser.add_argument("--json", action="store_true", help="JSON instead of a table")
    parser.add_argument("--strict", action="store_true", help="exit 1 below a bar")


def _add_report_options(parser: Parser) -> None:
    """What only the whole report knows."""
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
        "--document",
        type=Path,
        metavar="PATH",
        help="with --out: also the Markdown report there, its plots beside it",
    )
    for name, (what, usual) in _SIZES.items():
        parser.add_argument(
            f"--{name}",
            type=int,
            metavar="N",
            help=f"with --out: {what}; {usual} when not given",
        )
    parser.add_argument(
        "--quick", action="store_true", help="with --out: few cases, to try it"
    )


def evaluate(arguments: Arguments) -> int:
    """Score a checkpoint on fresh cases; prints a table or JSON.

    Raises:
        ConfigurationError: options that need ``--out`` without it, or with
            ``--against``.
    """
    from model.inference.runtime import choose_device, configure_threads
    from model.inference.weights import load_checkpoint

    only_whole = ("model_card", "document", "quick", *_SIZES)
    if arguments.out is None and any(getattr(arguments, x) for x in only_whole):
        raise ConfigurationError(
            "--model-card, --document, --quick and the sizes of a report need --out"
        )
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
    from model.inference.weights import write_manifest

    report = full_report(
        checkpoint,
        _sizes(arguments),
        seed=arguments.seed,
        parameters=arguments.parameters,
        command=typed(arguments),
        progress=not arguments.quiet,
    )
    write(report, arguments.out, arguments.model_card)
    if arguments.document is not None:
        document(report, arguments.document)
    card = arguments.model_card
    if card is not None and card.resolve().parent == checkpoint.folder.resolve():
        write_manifest(checkpoint.folder)  # the card is one of the listed files
    if arguments.json:
        print(json.dumps(report, indent=2))
    else:
        print("\n".join([headline(report), *missed_lines(report)]))
        print(f"report: {arguments.out}")
    return 1 if arguments.strict and verdicts(report)["missed"] else 0


def _sizes(arguments: Arguments) -> Sizes:
    from model.evaluation.report import QUICK, Sizes

    sizes = QUICK if arguments.quick else Sizes(cases=4_000)
    asked = {name: getattr(arguments, name) for name in _SIZES}
    sizes = replace(sizes, **{name: n for name, n in asked.items() if n is not None})
    return sizes if arguments.cases is None else replace(sizes, cases=arguments.cases)


def typed(arguments: Arguments) -> str:
    """The command that prints the same report, without paths of this machine."""
    words = ["trivium-model", "evaluate"]
    if arguments.checkpoint != DEMO_CHECKPOINT:
        words += ["--checkpoint", arguments.checkpoint.name]
    words += ["--seed", str(arguments.seed), "--parameters", arguments.parameters]
    if arguments.cases is not None:
        words += ["--cases", str(arguments.cases)]
    for name in _SIZES:
        if getattr(arguments, name) is not None:
            words += [f"--{name}", str(getattr(arguments, name))]
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


def document(report: dict[str, Any], path: Path) -> None:
    """Write the Markdown report with its plots as SVG files beside it.

    Args:
        report: As :func:`~model.evaluation.report.full_report` returns it.
        path: Of the text; the plots are named after it.
    """
    from model.evaluation import plots
    from model.evaluation.markdown import to_markdown

    drawn = {
        "coalitions": plots.coalition_bars(report),
        "reliability": plots.reliability(report),
        "robustness": plots.robustness_bars(report),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    names = []
    for name, picture in drawn.items():
        names.append(f"{path.stem}-{name}.svg")
        (path.parent / names[-1]).write_text(picture + "\n", encoding="utf-8")
    path.write_text(to_markdown(report, names), encoding="utf-8")
