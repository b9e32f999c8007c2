"""Reports as tables: the same sections for a terminal and for a Markdown file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any

SCORES = ("accuracy", "auroc", "precision", "recall", "f1")
_HEADINGS = ("accuracy", "AUROC", "precision", "recall", "F1")
_NOTHING = "-"


@dataclass(frozen=True, slots=True)
class Section:
    """A headed table with a line of explanation."""

    title: str
    note: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]


def as_text(heading: str, intro: str, sections: Sequence[Section]) -> str:
    """For a terminal: columns of equal width."""
    lines = [heading, intro]
    for section in sections:
        table = [list(section.headings), *[list(row) for row in section.rows]]
        widths = [max(len(row[n]) for row in table) for n in range(len(table[0]))]
        lines += ["", section.title]
        lines += [section.note] if section.note else []
        lines += [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip()
            for row in table
        ]
    return "\n".join(lines)


def as_markdown(
    heading: str, intro: str, sections: Sequence[Section], command: str = ""
) -> str:
    """A whole Markdown document, ending in a newline; ``command`` is what wrote it."""
    lines = [f"# {heading}", ""]
    lines += [f"Written by `{command}`.", ""] if command else []
    lines.append(intro)
    for section in sections:
        lines += ["", f"## {section.title}", ""]
        lines += [section.note, ""] if section.note else []
        lines.append(_line(section.headings))
        lines.append(_line(["---"] * len(section.headings)))
        lines += [_line(row) for row in section.rows]
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def number(value: float | None, digits: int = 3) -> str:
    """A fraction without its leading zero, or a dash."""
    if value is None or isnan(value):
        return _NOTHING
    shown = f"{value:.{digits}f}"
    return shown.replace("0.", ".", 1) if abs(value) < 1 else shown


def with_interval(score: Mapping[str, float]) -> str:
    """ ".901 (.895-.907)"."""
    low, high = number(score["low"]), number(score["high"])
    return f"{number(score['value'])} ({low}-{high})"


def comparison_sections(report: Mapping[str, Any]) -> list[Section]:
    """The sections of :func:`model.baselines.report.build_report`."""
    found = [_models(report), _ablation(report), _against(report), _zero_shot(report)]
    return [*found, _calibration(report), checks_section(report["checks"])]


def comparison_intro(report: Mapping[str, Any]) -> str:
    """What was run, in one paragraph."""
    data = report["data"]
    seeds = ", ".join(str(seed) for seed in data["seeds"])
    return (
        f"Synthetic cases, parameter set {data['parameters']}, preset "
        f"{data['preset']}, seeds {seeds}: {data['cases']:,} training, "
        f"{data['held_out']:,} held-out and {data['tested']:,} tested cases each. "
        "A figure is the mean over the seeds; in brackets the 95 % bootstrap interval "
        "over tested cases. Every method got the same cases, and every network the "
        "same trained encoders. Probabilities are calibrated on held-out cases; "
        "accuracy, precision, recall and F1 are at a probability of one half. "
        "The paper's rows come from other data and state no interval."
    )


def _paper_cells(paper: Mapping[str, Any] | None) -> list[str]:
    if paper is None:
        return [_NOTHING] * len(SCORES)
    return [number(paper[name]) for name in SCORES]


def _models(report: Mapping[str, Any]) -> Section:
    rows = []
    for row in report["rows"]:
        size = row["parameters"]
        rows.append(
            [
                row["title"],
                row["reads"],
                *[with_interval(row[name]) for name in SCORES],
                _NOTHING if size is None else f"{size:,.0f}",
                *_paper_cells(row["paper"]),
            ]
        )
    return Section(
        "Comparison",
        "Parameters: what was trained on top of the shared encoders.",
        (
            "model",
            "reads",
            *_HEADINGS,
            "parameters",
            *[f"paper {name}" for name in _HEADINGS],
        ),
        rows,
    )


def _ablation(report: Mapping[str, Any]) -> Section:
    rows = [
        [
            row["name"],
            row["without"] or _NOTHING,
            *[with_interval(row[name]) for name in SCORES],
            number(row["ceiling"], 4),
            f"{-row['gap']:+.4f}",
            number(row["ceiling_accuracy"]),
            *_paper_cells(row["paper"])[:2],
        ]
        for row in report["ablation"]
    ]
    return Section(
        "Ablation: the full model with modalities left out",
        "Ceiling: the exact posterior on the same cases, which no model can beat but "
        "by chance.",
        (
            "modalities",
            "ablation",
            *_HEADINGS,
            "ceiling AUROC",
            "AUROC minus ceiling",
            "ceiling accuracy",
            "paper accuracy",
            "paper AUROC",
        ),
        rows,
    )


def _against(report: Mapping[str, Any]) -> Section:
    titles = {row["name"]: row["title"] for row in report["rows"]}
    rows = [
        [
            titles[name],
            str(seed),
            f"{found['value']:+.4f}",
            f"{found['low']:+.4f} to {found['high']:+.4f}",
            f"{found['p']:.4f}",
        ]
        for name, pair in report["against"].items()
        for seed, found in zip(report["data"]["seeds"], pair["seeds"])
    ]
    return Section(
        "Full model against other fusions of the same three modalities",
        "Paired bootstrap of the AUROC difference on the same tested cases.",
        ("full minus", "seed", "difference", "95 % interval", "p"),
        rows,
    )


def _zero_shot(report: Mapping[str, Any]) -> Section:
    rows = [
        [
            row["title"],
            row["reads"],
            with_interval(row["auroc"]),
            number(row["true_pair_rank"]),
        ]
        for row in report["zero_shot"]
    ]
    return Section(
        "Zero-shot scores of the contrastive baselines",
        "The film against prompts, without a classifier. Rank: mean share of 499 other "
        "notes closer to a film than its own note; .5 is chance.",
        ("model", "reads", "AUROC", "rank of the true note"),
        rows,
    )


def _calibration(report: Mapping[str, Any]) -> Section:
    rows = [
        [
            row["name"],
            number(row["ece"], 4),
            ", ".join(number(x, 4) for x in row["ece_by_seed"]),
            number(row["ceiling_ece"], 4),
            number(row["brier"], 4),
            number(row["ceiling_brier"], 4),
            number(row["conformal_recall"], 4),
            number(row["conformal_error"], 4),
        ]
        for row in report["ablation"]
    ]
    return Section(
        "Calibration of the full model",
        "ECE over 15 bins of equal mass, beside that of the exact posterior on the "
        "same cases. Recall at the conformal threshold of each coalition; the error is "
        "one standard error.",
        (
            "modalities",
            "ECE",
            "by seed",
            "ECE of the posterior",
            "Brier",
            "Brier of the posterior",
            "conformal recall",
            "error",
        ),
        rows,
    )


def checks_section(checks: Sequence[Mapping[str, Any]]) -> Section:
    """The bars with their verdicts."""
    rows = [
        [
            check["name"],
            f"{check['value']:.4f}",
            check["target"],
            "holds" if check["holds"] else "DOES NOT HOLD",
        ]
        for check in checks
    ]
    return Section("Checks", "", ("check", "value", "target", "verdict"), rows)
