"""The report of explanations as lines for a terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: A document may hold the report between these two lines, and prose around them.
OPENING, CLOSING = "<!-- figures -->", "<!-- /figures -->"

_HOLDS = {True: "yes", False: "NO", None: ""}
_HEADINGS = ("figure", "value", "95 % interval", "n", "target", "holds", "note")


def report_table(found: Mapping[str, Any]) -> str:
    """The report as lines: figure, value, interval, target, whether it holds."""
    lines = [
        headline(found),
        "",
        f"{'figure':<34} {'value':>10}  {'95 % interval':<18}",
    ]
    lines[-1] += f" {'target':<9} holds"
    for name, row in found["figures"].items():
        cells = f"{name:<34} {number(name, row['value']):>10}  {interval(row):<18}"
        note = f"  {row['note']}" if row.get("note") else ""
        verdict = f"{row['target'] or '':<9} {_HOLDS[row['holds']]}{note}"
        lines.append(f"{cells} {verdict}".rstrip())
    return "\n".join(
        [*lines, "", *(f"ALERT: {a}" for a in found["alerts"]), ending(found)]
    )


def report_markdown(found: Mapping[str, Any], command: str) -> str:
    """The report as Markdown, with the command that prints it.

    Args:
        found: As ``explanation_report`` returns it.
        command: What was typed.
    """
    rows = [
        (
            name.replace("_", " "),
            number(name, row["value"]),
            interval(row),
            str(row["n"] or ""),
            row["target"] or "",
            _HOLDS[row["holds"]],
            row.get("note", ""),
        )
        for name, row in found["figures"].items()
    ]
    table = [_HEADINGS, ("---",) * len(_HEADINGS), *rows]
    alerts = [f"**ALERT**: {alert}" for alert in found["alerts"]]
    parts = [
        f"Printed by:\n\n    {command}",
        headline(found) + ".",
        "\n".join("| " + " | ".join(cells) + " |" for cells in table),
        *alerts,
        ending(found) + ".",
    ]
    return "\n\n".join(parts) + "\n"


def write_markdown(text: str, path: Path) -> None:
    """Write the Markdown of a report, or put it between the marks of a document.

    Args:
        text: From :func:`report_markdown`.
        path: A new file, or a document with OPENING and CLOSING lines.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    old = path.read_text(encoding="utf-8") if path.exists() else ""
    before, opened, rest = old.partition(OPENING)
    _, closed, after = rest.partition(CLOSING)
    if opened and closed:
        text = f"{before}{OPENING}\n\n{text}\n{CLOSING}{after}"
    path.write_text(text, encoding="utf-8")


def headline(found: Mapping[str, Any]) -> str:
    """Which model, and how many cases of which seed."""
    data, model = found["data"], found["model"]
    return (
        f"{model['name']} {model['version']} (sha256 {model['sha256'][:12]}): "
        f"{data['cases']} cases of seed {data['seed']}, {data['refused']} refused, "
        f"{data['called']} called positive, {data['with_lesion']} of them with a lesion"
    )


def ending(found: Mapping[str, Any]) -> str:
    """The Explainability Score with its six parts."""
    score = found["explainability_score"]
    parts = ", ".join(f"{name} {part:.3f}" for name, part in score["parts"].items())
    return f"Explainability Score {score['value']:.3f} ({parts})"


def number(name: str, value: float | None) -> str:
    """Four decimals; errors as powers of ten."""
    if value is None:
        return "-"
    return f"{value:.1e}" if name.endswith("_error") else f"{value:.4f}"


def interval(row: Mapping[str, Any]) -> str:
    """The interval of a row, empty where it has none."""
    if row["low"] is None:
        return ""
    return f"{row['low']:.4f} to {row['high']:.4f}"
