"""A model card written from a report: use, data, figures, subgroups, limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from model.evaluation.evaluate import FULL
from model.evaluation.markdown import (
    HEADINGS,
    SUBGROUP_HEADINGS,
    coalition_cells,
    describe,
    headline,
    missed_lines,
    section_table,
    subgroup_cells,
    table,
)

_USE = """**Investigational. Not for clinical use.**

The model estimates one label ("{label}") from a chest film, clinical notes and measured
values, any of which may be missing. It is meant for developing, testing and showing the
plugin. It is not meant for decisions about patients, for films other than frontal chest
radiographs, or for records outside the limits in `calibration.json`, where it abstains.
"""

_LIMITS = """- Every figure here is on synthetic cases: what the model does on real
  patients is unknown from this card.
- Sex, age, style and site carry no information in these cases. An even table shows that
  the model adds no gap of its own; it says nothing about gaps in real data.
- A value under the label of a wrong unit can lie in the range of a true one; the
  adapters cannot refuse it then.
- The recall guarantee holds for the pattern of modalities that its threshold was fitted
  on."""


def report_card(report: Mapping[str, Any]) -> str:
    """The card as Markdown; each section of figures names the command that prints it.

    Args:
        report: As :func:`~model.evaluation.report.full_report` returns it.
    """
    command = f"Printed by:\n\n    {report['command']}" if report["command"] else ""
    missed = missed_lines(report)
    parts = [
        f"# Model card: {report['model']['name']} {report['model']['version']}",
        "## Intended use",
        _USE.format(label=report["model"]["label"]).strip(),
        "## Model and data",
        "\n".join(f"- {line}" for line in describe(report)),
        *_training(report["model"]),
        "## Figures",
        command,
        table(("modalities", *HEADINGS), coalition_cells(report)),
        f"**{headline(report)}**",
        "Targets that are missed:" if missed else "",
        "\n".join(f"- {line}" for line in missed),
    ]
    for section in report["sections"]:
        parts += [f"### {section['title']}", command, section_table(section)]
    parts += [
        "## Subgroups",
        command,
        table(SUBGROUP_HEADINGS, subgroup_cells(report)),
        "## Limits",
        _LIMITS,
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _training(model: Mapping[str, Any]) -> list[str]:
    """The recipe and the command that makes the weights again, where known."""
    if "how_trained" not in model:
        return []
    parts = ["## How it was trained", model["how_trained"]]
    parts.append(f"Rebuilt by:\n\n    {model['rebuilt_by']}")
    other = model["unstaged"]
    if other:
        parts.append(
            "The same network trained end to end from scratch "
            f"({other['cases']:,} cases, {other['epochs']} epochs) reached an AUROC of "
            f"{other['coalitions'][FULL]['auroc']:.4f} with all three modalities. "
            "Printed by:\n\n    trivium-model evaluate"
        )
    return parts
