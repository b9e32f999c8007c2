"""The subcommands ``compare`` and ``cases``: options in, functions called, lines out.

Everything heavy is imported when a command runs, so that help is instant.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Parser = argparse.ArgumentParser
Arguments = argparse.Namespace

SYNTHETIC = "synthetic"
KEPT = Path("build/comparison")


def add_compare_options(parser: Parser) -> None:
    """Options of ``trivium-model compare``."""
    parser.add_argument(
        "--data", choices=(SYNTHETIC,), default=SYNTHETIC, help="what to compare on"
    )
    parser.add_argument("--seeds", type=int, default=3, help="runs to average")
    parser.add_argument("--cases", type=int, default=10_000, help="training cases")
    parser.add_argument(
        "--held-out", type=int, default=8_000, help="cases for calibration"
    )
    parser.add_argument("--tested", type=int, default=10_000, help="tested cases")
    parser.add_argument(
        "--parameters", choices=("P0", "P1"), default="P0", help="generator parameters"
    )
    parser.add_argument("--threads", type=int, default=1, help="0: one per core")
    parser.add_argument(
        "--keep",
        type=Path,
        default=KEPT,
        metavar="FOLDER",
        help="where encoders and scores are kept, so that a run can go on",
    )
    parser.add_argument(
        "--fresh",
        action="store_true",
        help="train and score again what is kept (needed after a change of the code)",
    )
    parser.add_argument("--strict", action="store_true", help="exit 1 below a bar")
    _add_local_options(parser)
    _add_output_options(parser)


def _add_local_options(parser: Parser) -> None:
    """Encoders from this disk in the place of the preset's."""
    parser.add_argument(
        "--image-backbone", default="", metavar="NAME", help="timm architecture"
    )
    parser.add_argument(
        "--image-weights",
        default="",
        metavar="PATH",
        help="its safetensors file or folder on this disk",
    )
    parser.add_argument(
        "--image-size", type=int, default=0, help="side of its films; 0: the preset's"
    )
    parser.add_argument(
        "--text-folder",
        default="",
        metavar="FOLDER",
        help="BERT, ClinicalBERT or MegatronBERT folder with vocab.txt",
    )


def _add_output_options(parser: Parser) -> None:
    parser.add_argument("--json", action="store_true", help="JSON instead of tables")
    parser.add_argument(
        "--markdown", type=Path, metavar="FILE", help="also write the tables there"
    )
    parser.add_argument(
        "--draws", type=int, default=1_000, help="bootstrap draws of the intervals"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def compare(arguments: Arguments) -> int:
    """Compare the tri-modal model with the baselines; prints tables or JSON."""
    from model.baselines.compare import run_comparison
    from model.baselines.report import build_report
    from model.baselines.settings import CompareSettings
    from model.baselines.tables import comparison_intro, comparison_sections
    from model.training.local_encoders import LocalEncoders
    from model.training.train import TrainSettings

    settings = CompareSettings(
        seeds=arguments.seeds,
        cases=arguments.cases,
        held_out=arguments.held_out,
        tested=arguments.tested,
        parameters=arguments.parameters,
        draws=arguments.draws,
        train=TrainSettings(threads=arguments.threads),
        local=LocalEncoders(
            arguments.image_backbone,
            arguments.image_weights,
            arguments.image_size,
            text=arguments.text_folder,
        ),
    )
    results = run_comparison(
        settings,
        folder=arguments.keep,
        fresh=arguments.fresh,
        progress=not arguments.quiet,
    )
    report = build_report(settings, results)
    sections = comparison_sections(report)
    heading = "The tri-modal model beside its baselines"
    command = (
        f"trivium-model compare --seeds {arguments.seeds} --cases {arguments.cases} "
        f"--held-out {arguments.held_out} --tested {arguments.tested} "
        f"--parameters {arguments.parameters}{_local_words(arguments)} --markdown FILE"
    )
    _show(arguments, report, (heading, comparison_intro(report), command), sections)
    met = all(check["holds"] for check in report["checks"])
    return 0 if met or not arguments.strict else 1


def _local_words(arguments: Arguments) -> str:
    """The options on encoders, without the place of a file."""
    words = ""
    if arguments.image_backbone:
        words += f" --image-backbone {arguments.image_backbone}"
    if arguments.image_size:
        words += f" --image-size {arguments.image_size}"
    words += " --image-weights PATH" if arguments.image_weights else ""
    return words + (" --text-folder FOLDER" if arguments.text_folder else "")


def _show(
    arguments: Arguments,
    report: Mapping[str, Any],
    words: tuple[str, str, str],
    sections: Any,
) -> None:
    """JSON or tables on standard output, and the Markdown file where asked for.

    ``words`` are the heading, the introduction and the command of the page.
    """
    from model.baselines.tables import as_markdown, as_text

    heading, intro, command = words
    if arguments.json:
        print(json.dumps(report, indent=2))
    else:
        print(as_text(heading, intro, sections))
    if arguments.markdown:
        arguments.markdown.parent.mkdir(parents=True, exist_ok=True)
        arguments.markdown.write_text(
            as_markdown(heading, intro, sections, command), encoding="utf-8"
        )


def add_cases_options(parser: Parser) -> None:
    """Options of ``trivium-model cases``."""
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with cases.jsonl and images"
    )
    parser.add_argument(
        "--repeats", type=int, default=5, help="of the cross-validation"
    )
    parser.add_argument("--seed", type=int, default=7, help="of folds and weights")
    parser.add_argument("--threads", type=int, default=1, help="0: one per core")
    _add_output_options(parser)


def cases(arguments: Arguments) -> int:
    """Cross-validate on real cases beside shortcuts; prints tables or JSON."""
    from dataclasses import replace

    from model.baselines.case_study import CaseSettings, study_cases
    from model.baselines.case_tables import case_intro, case_sections
    from model.training.folder_study import FOLDER_SETTINGS

    recipe = replace(FOLDER_SETTINGS, seed=arguments.seed, threads=arguments.threads)
    report = study_cases(
        arguments.data,
        CaseSettings(repeats=arguments.repeats, draws=arguments.draws, train=recipe),
        progress=not arguments.quiet,
    )
    heading = "Real cases: the model beside baselines and shortcuts"
    command = (
        f"trivium-model cases --data {arguments.data.resolve().name} "
        f"--repeats {arguments.repeats} --seed {arguments.seed} --markdown FILE"
    )
    words = (heading, case_intro(report), command)
    _show(arguments, report, words, case_sections(report))
    return 0
