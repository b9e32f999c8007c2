"""The report on real films: every finding beside what needs no encoder, per source.

Sources are never mixed: each has its own rows, its own baselines and its own head.
The bar is the mean AUROC of the NIH findings with at least 20 test positives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from model.errors import ConfigurationError
from model.evaluation.resampling import DRAWS
from model.films.baselines import person_table, pixel_table, read_off, rim
from model.films.beside import pointing, variant
from model.films.film_model import FilmRun
from model.films.folder import (
    FOLDER_SOURCES,
    MONTGOMERY,
    NIH,
    QUESTIONS,
    RENDERED,
    SHENZHEN,
    FilmFolder,
    answers,
)
from model.films.masked import features
from model.films.parts import Parts, official_parts, parts_of
from model.films.pixels import film_bytes
from model.films.pointing import lung_share
from model.films.pretrain import predict
from model.films.rendered import rendered_set
from model.films.scoring import (
    Floats,
    Scored,
    best_threshold,
    counted,
    film_auroc,
    finding_row,
    mean_auroc,
    mean_decisions,
    mean_row,
    patients_of,
    plain,
    within,
)

BAR, GOAL = 0.05, 0.10
#: Rendered films of the generator's test namespace that are scored.
RENDERED_FILMS = 400

#: Test and validation logits of the same reader.
Pair = tuple[Floats, Floats]


def source_report(
    folder: FilmFolder, run: FilmRun, parts: Parts, draws: int = DRAWS
) -> dict[str, Any]:
    """Figures of one source on its test films, beside its baselines; plain JSON.

    Args:
        folder: The films.
        run: Reads with its own head where it has one, else through a logistic
            regression on frozen features (fitted here and thrown away).
        parts: The films.
        draws: Resamples of patients.

    Raises:
        ConfigurationError: no films to train or to test on.
    """
    if not parts.train or not parts.test:
        raise ConfigurationError(f"no films of {parts.source} to report on")
    questions = QUESTIONS[parts.source]
    truth = answers(parts.train, parts.source)
    own_head = parts.source in run.model.config.sources
    ours = _scored(parts, _model_logits(folder, run, parts, truth, own_head))
    others = {
        name: _scored(parts, pair)
        for name, pair in _baselines(folder, parts, truth).items()
    }
    tested, validation = ours
    rows = {}
    for number, name in enumerate(questions):
        asked = tested.column(number)[1]
        if not 0 < asked.sum() < len(asked):
            continue
        level = best_threshold(validation, number) if len(parts.val) else 0.5
        rows[name] = finding_row(tested, number, level, draws) | {
            "train_positives": int(np.nansum(truth[:, number])),
            "baselines": {
                other: plain(
                    film_auroc(scored.logits[:, number], scored.truth[:, number])
                )
                for other, (scored, _) in others.items()
            },
        }
    report: dict[str, Any] = {
        "films": {"train": len(parts.train), "test": len(parts.test)},
        "test_patients": int(tested.patients.max()) + 1,
        "read_by": "own head" if own_head else "logistic regression on features",
        "findings": rows,
    }
    chosen = counted(tested.truth, questions)
    if len(chosen) > 1:
        report["mean"] = _mean(
            {"encoder": ours} | others, chosen, [questions[q] for q in chosen], draws
        )
    carriers = [row.carrier for row in parts.test]
    if len(set(carriers)) > 1 and chosen:
        report["carrier"] = _carrier(
            tested, others["pixels"][0], chosen, carriers, parts
        )
    return report


def _scored(parts: Parts, pair: Pair) -> tuple[Scored, Scored]:
    """Test and validation logits with their answers and patients."""
    test, val = (
        Scored(logits, answers(rows, parts.source), patients_of(rows))
        for logits, rows in zip(pair, (parts.test, parts.val))
    )
    return test, val


def _model_logits(
    folder: FilmFolder, run: FilmRun, parts: Parts, truth: Floats, own_head: bool
) -> Pair:
    """Logits of the test and of the validation films."""
    size = run.model.config.image.size
    films = [
        film_bytes(folder, rows, size, progress=False)
        for rows in (parts.test, parts.val)
    ]
    if own_head:
        first, second = (predict(run.model, f, parts.source) for f in films)
        return first, second
    training = film_bytes(folder, parts.train, size, progress=False)
    tables = [features(run.model, f).astype(np.float64) for f in (training, *films)]
    middle, spread = tables[0].mean(0), tables[0].std(0) + 1e-6
    tables = [(t - middle) / spread for t in tables]
    first, second = read_off(tables[0], truth, tables[1:])
    return first, second


def _baselines(folder: FilmFolder, parts: Parts, truth: Floats) -> dict[str, Pair]:
    """Logits by pixels, rim, and person where anything is known."""
    sides = (parts.train, parts.test, parts.val)
    pixels = [pixel_table(folder, rows) for rows in sides]
    tables = {"pixels": pixels, "rim": [rim(table) for table in pixels]}
    person = [person_table(rows) for rows in sides]
    if person[0].any():
        tables["person"] = person
    found = {}
    for name, (training, *tested) in tables.items():
        test, val = read_off(training, truth, tested)
        found[name] = (test, val)
    return found


def _mean(
    readers: Mapping[str, tuple[Scored, Scored]],
    chosen: Sequence[int],
    names: list[str],
    draws: int,
) -> dict[str, Any]:
    """Means of the findings for the encoder and its baselines, and the bar."""
    ours, pixels, border = (readers[n][0] for n in ("encoder", "pixels", "rim"))
    ahead = mean_row(ours, chosen, pixels, draws)
    return {
        "findings": names,
        "auroc": mean_row(ours, chosen, draws=draws).to_json(),
        "readers": {
            name: {
                "auroc": mean_row(scored, chosen, draws=draws).to_json(),
                **mean_decisions(scored, validation, chosen),
            }
            for name, (scored, validation) in readers.items()
        },
        "ahead_of_pixels": ahead.to_json(),
        "ahead_of_rim": mean_row(ours, chosen, border, draws).to_json(),
        "bar": BAR,
        "holds": bool(ahead.value >= BAR),
        "goal": GOAL,
        "goal_reached": bool(ahead.value >= GOAL),
    }


def _carrier(
    ours: Scored,
    pixels: Scored,
    chosen: Sequence[int],
    carriers: Sequence[str],
    parts: Parts,
) -> dict[str, Any]:
    """Is the carrier's repository used: films compared within their carrier only.

    ``alone`` scores a film by the share of positives that its carrier has in training:
    what knowing nothing but the carrier gives.
    """
    known = [row.carrier for row in parts.train]
    truth = answers(parts.train, parts.source)
    alone = np.zeros_like(ours.truth)
    for carrier in set(carriers):
        own = np.array([k == carrier for k in known])
        share = truth[own].mean(0) if own.any() else truth.mean(0)
        alone[np.array([c == carrier for c in carriers])] = share
    everywhere = ["all"] * len(carriers)
    return {
        "carriers": len(set(carriers)),
        "alone": plain(
            within(Scored(alone, ours.truth, ours.patients), chosen, everywhere)
        ),
        "model": plain(within(ours, chosen, everywhere)),
        "model_within": plain(within(ours, chosen, carriers)),
        "pixels": plain(within(pixels, chosen, everywhere)),
        "pixels_within": plain(within(pixels, chosen, carriers)),
    }


def film_report(
    folder: FilmFolder,
    run: FilmRun,
    *,
    official: FilmRun | None = None,
    variants: Mapping[str, Sequence[FilmRun]] | None = None,
    draws: int = DRAWS,
) -> dict[str, Any]:
    """Everything that is measured on real films; plain JSON.

    Args:
        folder: The films.
        run: The model that is reported.
        official: A model of :func:`official_parts`; None says so in the report.
        variants: Runs to set beside it; several runs under one name are read together
            (the mean of their logits), their maps are not drawn.
        draws: Resamples of patients.
    """
    sources = [s for s in FOLDER_SOURCES if folder.select(s, "test")]
    report: dict[str, Any] = {
        "training": _training(folder, run),
        "sources": {
            source: source_report(folder, run, parts_of(folder, source), draws)
            for source in sources
            if folder.select(source, "train")
        },
        "research_only": [s for s in (MONTGOMERY, SHENZHEN) if s in sources],
        "rendered": _rendered(run),
        "pointing": pointing(run, folder, draws),
        "lungs": lung_share(run.model, folder),
        "official": None,
    }
    if official is not None:
        report["official"] = source_report(
            folder, official, official_parts(folder), draws
        )
    rows = {"this encoder": [run], **(variants or {})}
    report["variants"] = {
        name: variant(folder, others, draws) for name, others in rows.items()
    }
    return report


def _training(folder: FilmFolder, run: FilmRun) -> dict[str, Any]:
    """What the run says of itself, and what it reads off films that it was taught."""
    record = {k: v for k, v in run.record.items() if k != "history"}
    rows = folder.select(NIH, "train")
    taught = None
    if NIH in run.model.config.sources and rows:
        size = run.model.config.image.size
        films = film_bytes(folder, rows, size, progress=False)
        logits = predict(run.model, films, NIH)
        taught = plain(mean_auroc(logits, answers(rows, NIH), without_none=True))
    return record | {
        "parameters": sum(p.numel() for p in run.model.parameters()),
        "network": run.model.config.to_json(),
        "curve": list(run.record.get("history", ())),
        "auroc_on_training_films": taught,
    }


def _rendered(run: FilmRun) -> dict[str, Any] | None:
    """AUROC of the generator's questions on its test films; None without their head."""
    if RENDERED not in run.model.config.sources:
        return None
    tested = rendered_set(RENDERED_FILMS, run.model.config, "test", progress=False)
    logits = predict(run.model, tested.films, RENDERED)
    truth = tested.targets[run.model.place(RENDERED)]
    return {
        "films": len(tested),
        "auroc": {
            question: plain(film_auroc(logits[:, number], truth[:, number]))
            for number, question in enumerate(QUESTIONS[RENDERED])
        },
    }
