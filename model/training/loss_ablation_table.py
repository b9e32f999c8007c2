"""The ablation of losses as text: a table for the terminal, a page for the docs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_COALITIONS = ("all", "image+text", "image+values", "text+values")


def table(report: Mapping[str, Any]) -> str:
    """Rows of fixed width, then the statements."""
    lines = [
        "losses                            "
        + "  ".join(
            f"{name:>18}" for name in ("AUROC all (95 %)", "minus reference", "rank")
        )
        + "   mass: film  words values"
    ]
    for row in report["rows"]:
        full = row["auroc"]["all"]
        change = full["minus_reference"]
        mass = "  ".join(f"{_short(part['with_it'])}" for part in row["mass"].values())
        lines.append(
            f"{row['losses']:<34}"
            f"{full['value']:.4f} ({full['low']:.3f}-{full['high']:.3f})"
            f"  {change['value']:+.4f} ({change['low']:+.4f} to {change['high']:+.4f})"
            f"  {row['retrieval']['mean_rank']:.3f}        {mass}"
        )
    lines += ["", *_said(report)]
    return "\n".join(lines)


def page(report: Mapping[str, Any], command: str) -> str:
    """A Markdown page with every figure, and the JSON it was made from.

    Args:
        report: From :func:`.loss_ablation.ablate_losses`.
        command: What prints it.
    """
    head = _opening(report, command)
    for row in report["rows"]:
        cells = [_auroc_cell(row["auroc"][name]) for name in _COALITIONS]
        head.append(f"| {row['losses']} | " + " | ".join(cells) + " |")
    head += [
        "",
        "## Retrieval and relevance",
        "",
        "Rank is the share of other patients ranked below the own one, mean over nine "
        "directions; .5 is chance. Without `con` it is that of the pooled states. Mass "
        "is the share of relevance on what was planted, for positive cases.",
        "",
        "| losses | rank | film mass | words mass | values mass | s |",
        "|---|---|---|---|---|---|",
    ]
    for row in report["rows"]:
        cells = [_mass_cell(part) for part in row["mass"].values()]
        head.append(
            f"| {row['losses']} | {row['retrieval']['mean_rank']:.3f} | "
            + " | ".join(cells)
            + f" | {row['seconds']:.0f} |"
        )
    return "\n".join(
        [
            *head,
            "",
            "## Statements",
            "",
            *(f"- {line}" for line in _said(report)),
            "",
            "## As printed by `--json`",
            "",
            "```json",
            json.dumps(report, indent=1),
            "```",
            "",
        ]
    )


def _opening(report: Mapping[str, Any], command: str) -> list[str]:
    """Title, what was run, and the head of the first table."""
    data = report["data"]
    return [
        "# What each loss brings",
        "",
        f"Written by `{command}` "
        f"({report['seconds']:.0f} s, {data['threads']} thread).",
        "",
        f"Synthetic set {data['parameters']}: "
        f"{data['cases']} training cases, "
        f"{data['held_out']} held-out cases for the guard, "
        f"{data['tested']} test cases, "
        f"seed {data['seed']}. All rows share the encoders of S1 and have the same "
        "budget in S3 and S4. Differences are to `cls,uni`, on the same test cases, "
        "with 95 % paired bootstrap intervals. One run per row: the interval is over "
        "cases, not over random starts.",
        "",
        "## Discrimination",
        "",
        "| losses | " + " | ".join(f"AUROC {name}" for name in _COALITIONS) + " |",
        "|---|" + "---|" * len(_COALITIONS),
    ]


def _said(report: Mapping[str, Any]) -> list[str]:
    guard = report["guard"]
    lines = [
        f"{name.replace('_', ' ')}: {row['value']:.4f} (target {row['target']}): "
        + ("holds" if row["holds"] else "DOES NOT HOLD")
        for name, row in report["statements"].items()
    ]
    film = guard["film_mass_of_unseen_patients"]
    rest = guard["mass_of_untrained_kinds"]
    return [
        *lines,
        f"explainability loss on held-out cases: {'ON' if guard['on'] else 'OFF'}, "
        f"{guard['reason']}; price {guard['auroc_cost']:+.4f} AUROC, film mass "
        f"{_gain(film)}, words and values {_gain(rest)}",
    ]


def _gain(part: Mapping[str, Any]) -> str:
    if not part["n"]:
        return "not measured"
    return (
        f"{part['without']:.3f} to {part['with_it']:.3f} "
        f"({part['low']:+.4f} to {part['high']:+.4f})"
    )


def _auroc_cell(cell: Mapping[str, Any]) -> str:
    change = cell["minus_reference"]
    return (
        f"{cell['value']:.4f} ({change['value']:+.4f}; "
        f"{change['low']:+.4f} to {change['high']:+.4f})"
    )


def _mass_cell(part: Mapping[str, Any]) -> str:
    if not part["n"]:
        return "-"
    return (
        f"{part['with_it']:.3f} ({part['difference']:+.3f}; "
        f"{part['low']:+.3f} to {part['high']:+.3f})"
    )


def _short(value: float | None) -> str:
    return "    -" if value is None else f"{value:5.3f}"
