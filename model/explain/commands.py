"""The subcommands ``explain-report`` and ``explain``: options in, lines out."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from model.settings import DEMO_CHECKPOINT

#: As in ``synergy`` and ``sanity``: to print a help text must not load torch.
DOMINANCE_LIMIT, MODULES = 0.7, 12

Parser = argparse.ArgumentParser
Arguments = argparse.Namespace


def add_report_options(parser: Parser) -> None:
    """Options of ``trivium-model explain-report``."""
    parser.add_argument(
        "--checkpoint", type=Path, default=DEMO_CHECKPOINT, help="checkpoint folder"
    )
    parser.add_argument("--cases", type=int, default=1_000, help="fresh cases")
    parser.add_argument(
        "--seed", type=int, default=2_027, help="of the cases; training seeds refused"
    )
    parser.add_argument("--threads", type=int, default=1, help="0: one per core")
    parser.add_argument(
        "--modules",
        type=int,
        default=MODULES,
        help="randomised fusion modules to compare",
    )
    parser.add_argument(
        "--dominance-limit",
        type=float,
        default=DOMINANCE_LIMIT,
        help="share of the Shapley values above which one modality is an alert",
    )
    parser.add_argument("--json", action="store_true", help="JSON instead of a table")
    parser.add_argument(
        "--markdown",
        type=Path,
        metavar="FILE",
        help="also write the table there, between its figure marks if it has them",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.add_argument("--strict", action="store_true", help="exit 1 below a target")


def report(arguments: Arguments) -> int:
    """Measure the explanations of a checkpoint; prints a table or JSON."""
    from model.explain.measures import explanation_report
    from model.explain.report_text import (
        report_markdown,
        report_table,
        write_markdown,
    )
    from model.inference.runtime import configure_threads
    from model.inference.weights import load_checkpoint
    from model.synthetic.latents import Split
    from model.training.synthetic_set import synthetic_cases

    configure_threads(arguments.threads)
    checkpoint = load_checkpoint(arguments.checkpoint)
    cases = synthetic_cases(
        arguments.cases,
        arguments.seed,
        split=Split.TEST,
        image_size=checkpoint.config.image.size,
    )
    found = explanation_report(
        checkpoint,
        cases,
        seed=arguments.seed,
        progress=not arguments.quiet,
        modules=arguments.modules,
        dominance_limit=arguments.dominance_limit,
    )
    if arguments.markdown:
        text = report_markdown(found, _command(arguments))
        write_markdown(text, arguments.markdown)
    print(json.dumps(found, indent=2) if arguments.json else report_table(found))
    held = all(row["holds"] is not False for row in found["figures"].values())
    return 0 if held or not arguments.strict else 1


def _command(arguments: Arguments) -> str:
    """What prints these figures again."""
    parts = [f"trivium-model explain-report --cases {arguments.cases}"]
    parts.append(f"--seed {arguments.seed}")
    if arguments.checkpoint != DEMO_CHECKPOINT:
        parts.append(f"--checkpoint {arguments.checkpoint}")
    if arguments.modules != MODULES:
        parts.append(f"--modules {arguments.modules}")
    if arguments.dominance_limit != DOMINANCE_LIMIT:
        parts.append(f"--dominance-limit {arguments.dominance_limit:g}")
    return " ".join(parts)


def add_explain_options(parser: Parser) -> None:
    """Options of ``trivium-model explain``."""
    parser.add_argument(
        "--checkpoint", type=Path, default=DEMO_CHECKPOINT, help="checkpoint folder"
    )
    parser.add_argument("--seed", type=int, default=2_027, help="of the case")
    parser.add_argument("--index", type=int, default=0, help="case of that seed")
    parser.add_argument(
        "--out", type=Path, default=Path("explanation.png"), help="picture to write"
    )
    parser.add_argument(
        "--attention",
        action="store_true",
        help="also draw where the label's query looked (attention, not attribution)",
    )
    parser.add_argument("--json", action="store_true", help="JSON instead of sentences")


def explain(arguments: Arguments) -> int:
    """Explain one synthetic case as a picture; prints its sentences."""
    from itertools import islice

    from model.explain.picture import draw
    from model.inference.abstention import AbstentionPolicy
    from model.inference.predictor import Predictor
    from model.synthetic.emit import to_record
    from model.synthetic.generate import generate
    from model.synthetic.latents import Split

    predictor = Predictor(
        arguments.checkpoint, "cpu", policy=AbstentionPolicy(max_age_days=0)
    )
    size, index = predictor.image_size, arguments.index
    drawn = generate(index + 1, arguments.seed, "P0", size, Split.TEST)
    record = to_record(next(islice(drawn, index, None)))
    asked, explanation = predictor.ask(record), predictor.explain(record)
    draw(asked, explanation, arguments.out, attention=arguments.attention)
    if arguments.json:
        print(json.dumps(explanation.to_json(), indent=2))
        return 0
    for sentence in explanation.narrative:
        print(sentence.text)
    print(f"picture: {arguments.out}")
    return 0
