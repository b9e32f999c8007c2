"""The report on real cases as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from model.baselines.tables import SCORES, Section, with_interval

_RIVALS = ("baseline", "shortcut")
_KINDS = {
    "model": "the model",
    "baseline": "baseline",
    "shortcut": "shortcut, no evidence",
}


def case_intro(report: Mapping[str, Any]) -> str:
    """How the figures were found and what they are not."""
    data = report["data"]
    return (
        f"{data['folds']}-fold cross-validation by patient group, repeated "
        f"{data['repeats']} times; one prediction per patient and repeat, on the "
        "primary image, by a model that saw nothing of the group. A figure is the mean "
        f"over the repeats; in brackets the 95 % interval over {data['draws']:,} "
        "bootstrap draws of patients, the trained models held fixed. Accuracy, "
        "precision, recall and F1 are at a probability of one half. The recipe of the "
        "model was chosen earlier on the train and validation patients of the first "
        "task. Few patients: most intervals overlap, and a row is no proof of anything "
        "that its interval does not exclude. The licences are non-commercial in part, "
        "so no weights come out of this. Not for clinical use."
    )


def case_sections(report: Mapping[str, Any]) -> list[Section]:
    """One section per task."""
    return [_task(task) for task in report["tasks"]]


def _task(task: Mapping[str, Any]) -> Section:
    rows = []
    for row in task["rows"]:
        gap = row["full_minus"]
        shown = f"{gap['value']:+.3f} ({gap['low']:+.3f} to {gap['high']:+.3f})"
        rows.append(
            [
                row["name"],
                _KINDS[row["kind"]],
                with_interval(row["auroc"]),
                *[with_interval(row[name]) for name in SCORES if name != "auroc"],
                shown if gap["value"] or gap["low"] or gap["high"] else "-",
            ]
        )
    have = ", ".join(f"{count} with {name}" for name, count in task["have"].items())
    full = next(row for row in task["rows"] if row["kind"] == "model")
    against = " ".join(_beside(full, task["rows"], kind) for kind in _RIVALS)
    note = (
        f"{task['patients']} patients ({task['positives']} positive; {have}), "
        f"{task['images']} images. {task['caution']} {against}"
    )
    return Section(
        task["title"],
        note,
        (
            "method",
            "kind",
            "AUROC",
            "accuracy",
            "precision",
            "recall",
            "F1",
            "full minus this, AUROC",
        ),
        rows,
    )


def _beside(
    full: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], kind: str
) -> str:
    """The best row of a kind, and whether the model's AUROC differs from it."""
    rivals = [row for row in rows if row["kind"] == kind]
    best = max(rivals, key=lambda row: float(row["auroc"]["value"]))
    gap = best["full_minus"]
    verdict = "not told apart from it"
    if gap["low"] > 0 or gap["high"] < 0:
        verdict = "above it" if gap["low"] > 0 else "BELOW it"
    return (
        f"Best {kind}: {best['name']}, AUROC {with_interval(best['auroc'])}; the model "
        f"({with_interval(full['auroc'])}) is {verdict}."
    )
