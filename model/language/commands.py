"""``trivium-model language``: text tasks on real text, from the command line.

Options in, functions called, lines out; heavy modules are imported when a command
runs, so that help is instant. A task is a row of :data:`TASKS`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from model.language import head_commands as heads
from model.language import note_commands as notes
from model.language.command_options import (
    BUILD,
    Arguments,
    Parser,
    add_bert,
    add_data,
    add_json,
    add_running,
    shown,
    use_threads,
)


def add_language_options(parser: Parser) -> None:
    """Options of ``trivium-model language`` and of its own subcommands."""
    parser.description = (
        "Text tasks: masked-word training of a small BERT, named entities, links "
        "between note and measured values, questions with options, extractive "
        "summaries. Each prints a table, or JSON with --json."
    )
    tasks = parser.add_subparsers(dest="task", required=True)
    for name, (summary, add_options, _) in TASKS.items():
        task = tasks.add_parser(
            name,
            help=summary,
            description=summary,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )
        add_options(task)


def language(arguments: Arguments) -> int:
    """Run one text task."""
    return TASKS[arguments.task][2](arguments)


def _pretrain_options(parser: Parser) -> None:
    add_data(parser)
    parser.add_argument("--out", type=Path, default=BUILD / "bert", help="BERT folder")
    parser.add_argument("--layers", type=int, default=6, help="of the encoder")
    parser.add_argument("--width", type=int, default=256, help="of a token's state")
    parser.add_argument("--heads", type=int, default=4, help="of attention")
    parser.add_argument("--feed-forward", type=int, default=1024, help="inner width")
    parser.add_argument("--pieces", type=int, default=8000, help="vocabulary")
    parser.add_argument("--length", type=int, default=128, help="pieces a sequence")
    parser.add_argument("--max-tokens", type=int, default=256, help="places")
    parser.add_argument("--batch", type=int, default=16, help="sequences a step")
    parser.add_argument("--steps", type=int, default=1500, help="of training")
    parser.add_argument("--measure-every", type=int, default=100, help="steps")
    parser.add_argument("--resume", action="store_true", help="go on in --out")
    add_running(parser)


def _pretrain(arguments: Arguments) -> int:
    """Learn a vocabulary, train on masked words; prints the held-out loss."""
    from model.language.corpora.pretraining import pretraining_text
    from model.language.masked_language import MaskedSettings, pretrain
    from model.language.report_tables import pretraining_lines

    use_threads(arguments)
    settings = MaskedSettings(
        layers=arguments.layers,
        width=arguments.width,
        heads=arguments.heads,
        feed_forward=arguments.feed_forward,
        pieces=arguments.pieces,
        max_tokens=arguments.max_tokens,
        length=arguments.length,
        batch=arguments.batch,
        steps=arguments.steps,
        seed=arguments.seed,
        measure_every=arguments.measure_every,
    )
    report = pretrain(
        pretraining_text(arguments.data),
        settings,
        arguments.out,
        resume=arguments.resume,
        progress=not arguments.quiet,
    )
    return shown(arguments, report, pretraining_lines(report))


def _export_options(parser: Parser) -> None:
    add_bert(parser)
    parser.add_argument(
        "--out", type=Path, default=BUILD / "bert-float16", help="new folder"
    )
    add_json(parser)


def _export(arguments: Arguments) -> int:
    """Write a BERT folder with its weights in half precision."""
    from model.language.bert_folder import export_half

    size = export_half(arguments.bert, arguments.out)
    told = f"{arguments.out}: {size / 1e6:.1f} MB"
    return shown(arguments, {"folder": str(arguments.out), "bytes": size}, [told])


def _report_options(parser: Parser) -> None:
    add_data(parser)
    parser.add_argument("--models", type=Path, default=BUILD, help="folder of the runs")
    parser.add_argument(
        "--markdown", type=Path, metavar="FILE", help="write the page and its picture"
    )
    add_running(parser)


def _report(arguments: Arguments) -> int:
    """Every text figure in one table; what was not run is said to be missing."""
    from model.language.report import markdown, text_report, write_page

    use_threads(arguments)
    report = text_report(arguments.data, arguments.models)
    if arguments.markdown:
        write_page(report, arguments.markdown)
    return shown(arguments, report, [markdown(report)])


TASKS: dict[str, tuple[str, Callable[[Parser], None], Callable[[Arguments], int]]] = {
    "pretrain": (
        "own vocabulary and masked-word training of a small BERT",
        _pretrain_options,
        _pretrain,
    ),
    "export": (
        "a BERT folder in half precision",
        _export_options,
        _export,
    ),
    "ner-train": (
        "fine-tune the head that names diseases, symptoms, medications, treatments",
        heads.add_ner_train_options,
        heads.ner_train,
    ),
    "ner-evaluate": (
        "entity-level exact-match F1 beside published figures",
        heads.add_ner_evaluate_options,
        heads.ner_evaluate,
    ),
    "choice-train": (
        "fine-tune the head that scores the options of a question",
        heads.add_choice_train_options,
        heads.choice_train,
    ),
    "choice-evaluate": (
        "accuracy on test questions beside baselines and published figures",
        heads.add_choice_evaluate_options,
        heads.choice_evaluate,
    ),
    "link": (
        "how well notes are linked to values and films whose links are planted",
        notes.add_link_options,
        notes.link_cases,
    ),
    "summary": (
        "the sentences of a note that say most, in its own words",
        notes.add_summary_options,
        notes.summary,
    ),
    "summary-evaluate": (
        "what summaries of synthetic notes keep of what was planted",
        notes.add_summary_evaluate_options,
        notes.summary_evaluate,
    ),
    "options": (
        "treatments or diagnoses scored for a note, as text, never as an order",
        notes.add_options_options,
        notes.options,
    ),
    "report": (
        "every text figure in one table",
        _report_options,
        _report,
    ),
}
