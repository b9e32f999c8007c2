"""``trivium-model films-trimodal`` and ``build-small``: fusion on real films.

Everything heavy is imported when a command runs, so that help is instant.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

Parser = argparse.ArgumentParser
Arguments = argparse.Namespace


def _add_shared(parser: Parser) -> None:
    parser.add_argument(
        "--films",
        type=Path,
        required=True,
        help="folder with labels.csv, boxes.csv and images",
    )
    parser.add_argument(
        "--encoder",
        type=Path,
        required=True,
        help="run folder of the film encoder, as 'films' writes it",
    )
    parser.add_argument("--seed", type=int, default=7, help="of cases and weights")
    parser.add_argument("--threads", type=int, default=1, help="of one process")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    parser.add_argument(
        "--json", action="store_true", help="print JSON instead of tables"
    )


def add_trimodal_options(parser: Parser) -> None:
    """Options of ``trivium-model films-trimodal``."""
    _add_shared(parser)
    parser.add_argument(
        "--bert",
        type=Path,
        help="folder of a text encoder; without it a small one learns from scratch",
    )
    parser.add_argument("--copies", type=int, default=2, help="cases per training film")
    parser.add_argument("--draws", type=int, default=1000, help="bootstrap resamples")
    parser.add_argument(
        "--markdown", type=Path, help="also write the report there, and its JSON beside"
    )
    parser.add_argument("--strict", action="store_true", help="exit 1 below the bar")


def trimodal(arguments: Arguments) -> int:
    """Train and score ``film-trimodal``; exit code 1 below the bar with --strict."""
    from model.films.film_model import load_run
    from model.films.film_trimodal import TrimodalSettings, film_trimodal
    from model.films.folder import read_film_folder
    from model.films.joint_training import JointSettings
    from model.films.trimodal_report import trimodal_page

    joint = JointSettings(
        seed=arguments.seed,
        threads=arguments.threads,
        progress=not arguments.quiet,
    )
    if arguments.bert is not None:
        joint = joint.for_bert()
    settings = TrimodalSettings(
        joint, arguments.copies, arguments.bert, arguments.draws
    )
    run = load_run(arguments.encoder)
    report = film_trimodal(read_film_folder(arguments.films), run, settings)
    page, data = trimodal_page(report), json.dumps(report, indent=2) + "\n"
    if arguments.markdown is not None:
        arguments.markdown.parent.mkdir(parents=True, exist_ok=True)
        arguments.markdown.write_text(page, encoding="utf-8")
        arguments.markdown.with_suffix(".json").write_text(data, encoding="utf-8")
    print(data if arguments.json else page, end="")
    return int(arguments.strict and not report["holds"])


def add_small_options(parser: Parser) -> None:
    """Options of ``trivium-model build-small``."""
    _add_shared(parser)
    parser.add_argument(
        "--bert", type=Path, required=True, help="folder of the text encoder"
    )
    parser.add_argument("--out", type=Path, required=True, help="checkpoint folder")
    parser.add_argument(
        "--markdown", type=Path, help="also write the film-trimodal report there"
    )
    parser.add_argument("--copies", type=int, default=2, help="cases per training film")
    parser.add_argument(
        "--drawn", type=int, default=1200, help="cases with a drawn film, for training"
    )
    parser.add_argument(
        "--strict",
        action="store_true",
        help="exit 1 when fusion is below the best pair on film-trimodal",
    )


def small(arguments: Arguments) -> int:
    """Build the small checkpoint; prints where it is and its figures."""
    from model.films.film_model import load_run
    from model.films.folder import read_film_folder
    from model.films.small_checkpoint import SmallSettings, build_small
    from model.films.trimodal_report import small_page

    plain = SmallSettings()
    joint = replace(
        plain.joint,
        seed=arguments.seed,
        threads=arguments.threads,
        progress=not arguments.quiet,
    )
    settings = replace(
        plain, joint=joint, copies=arguments.copies, drawn=arguments.drawn
    )
    built = build_small(
        read_film_folder(arguments.films),
        load_run(arguments.encoder),
        arguments.bert,
        settings,
    )
    digest = built.save(arguments.out)
    if arguments.markdown is not None:
        arguments.markdown.parent.mkdir(parents=True, exist_ok=True)
        arguments.markdown.write_text(small_page(built.record), encoding="utf-8")
    real = built.record["film_trimodal"]
    size = sum(file.stat().st_size for file in arguments.out.iterdir())
    figures = {
        "checkpoint": str(arguments.out),
        "sha256": digest,
        "bytes": size,
        "auroc": real["coalitions"]["I+T+V"]["auroc"],
        "best_pair": real["best_pair"],
        "fusion_minus_best_pair": real["fusion_minus"][real["best_pair"]],
        "holds": real["holds"],
        "seconds": built.record["seconds"],
    }
    if arguments.json:
        print(json.dumps(figures, indent=2))
    else:
        print("\n".join(f"{name}: {value}" for name, value in figures.items()))
    return int(arguments.strict and not real["holds"])
