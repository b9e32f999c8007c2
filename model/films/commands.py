"""``trivium-model films``: teach the encoder real films, and report what it reads.

Everything heavy is imported when a command runs, so that help is instant.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from model.films.film_model import FilmConfig, FilmRun
    from model.films.folder import FilmFolder
    from model.films.training_set import FilmSet

Parser = argparse.ArgumentParser
Arguments = argparse.Namespace

CACHE = Path("build/films/cache")


def add_films_options(parser: Parser) -> None:
    """Options of ``trivium-model films`` and of its steps."""
    parser.description = (
        "Teach the image encoder real films and report what it reads off films of "
        "other patients. masked and train write a run folder (--out); probe and report "
        "print a table, or JSON with --json."
    )
    steps = parser.add_subparsers(dest="step", required=True)
    form = argparse.ArgumentDefaultsHelpFormatter
    for name, summary, add in (
        ("masked", "self-supervised: paint hidden patches", _add_masked),
        ("train", "supervised: findings of every source", _add_train),
        ("probe", "what painting taught, beside random weights", _add_probe),
        ("report", "figures on test films, beside baselines", _add_report),
    ):
        step = steps.add_parser(
            name, help=summary, description=summary, formatter_class=form
        )
        step.add_argument(
            "--data", type=Path, required=True, help="folder with labels.csv and images"
        )
        step.add_argument("--quiet", action="store_true", help="no progress bars")
        step.add_argument("--threads", type=int, default=1, help="of one process")
        step.add_argument(
            "--cache", type=Path, default=CACHE, help="folder of decoded films"
        )
        add(step)


def _add_size(step: Parser) -> None:
    step.add_argument("--size", type=int, default=192, help="side of a film in pixels")
    step.add_argument(
        "--research-only",
        action="store_true",
        help="also sources under a research release; such weights must not be shipped",
    )


def _add_training(step: Parser, epochs: int) -> None:
    _add_size(step)
    step.add_argument("--out", type=Path, required=True, help="folder of the run")
    step.add_argument("--epochs", type=int, default=epochs, help="at most")
    step.add_argument("--seed", type=int, default=7, help="of weights and batches")


def _add_masked(step: Parser) -> None:
    _add_training(step, 8)
    step.add_argument("--films", type=int, default=3000, help="shown per epoch")


def _add_train(step: Parser) -> None:
    _add_training(step, 30)
    step.add_argument("--start", type=Path, help="run whose weights to begin with")
    step.add_argument(
        "--until", type=int, default=0, help="end after so many epochs of the schedule"
    )
    step.add_argument("--rate", type=float, default=2e-3, help="peak learning rate")
    step.add_argument("--patience", type=int, default=10, help="epochs without a gain")
    step.add_argument(
        "--share", type=float, default=0.3, help="of other sources' films per epoch"
    )
    step.add_argument(
        "--boxes", type=float, default=0.0, help="weight of the loss on training boxes"
    )
    step.add_argument(
        "--mirror", action="store_true", help="mirror every second training film"
    )
    step.add_argument(
        "--rendered", type=int, default=0, help="films of our generator to add"
    )
    step.add_argument(
        "--official", action="store_true", help="NIH films of the official train_val"
    )


def _add_probe(step: Parser) -> None:
    step.add_argument("--model", type=Path, required=True, help="run of step masked")
    step.add_argument("--random", type=int, default=3, help="random encoders beside")
    step.add_argument("--json", action="store_true", help="JSON instead of a line")
    step.add_argument("--out", type=Path, help="also write the JSON there")


def _add_report(step: Parser) -> None:
    step.add_argument("--model", type=Path, required=True, help="folder of the run")
    step.add_argument("--official", type=Path, help="run trained with --official")
    step.add_argument(
        "--beside",
        action="append",
        default=[],
        metavar="NAME=RUN[,RUN]",
        help="another run on the same films, or several averaged; may be repeated",
    )
    step.add_argument("--probe", type=Path, help="JSON of the step probe")
    step.add_argument("--draws", type=int, default=1000, help="bootstrap resamples")
    step.add_argument("--json", action="store_true", help="JSON instead of tables")
    step.add_argument(
        "--markdown", type=Path, help="also write the page, its JSON and its picture"
    )
    step.add_argument("--maps", type=Path, help="PNG of maps on real films to write")
    step.add_argument("--strict", action="store_true", help="exit 1 below a bar")


def films(arguments: Arguments) -> int:
    """Run one step; prints where the run is, or its figures."""
    steps = {
        "masked": _masked,
        "train": _train,
        "probe": _probe,
        "report": _report,
    }
    return steps[arguments.step](arguments)


def _config(arguments: Arguments) -> FilmConfig:
    """The network at the asked size, with a head for every source that it is shown."""
    from model.films.film_model import FilmConfig
    from model.films.folder import FOLDER_SOURCES, RENDERED

    config = FilmConfig(research_only=arguments.research_only)
    sources = FOLDER_SOURCES if arguments.research_only else config.sources
    if getattr(arguments, "rendered", 0):
        sources = (*sources, RENDERED)
    image = replace(config.image, size=arguments.size)
    return replace(config, image=image, sources=sources)


def _masked(arguments: Arguments) -> int:
    from model.films.film_model import save_run
    from model.films.folder import read_film_folder
    from model.films.masked import MaskedSettings, epochs_of, pretrain_masked
    from model.films.training_set import film_set

    folder, config = read_film_folder(arguments.data), _config(arguments)
    rows = folder.for_weights("train", research_only=arguments.research_only)
    progress = not arguments.quiet
    training = film_set(folder, rows, config, cache=arguments.cache, progress=progress)
    settings = MaskedSettings(
        epochs=arguments.epochs,
        films=arguments.films,
        seed=arguments.seed,
        threads=arguments.threads,
        progress=progress,
    )
    run = pretrain_masked(training.films, config, settings, state=arguments.out)
    save_run(arguments.out, run)
    print(f"run: {arguments.out}\npainting loss {epochs_of(run.record['losses'])}")
    return 0


def _train(arguments: Arguments) -> int:
    from model.films.film_model import load_run, save_run
    from model.films.folder import read_film_folder
    from model.films.pretrain import FilmSettings, pretrain

    config = _config(arguments)
    training, validation = _sets(read_film_folder(arguments.data), config, arguments)
    settings = FilmSettings(
        epochs=arguments.epochs,
        until=arguments.until,
        rate=arguments.rate,
        patience=arguments.patience,
        share=arguments.share,
        boxes=arguments.boxes,
        mirror=arguments.mirror,
        seed=arguments.seed,
        threads=arguments.threads,
        progress=not arguments.quiet,
    )
    start = load_run(arguments.start).model if arguments.start else None
    run = pretrain(
        training, validation, config, settings, start=start, state=arguments.out
    )
    save_run(arguments.out, run)
    print(
        f"run: {arguments.out}\nmean AUROC of the NIH findings on validation "
        f"patients {run.record['validation_auroc']:.4f}"
    )
    return 0


def _sets(
    folder: FilmFolder, config: FilmConfig, arguments: Arguments
) -> tuple[FilmSet, FilmSet]:
    """Training and validation films of one run."""
    from model.films.folder import KERMANY, NIH
    from model.films.parts import official_parts
    from model.films.rendered import joined, rendered_set
    from model.films.training_set import film_set

    rows = folder.for_weights("train", research_only=arguments.research_only)
    held_out = folder.select(NIH, "val")
    if arguments.official:
        parts = official_parts(folder)
        rows = (*parts.train, *folder.select(KERMANY, "train"))
        held_out = parts.val
    progress = not arguments.quiet
    training, validation = (
        film_set(folder, part, config, cache=arguments.cache, progress=progress)
        for part in (rows, held_out)
    )
    if arguments.rendered:
        extra = rendered_set(
            arguments.rendered,
            config,
            "train",
            seed=arguments.seed,
            cache=arguments.cache,
            progress=progress,
        )
        training = joined(training, extra)
    return training, validation


def _probe(arguments: Arguments) -> int:
    from model.films.film_model import load_run
    from model.films.folder import NIH, read_film_folder
    from model.films.masked import probe_report
    from model.films.training_set import film_set

    folder, run = read_film_folder(arguments.data), load_run(arguments.model)
    training, tested = (
        film_set(
            folder,
            folder.select(NIH, split),
            run.model.config,
            cache=arguments.cache,
            progress=not arguments.quiet,
        )
        for split in ("train", "test")
    )
    report = probe_report(run, training, tested, random=arguments.random)
    text = json.dumps(report, indent=2)
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(text + "\n", encoding="utf-8")
    random = ", ".join(f"{x:.4f}" for x in report["random"])
    line = f"linear probe {report['masked']:.4f}; random weights {random}"
    print(text if arguments.json else line)
    return 0


def _report(arguments: Arguments) -> int:
    import torch

    from model.films.film_model import load_run
    from model.films.folder import read_film_folder
    from model.films.map_picture import draw_maps
    from model.films.report import film_report
    from model.films.report_page import write_markdown
    from model.films.report_text import bars_hold, read_probe, tables

    torch.set_num_threads(max(1, arguments.threads))
    folder, run = read_film_folder(arguments.data), load_run(arguments.model)
    report = film_report(
        folder,
        run,
        official=load_run(arguments.official) if arguments.official else None,
        variants=_variants(arguments.beside),
        draws=arguments.draws,
    )
    report["probe"] = read_probe(arguments.probe) if arguments.probe else None
    if arguments.markdown:
        write_markdown(arguments.markdown, report)
    if arguments.maps:
        draw_maps(arguments.maps, folder, run)
    print(json.dumps(report, indent=2) if arguments.json else tables(report))
    return 1 if arguments.strict and not bars_hold(report) else 0


def _variants(named: list[str]) -> dict[str, list[FilmRun]]:
    """Runs to set beside the model, by the names given to them."""
    from model.errors import ConfigurationError
    from model.films.film_model import load_run

    found: dict[str, list[FilmRun]] = {}
    for pair in named:
        name, equals, paths = pair.partition("=")
        if not equals:
            raise ConfigurationError("--beside takes NAME=RUN")
        found[name] = [load_run(Path(path)) for path in paths.split(",")]
    return found
