"""The report as one HTML file: no script, no link to anything outside, prints well."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from model.evaluation import plots
from model.evaluation.markdown import (
    HEADINGS,
    SUBGROUP_HEADINGS,
    coalition_cells,
    describe,
    headline,
    missed_lines,
    number,
    subgroup_cells,
    verdict,
    with_interval,
)

_CSS = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #1c1f24; background: #fff;
  max-width: 1060px; margin: 2rem auto; padding: 0 1.2rem; }
h1 { font-size: 1.7rem; margin-bottom: .3rem; }
h2 { font-size: 1.25rem; margin: 2rem 0 .6rem; padding-bottom: .2rem;
  border-bottom: 2px solid #1f5a94; }
table { border-collapse: collapse; width: 100%; font-size: .84rem; margin: .6rem 0; }
th { text-align: left; background: #f1f4f8; }
th, td { padding: .28rem .5rem; border-bottom: 1px solid #e2e6ec;
  vertical-align: top; }
td.figure { white-space: nowrap; font-variant-numeric: tabular-nums; }
tr.ceiling td { color: #666c75; font-style: italic; }
.verdict { font-weight: 600; white-space: nowrap; }
.holds { color: #2e7d4f; } .MISSED { color: #b3261e; }
.reported, .not { color: #666c75; font-weight: 400; }
.summary { background: #f1f4f8; border-left: 4px solid #1f5a94; padding: .7rem 1rem; }
.plots { display: flex; flex-wrap: wrap; gap: 1rem; }
.plots svg { max-width: 100%; height: auto; }
.example { border: 1px solid #e2e6ec; border-radius: 6px; padding: .8rem 1rem;
  margin: 1rem 0; break-inside: avoid; }
.note { white-space: pre-wrap; font-size: .88rem; background: #fafbfc;
  padding: .6rem; }
mark { color: inherit; border-radius: 2px; }
pre { background: #f1f4f8; padding: .6rem; overflow-x: auto; font-size: .82rem;
  white-space: pre-wrap; }
.scroll { overflow-x: auto; }
@media print { body { margin: 0; max-width: none; font-size: 11px; }
  h2 { break-after: avoid; } tr, svg { break-inside: avoid; } }
"""


def to_html(report: Mapping[str, Any]) -> str:
    """The whole page.

    Args:
        report: As :func:`~model.evaluation.report.full_report` returns it.
    """
    name = f"{report['model']['name']} {report['model']['version']}"
    parts = [
        f"<h1>Evaluation of {escape(name)}</h1>",
        *(f"<p>{escape(line)}</p>" for line in describe(report)),
        f"<pre>{escape(report['command'])}</pre>" if report["command"] else "",
        _summary(report),
        "<h2>Coalitions</h2>",
        _coalitions(report),
        _plots(plots.coalition_bars(report)),
        _plots(plots.roc(report), plots.precision_recall(report)),
    ]
    for section in report["sections"]:
        parts.append(f"<h2>{escape(section['title'])}</h2>")
        parts.append(_section(section["rows"]))
        parts += _beside(section["title"], report)
    if report["examples"]:
        parts.append("<h2>Examples</h2>")
    parts += [_example(e, n) for n, e in enumerate(report["examples"])]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Evaluation of {escape(name)}</title><style>{_CSS}</style></head>"
        "<body>" + "\n".join(part for part in parts if part) + "</body></html>\n"
    )


def _beside(title: str, report: Mapping[str, Any]) -> list[str]:
    """Plots and tables that belong to a section."""
    if title == "Calibration":
        return [_plots(plots.reliability(report))]
    if title == "Robustness":
        return [_plots(plots.robustness_bars(report))]
    if title == "Fairness":
        cells = _table(SUBGROUP_HEADINGS, subgroup_cells(report))
        return [cells, _plots(plots.subgroup_plot(report))]
    return []


def _summary(report: Mapping[str, Any]) -> str:
    lines = "".join(f"<li>{escape(line)}</li>" for line in missed_lines(report))
    missed = f"<p>Missed:</p><ul>{lines}</ul>" if lines else ""
    return (
        f'<div class="summary"><strong>{escape(headline(report))}</strong>'
        f"{missed}</div>"
    )


def _plots(*drawn: str) -> str:
    return f'<div class="plots">{"".join(drawn)}</div>'


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in headings)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    return f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>'


def _coalitions(report: Mapping[str, Any]) -> str:
    head = "".join(f"<th>{name}</th>" for name in ("modalities", *HEADINGS))
    body = ""
    for row in coalition_cells(report):
        kind = ' class="ceiling"' if row[0].endswith("ceiling") else ""
        cells = "".join(f"<td>{_two_lines(cell)}</td>" for cell in row)
        body += f"<tr{kind}>{cells}</tr>"
    return f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>'


def _two_lines(cell: str) -> str:
    """A value with its interval below it: seven columns fit a page."""
    value, gap, interval = escape(cell).partition(" (")
    return f"{value}<br><small>({interval}</small>" if gap else value


def _section(rows: Sequence[Mapping[str, Any]]) -> str:
    names = ("measure", "value (95 %)", "target", "verdict", "n", "note")
    head = "".join(f"<th>{name}</th>" for name in names)
    body = ""
    for row in rows:
        word = verdict(row)
        body += (
            f"<tr><td>{escape(row['name'])}</td>"
            f'<td class="figure">{escape(with_interval(row))}</td>'
            f'<td class="figure">{escape(row["target"])}</td>'
            f'<td class="verdict {word}">{word}</td>'
            f'<td class="figure">{row["n"] or ""}</td>'
            f"<td>{escape(row['note'])}</td></tr>"
        )
    return f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>'


def marked(text: str, words: Sequence[Sequence[float]]) -> str:
    """The note with its words shaded by their score; everything else escaped."""
    strongest = max((score for _, _, score in words), default=0.0)
    parts, at = [], 0
    for start, end, score in sorted(words, key=tuple):
        first, last = int(start), int(end)
        if first < at or strongest <= 0:
            continue
        shade = 0.08 + 0.52 * score / strongest
        parts.append(escape(text[at:first]))
        parts.append(
            f'<mark style="background: rgba(240, 140, 40, {shade:.2f})">'
            f"{escape(text[first:last])}</mark>"
        )
        at = last
    return "".join(parts) + escape(text[at:])


def _example(example: Mapping[str, Any], order: int) -> str:
    """One case: estimate, film and map, values, note, sentences."""
    shares = ", ".join(
        f"{name} {logit:+.2f}" for name, logit in example["modalities"].items()
    )
    sentences = "".join(f"<li>{escape(text)}</li>" for text in example["sentences"])
    truth = "with" if example["label"] else "without"
    return (
        f'<div class="example"><h3>{escape(example["title"])}</h3>'
        f"<p>{escape(example['case'])}, truly {truth} the label; estimate "
        f"{number(example['probability'])} (threshold {number(example['threshold'])})."
        f" Shapley values on the logit: {escape(shares)}.</p>"
        + _plots(plots.film(example, order), plots.value_bars(example, order))
        + f'<p class="note">{marked(example["note"], example["words"])}</p>'
        f"<ul>{sentences}</ul></div>"
    )
