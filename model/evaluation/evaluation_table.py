"""The report of an evaluation as text for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def table(report: Mapping[str, Any]) -> str:
    """One row for each coalition, then the bars.

    Args:
        report: As :func:`~model.evaluation.evaluate.evaluate_synthetic` returns it.
    """
    data = report["data"]
    unstaged, against = report.get("unstaged"), report.get("against")
    lines = [
        f"{_named(report['model'])}, "
        f"{data['source']} {data['parameters']}, seed {data['seed']}",
        f"trained on: {report['model']['trained_on']}",
    ]
    if unstaged:
        lines.append(
            "scratch: AUROC after training end to end instead of in stages, on "
            f"{unstaged['cases']:,} cases, from the checkpoint's training.json (tested "
            f"on other cases, seed {unstaged['seeds']['validation']})"
        )
    if against:
        lines.append(f"other: AUROC minus that of {_named(against['model'])}")
    lines += ["", _heading(bool(unstaged), bool(against))]
    for name, row in report["coalitions"].items():
        line = (
            f"{name:<14}{row['n']:>6}{row['auroc']:>8.4f}{row['ceiling']:>9.4f}"
            f"{row['auroc'] - row['ceiling']:>+8.4f}{row['accuracy']:>7.3f}"
            f"{row['precision']:>7.3f}{row['recall']:>7.3f}{row['f1']:>7.3f}"
            f"{row['ece']:>7.3f}{row['brier']:>7.3f}"
        )
        if unstaged:
            line += f"{unstaged['coalitions'][name]['auroc']:>9.4f}"
        if against:
            line += f"{against['coalitions'][name]:>+9.4f}"
        lines.append(line)
    lines.append("")
    for name, bar in report["checks"].items():
        verdict = "met" if bar["passed"] else "NOT MET"
        lines.append(f"{name}: {bar['value']:+.4f} (bar {bar['limit']}) {verdict}")
    return "\n".join(lines)


def _named(model: Mapping[str, str]) -> str:
    """Name, version and the start of the digest."""
    return f"{model['name']} {model['version']} ({model['sha256'][:12]})"


def _heading(scratch: bool, other: bool) -> str:
    """Names of the columns."""
    heading = (
        f"{'coalition':<14}{'n':>6}{'AUROC':>8}{'ceiling':>9}{'gap':>8}"
        f"{'acc.':>7}{'prec.':>7}{'recall':>7}{'F1':>7}{'ECE':>7}{'Brier':>7}"
    )
    if scratch:
        heading += f"{'scratch':>9}"
    return heading + f"{'other':>9}" if other else heading
