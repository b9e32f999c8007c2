"""The ablation of losses as text: a table for the terminal, a page for the docs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_COALITIONS = ("all", "image+text", "image+values", "text+values")
_DECIDED = ("accuracy", "precision", "recall", "f1")


def table(report: Mapping[str, Any]) -> str:
    """Rows of fixed width, then the statements."""
    lines = [
        f"{'losses':<34}{'AUROC all (95 %)':<22}{'minus reference':<29}"
        f"{'acc.':<7}{'prec.':<7}{'rec.':<7}{'F1':<7}{'rank':<7}"
        "mass: film, words, values"
    ]
    for row in report["rows"]:
        full = row["auroc"]["all"]
        change = full["minus_reference"]
        decided = "".join(f"{_four(row[name]['value']):<7}" for name in _DECIDED)
        mass = "  ".join(f"{_short(part['with_it'])}" for part in row["mass"].values())
        lines.append(
            f"{row['losses']:<34}"
            f"{full['value']:.4f} ({full['low']:.3f}-{full['high']:.3f})  "
            f"{change['value']:+.4f} ({change['low']:+.4f} to {change['high']:+.4f})   "
            f"{decided}{row['retrieval']['mean_rank']:<7.3f}{mass}"
        )
    lines += ["", *_said(report)]
    return "\n".join(lines)


def page(report: Mapping[str, Any], command: str) -> str:
    """A Markdown page with every figure.

    Args:
        report: From :func:`.loss_ablation.ablate_losses`.
        command: What prints it.
    """
    lines = [*_opening(report, command), "", "## Discrimination", ""]
    lines += _head(["losses", *(f"AUROC {name}" for name in _COALITIONS)])
    for row in report["rows"]:
        cells = [_changed(row["auroc"][name]) for name in _COALITIONS]
        lines.append(_line([row["losses"], *cells]))
    lines += ["", "At a calibrated probability of one half, everything present:", ""]
    lines += _head(["losses", "AUROC", "accuracy", "precision", "recall", "F1"])
    for row in report["rows"]:
        cells = [_with_interval(row["auroc"]["all"])]
        cells += [_with_interval(row[name]) for name in _DECIDED]
        lines.append(_line([row["losses"], *cells]))
    lines += _retrieval_and_relevance(report)
    lines += ["", "## Statements", "", *(f"- {line}" for line in _said(report))]
    lines += ["", "The same as `--json` prints it lies beside this page.", ""]
    return "\n".join(lines)


def _opening(report: Mapping[str, Any], command: str) -> list[str]:
    """Title, and what was run."""
    data = report["data"]
    seeds = ", ".join(str(seed) for seed in data["seeds"])
    count = len(data["seeds"])
    return [
        "# What each loss brings",
        "",
        f"Written by `{command}` "
        f"({report['seconds']:.0f} s, {data['threads']} thread).",
        "",
        f"Synthetic set {data['parameters']}: {data['cases']:,} training cases, "
        f"{data['held_out']:,} held-out cases for the guard, {data['tested']:,} test "
        f"cases; random starts with the seeds {seeds}. All rows of a start share the "
        "encoders of S1 and have the same budget in S3 and S4. A figure is the mean "
        f"over {count} start{'s' if count > 1 else ''}; differences are to `cls,uni` "
        "on the same test cases, with 95 % bootstrap intervals over cases, not over "
        "random starts.",
        "",
        "`cls` classification, `con` contrastive alignment, `exp` explainability, "
        "`uni` heads of single modalities.",
    ]


def _retrieval_and_relevance(report: Mapping[str, Any]) -> list[str]:
    lines = [
        "",
        "## Retrieval and relevance",
        "",
        "Rank is the share of other patients ranked below the own one, mean over nine "
        "directions; .5 is chance. Without `con` it is that of the pooled states. Mass "
        "is the share of relevance on what was planted, for positive cases; the "
        "difference is to `cls,uni`. Film masks are trained on with `exp` (those of "
        "other patients); masks of words and values are not.",
        "",
    ]
    names = ["losses", "rank", "film mass", "words mass", "values mass", "seconds"]
    lines += _head(names)
    for row in report["rows"]:
        cells = [_mass_cell(part) for part in row["mass"].values()]
        rank = f"{row['retrieval']['mean_rank']:.3f}"
        lines.append(_line([row["losses"], rank, *cells, f"{row['seconds']:.0f}"]))
    return lines


def _said(report: Mapping[str, Any]) -> list[str]:
    lines = [
        f"{name.replace('_', ' ')}: {row['value']:.4f} (target {row['target']}): "
        + ("holds" if row["holds"] else "DOES NOT HOLD")
        for name, row in report["statements"].items()
    ]
    for start in report["guard"]["starts"]:
        film = start["film_mass_of_unseen_patients"]
        rest = start["mass_of_untrained_kinds"]
        lines.append(
            f"explainability loss on held-out cases, seed {start['seed']}: "
            f"{'ON' if start['on'] else 'OFF'}, {start['reason']}; price "
            f"{start['auroc_cost']:+.4f} AUROC, film mass {_gain(film)}, words and "
            f"values {_gain(rest)}"
        )
    verdict = "ON: it pays" if report["guard"]["on"] else "OFF: it does not pay"
    return [*lines, f"decision from all starts: {verdict}"]


def _gain(part: Mapping[str, Any]) -> str:
    if not part["n"]:
        return "not measured"
    return (
        f"{part['without']:.3f} to {part['with_it']:.3f} "
        f"({part['low']:+.4f} to {part['high']:+.4f})"
    )


def _head(names: list[str]) -> list[str]:
    return [_line(names), _line(["---"] * len(names))]


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _changed(cell: Mapping[str, Any]) -> str:
    change = cell["minus_reference"]
    return (
        f"{cell['value']:.4f} ({change['value']:+.4f}; "
        f"{change['low']:+.4f} to {change['high']:+.4f})"
    )


def _with_interval(cell: Mapping[str, Any]) -> str:
    if cell["value"] is None:
        return "-"
    return f"{cell['value']:.4f} ({cell['low']:.3f} to {cell['high']:.3f})"


def _mass_cell(part: Mapping[str, Any]) -> str:
    if not part["n"]:
        return "-"
    return (
        f"{part['with_it']:.3f} ({part['difference']:+.3f}; "
        f"{part['low']:+.3f} to {part['high']:+.3f})"
    )


def _short(value: float | None) -> str:
    return "    -" if value is None else f"{value:5.3f}"


def _four(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
