"""The film report as tables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from model.errors import ConfigurationError

Figures = Mapping[str, Any]

_DECISIONS = ("AUPRC", "accuracy", "precision", "recall", "F1")


def tables(report: Figures) -> str:
    """The whole report as Markdown tables, which read well in a terminal too."""
    parts = [_training(report["training"])]
    for source, found in report["sources"].items():
        parts.append(_source(f"## {source}", found))
    parts.append(_official(report.get("official")))
    parts.append(_rendered(report.get("rendered")))
    parts.append(_pointing(report))
    parts.append(_variants(report.get("variants") or {}))
    parts.append(_probe(report.get("probe")))
    return "\n\n".join(part for part in parts if part)


def read_probe(path: Path) -> dict[str, Any]:
    """The JSON that the step ``probe`` wrote.

    Raises:
        ConfigurationError: unreadable, or another report.
    """
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path.name} is no report") from error
    if not {"masked", "random", "losses", "size"} <= found.keys():
        raise ConfigurationError(f"{path.name} is no report of the step probe")
    return found


def bars_hold(report: Figures) -> bool:
    """Whether everything that has a bar and was measured reaches it."""
    held = [f["mean"]["holds"] for f in report["sources"].values() if "mean" in f]
    held.append(report["pointing"].get("holds", True))
    if report.get("probe"):
        held.append(report["probe"]["holds"])
    return all(held)


def _training(record: Figures) -> str:
    network = record["network"]
    size, name = network["image"]["size"], network["image"]["backbone"]
    seen = " and ".join(network["sources"])
    research = network["research_only"]
    best = record.get("validation_auroc")
    return (
        f"Encoder: {name or 'vision transformer'} at {size} x {size} pixels, "
        f"{record['parameters'] / 1e6:.2f} million parameters, taught on {seen}"
        f"{', and on research-only films: not to be shipped' if research else ''}. "
        f"Mean AUROC on validation patients {_number(best)}."
    )


def _source(title: str, found: Figures) -> str:
    films = found["films"]
    head = (
        f"{title}\n\n{films['train']} training films, {films['test']} test films of "
        f"{found['test_patients']} patients; read by: {found['read_by']}."
    )
    rows = [
        [
            name,
            f"{row['train_positives']} / {row['positives']}",
            _interval(row["auroc"]),
            *(_number(row["baselines"].get(b)) for b in ("pixels", "rim", "person")),
            _interval(row["auprc"]),
            *_decisions({**row, "auprc": None})[1:],
        ]
        for name, row in found["findings"].items()
    ]
    columns = (
        "finding",
        "positives train / test",
        "AUROC",
        "pixels",
        "rim",
        "person",
        *_DECISIONS,
    )
    parts = [head, _table(columns, rows)]
    if "mean" in found:
        parts.append(_mean(found["mean"]))
    if "carrier" in found:
        parts.append(_carrier(found["carrier"]))
    return "\n\n".join(parts)


def _mean(mean: Figures) -> str:
    rows = [
        [name, _interval(row["auroc"]), *_decisions(row)]
        for name, row in mean["readers"].items()
    ]
    verdict = (
        f"Ahead of pixels by **{_interval(mean['ahead_of_pixels'])}**, of the rim by "
        f"{_interval(mean['ahead_of_rim'])} (paired). Bar {mean['bar']:.2f}: "
        f"{_holds(mean['holds'])}; goal {mean['goal']:.2f}: "
        f"{'reached' if mean['goal_reached'] else 'not reached'}."
    )
    title = (
        f"Mean of the {len(mean['findings'])} findings with at least 20 test positives:"
    )
    return "\n\n".join([title, _table(("reader", "AUROC", *_DECISIONS), rows), verdict])


def _decisions(row: Figures) -> list[str]:
    scores = ("auprc", "accuracy", "precision", "recall", "f1")
    return [_number(row[score]) for score in scores]


def _carrier(found: Figures) -> str:
    return (
        f"Carrier shortcut ({found['carriers']} repositories): knowing the carrier "
        f"alone gives {_number(found['alone'])}. Comparing films within their carrier "
        f"only, the model has {_number(found['model_within'])} (all films "
        f"{_number(found['model'])}), pixels {_number(found['pixels_within'])} (all "
        f"films {_number(found['pixels'])})."
    )


def _official(found: Figures | None) -> str:
    title = "## Official NIH split: trained on train_val, tested on test"
    if found is None:
        return f"{title}\n\nNot run: no model trained on its train_val part was given."
    return _source(title, found)


def _rendered(found: Figures | None) -> str:
    if found is None:
        return ""
    figures = ", ".join(f"{n} {_number(x)}" for n, x in found["auroc"].items())
    return (
        f"## Rendered films of our own generator\n\nAUROC of its own head on "
        f"{found['films']} test films: {figures}. Not an estimate of anything clinical."
    )


def _probe(found: Figures | None) -> str:
    title = "## Self-supervised: painting hidden patches"
    if found is None:
        return f"{title}\n\nNot run."
    random = ", ".join(_number(x) for x in found["random"])
    losses = ", ".join(_number(x) for x in found["losses"])
    return (
        f"{title}\n\nAt {found['size']} x {found['size']} pixels, labels never read; "
        f"loss by epoch {losses}. Mean AUROC of the NIH findings by a logistic "
        f"regression on frozen features: **{_number(found['masked'])}**; on the same "
        f"network with random weights {random}. Better than random weights: "
        f"{_holds(found['holds'])}."
    )


def _pointing(report: Figures) -> str:
    found, lungs = report["pointing"], report["lungs"]
    if not found["n"]:
        return "## Pointing game\n\nNo boxed test films."
    rows = [
        ["strongest patch of the map", _interval(found["hit"])],
        [
            "share of the box in the mean training lung",
            _number(found.get("lung_share")),
        ],
        ["share of the box in the whole film", _number(found["whole_image"])],
        [
            "point of the film that most training boxes hold",
            _number(found["most_boxed_point"]),
        ],
    ]
    for side, rate in found.get("centre_of_lung", {}).items():
        rows.append([f"centre of the lung, {side.replace('_', ' ')}", _number(rate)])
    per = [
        [
            label,
            str(row["n"]),
            _number(row["hit"]),
            _number(row["lung_share"]),
            _number(row["whole_image"]),
        ]
        for label, row in found["per_finding"].items()
    ]
    text = [
        f"## Pointing game\n\n{found['n']} boxed findings of {found['patients']} test "
        "patients; a hit is a strongest patch whose centre lies in a box.",
        _table(("what points", "hit rate"), rows),
        f"Ratio to the lungs' share {_number(found.get('ratio'))}, bar "
        f"{found['bar']}: {_holds(found['holds'])}.",
        _table(("finding", "n", "hit", "lung share", "whole film"), per),
    ]
    if lungs["n"]:
        text.append(
            f"Montgomery ({lungs['n']} test films, none seen in training): "
            f"{_number(lungs['mass_in_lung'])} of the map's mass and "
            f"{_number(lungs['peak_in_lung'])} of its peaks lie in the lungs, which "
            f"cover {_number(lungs['lung_area'])} of the film; {lungs['blank']} blank."
        )
    return "\n\n".join(text)


def _variants(found: Mapping[str, Figures]) -> str:
    rows, maps = [], []
    for name, other in found.items():
        for kind, words in (("one_view", "one view"), ("views", "three views")):
            row = other[kind]
            if row is not None:
                figures = [_number(row["validation_auroc"]), _interval(row["auroc"])]
                rows.append([name, words, *figures, *_decisions(row)])
        if "pointing" in other and other["pointing"]["n"]:
            ratio = _number(other["pointing"].get("ratio"))
            hit = _interval(other["pointing"]["hit"])
            inside = [
                _number(other["lungs"].get(k)) for k in ("mass_in_lung", "peak_in_lung")
            ]
            maps.append([name, hit, ratio, *inside])
    columns = ("run", "read with", "validation AUROC", "test AUROC", *_DECISIONS)
    pointed = (
        "run",
        "pointing hit",
        "ratio to lungs",
        "mass in lungs",
        "peak in lungs",
    )
    parts = [
        "## With and without",
        "Means of the same NIH findings on the same test films. Runs are chosen on the "
        "validation patients, never on these.",
        _table(columns, rows) if rows else "",
        _table(pointed, maps) if maps else "",
    ]
    return "\n\n".join(part for part in parts if part) if rows or maps else ""


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _interval(found: Figures) -> str:
    if found["value"] is None:
        return "-"
    value, low, high = (_number(found[name]) for name in ("value", "low", "high"))
    return f"{value} ({low} to {high})"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _holds(held: bool) -> str:
    return "holds" if held else "DOES NOT HOLD"
