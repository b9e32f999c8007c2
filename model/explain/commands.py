"""The subcommands ``explain-report`` and ``explain``: options in, lines out."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from model.settings import DEMO_CHECKPOINT

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
    parser.add_argument("--json", action="store_true", help="JSON instead of a table")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.add_argument("--strict", action="store_true", help="exit 1 below a target")


def report(arguments: Arguments) -> int:
    """Measure the explanations of a checkpoint; prints a table or JSON."""
    from model.explain.measures import explanation_report
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
        checkpoint, cases, seed=arguments.seed, progress=not arguments.quiet
    )
    print(json.dumps(found, indent=2) if arguments.json else report_table(found))
    held = all(row["holds"] is not False for row in found["figures"].values())
    return 0 if held or not arguments.strict else 1


def report_table(found: dict[str, Any]) -> str:
    """The report as lines: figure, value, target, whether it holds."""
    data, score = found["data"], found["explainability_score"]
    words = {True: "yes", False: "NO", None: ""}
    lines = [
        f"{found['model']['name']} {found['model']['version']}: {data['cases']} cases "
        f"of seed {data['seed']}, {data['refused']} refused, {data['called']} called "
        f"positive, {data['with_lesion']} of them with a lesion",
        "",
        f"{'figure':<28} {'value':>10}  {'target':<10} holds",
    ]
    for name, row in found["figures"].items():
        target = row["target"] or ""
        value = f"{row['value']:.2e}" if "error" in name else f"{row['value']:.4f}"
        lines.append(f"{name:<28} {value:>10}  {target:<10} {words[row['holds']]}")
    parts = ", ".join(f"{name} {part:.3f}" for name, part in score["parts"].items())
    lines += ["", f"Explainability Score {score['value']:.3f} ({parts})"]
    return "\n".join(lines)


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
    draw(asked, explanation, arguments.out)
    for sentence in explanation.narrative:
        print(sentence.text)
    print(f"picture: {arguments.out}")
    return 0
