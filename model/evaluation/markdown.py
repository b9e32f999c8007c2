"""The report as Markdown: every row with value, target and verdict."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from model.evaluation.report import rows_of, verdicts

SCORES = ("auroc", "auprc", "accuracy", "precision", "recall", "f1")
HEADINGS = ("AUROC", "AUPRC", "accuracy", "precision", "recall", "F1")


def number(value: float | None) -> str:
    """As short as it stays telling: whole numbers, four digits, or a power of ten."""
    if value is None:
        return "not measured"
    if value == int(value) and abs(value) < 1e6:
        return str(int(value))
    return f"{value:.4f}" if abs(value) >= 5e-4 else f"{value:.1e}"


def with_interval(row: Mapping[str, Any]) -> str:
    """Value and, where there is one, its 95 % interval."""
    shown = number(row["value"])
    if row["value"] is None or row["low"] is None or row["high"] is None:
        return shown
    return f"{shown} ({number(row['low'])} to {number(row['high'])})"


def verdict(row: Mapping[str, Any]) -> str:
    """One word on one row."""
    if row["value"] is None:
        return "not measured"
    if row["holds"] is None:
        return "reported"
    return "holds" if row["holds"] else "MISSED"


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; pipes inside cells are escaped."""
    lines = [_line(headings), _line(["---"] * len(headings))]
    return "\n".join([*lines, *(_line(row) for row in rows)])


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(str(c).replace("|", "\\|") for c in cells) + " |"


def section_table(section: Mapping[str, Any]) -> str:
    """The rows of one section."""
    cells = [
        (
            row["name"],
            with_interval(row),
            row["target"],
            verdict(row),
            str(row["n"] or ""),
            row["note"],
        )
        for row in section["rows"]
    ]
    return table(("measure", "value (95 %)", "target", "verdict", "n", "note"), cells)


def coalition_cells(report: Mapping[str, Any]) -> list[list[str]]:
    """Each coalition, then the exact posterior on the same cases."""
    found = []
    for name, row in report["table"].items():
        model = [
            (
                f"{interval['value']:.3f} ({interval['low']:.3f}\u2013"
                f"{interval['high']:.3f})"
                if (interval := row["intervals"][score])["value"] is not None
                else number(None)
            )
            for score in SCORES
        ]
        found.append([name, *model])
        found.append(
            [f"{name}, ceiling", *(f"{row['ceiling'][s]:.3f}" for s in SCORES)]
        )
    return found


def subgroup_cells(report: Mapping[str, Any]) -> list[list[str]]:
    """Each subgroup with its scores and its sensitivity."""
    return [
        [
            row["attribute"],
            row["group"],
            str(row["n"]),
            with_interval(row["auroc"]),
            number(row["ceiling"]),
            *(number(row["decided"][s]) for s in SCORES[2:]),
            with_interval(row["recall"]),
        ]
        for row in report["subgroups"]
    ]


SUBGROUP_HEADINGS = (
    "attribute", "group", "n", "AUROC (95 %)", "ceiling", *HEADINGS[2:],
    "sensitivity at the threshold (95 %)",
)  # fmt: skip


def headline(report: Mapping[str, Any]) -> str:
    """One sentence on how many targets hold."""
    count = verdicts(report)
    return (
        f"Targets: {count['hold']} hold, {count['missed']} missed. "
        f"Figures not measured: {count['not measured']}."
    )


def missed_lines(report: Mapping[str, Any]) -> list[str]:
    """The missed targets, one line each."""
    return [
        f"{row['name']}: {with_interval(row)}, target {row['target']}"
        for row in rows_of(report)
        if row["holds"] is False
    ]


def describe(report: Mapping[str, Any]) -> list[str]:
    """Which model on which cases."""
    model, data = report["model"], report["data"]
    return [
        f"Model: {model['name']} {model['version']}, preset {model['preset']}, "
        f"{model['parameters']:,} parameters, digest of the weights "
        f"{model['weights_sha256'][:16]}.",
        f"Trained on: {model['trained_on']}.",
        f"Cases: {data['cases']:,} {data['source']} ones, parameter set "
        f"{data['parameters']}, seed {data['seed']}, prevalence "
        f"{data['prevalence']:.3f}; shifts on {data['shifted']:,}, served one by one "
        f"{data['served']:,}, resampled {data['draws']:,} times.",
        f"Decision threshold: {data['threshold']:.4f}; precision, recall, F1 and "
        "accuracy of all tables are taken at one half.",
    ]


def to_markdown(report: Mapping[str, Any], pictures: Sequence[str] = ()) -> str:
    """The whole report.

    Args:
        report: As :func:`~model.evaluation.report.full_report` returns it.
        pictures: File names of plots that lie beside the text.
    """
    parts = ["# Evaluation report", *describe(report)]
    if report["command"]:
        parts.append(f"Printed by:\n\n    {report['command']}")
    parts += [f"**{headline(report)}**", *_missed(report)]
    parts += [
        "## Coalitions",
        table(("modalities", *HEADINGS), coalition_cells(report)),
        *(f"![{name.rpartition('.')[0]}]({name})" for name in pictures),
    ]
    for section in report["sections"]:
        parts += [f"## {section['title']}", section_table(section)]
        if section["title"] == "Fairness":
            parts.append(table(SUBGROUP_HEADINGS, subgroup_cells(report)))
    return "\n\n".join(parts) + "\n"


def _missed(report: Mapping[str, Any]) -> list[str]:
    lines = missed_lines(report)
    if not lines:
        return []
    return ["Missed:", "\n".join(f"- {line}" for line in lines)]
