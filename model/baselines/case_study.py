"""Real cases: repeated cross-validation by patient, per modality, beside shortcuts.

Every patient group is in one fold of a repeat; a patient is scored once per repeat, on
the primary image, by models that saw nothing of the group. A figure is the mean over
the repeats; its interval comes from bootstrap draws of patients. Nothing is shipped:
the folder's licences are non-commercial, and the numbers are small.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import StratifiedGroupKFold
from tqdm import tqdm

from model.baselines.case_tasks import TaskCases, read_tasks, shortcut_table
from model.baselines.classical import (
    fit_on_measured,
    note_text,
    text_pipeline,
    value_codes,
    value_table,
    values_pipeline,
)
from model.errors import DatasetError
from model.evaluation.resampling import resamples
from model.evaluation.scores import accuracy, auroc, f1, precision, recall
from model.network.inputs import MODALITIES
from model.training.folder_study import (
    FOLDER_SETTINGS,
    FOLDS,
    fit_groups,
    probabilities,
)
from model.training.train import TrainSettings

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

Pattern = tuple[bool, bool, bool]

FULL = "all modalities"
#: The model's rows: which modalities it may use.
COALITIONS: dict[str, Pattern] = {
    FULL: (True, True, True),
    "without text": (True, False, True),
    "without images": (False, True, True),
    "without record": (True, True, False),
    "image only": (True, False, False),
    "text only": (False, True, False),
    "record only": (False, False, True),
}
SCORES = {
    "accuracy": accuracy,
    "auroc": auroc,
    "precision": precision,
    "recall": recall,
    "f1": f1,
}


@dataclass(frozen=True, slots=True)
class CaseSettings:
    """How often, and by which recipe; seeds of the repeats follow ``train.seed``."""

    repeats: int = 5
    draws: int = 1_000
    train: TrainSettings = FOLDER_SETTINGS


@dataclass(frozen=True)
class Scores:
    """Probabilities of the primary images, (repeats, patients), by method."""

    by_method: dict[str, Floats]
    kinds: dict[str, str]


def study_cases(
    folder: Path, settings: CaseSettings = CaseSettings(), *, progress: bool = True
) -> dict[str, Any]:
    """Score every task of the folder.

    Args:
        folder: With ``cases.jsonl`` and ``images/``.
        settings: Repeats and recipe.
        progress: Draw bars.

    Returns:
        ``data`` and one entry of ``tasks`` each, as plain JSON.

    Raises:
        DatasetError: the folder breaks its layout, holds no task, or a task with too
            few patients of one class.
    """
    tasks = read_tasks(folder)
    if not tasks:
        raise DatasetError("the folder answers none of the questions")
    return {
        "data": {
            "folder": folder.resolve().name,
            "repeats": settings.repeats,
            "folds": FOLDS,
            "draws": settings.draws,
        },
        "tasks": [_study(task, settings, progress) for task in tasks],
    }


def _study(data: TaskCases, settings: CaseSettings, progress: bool) -> dict[str, Any]:
    """All methods of one task."""
    scores = cross_validated(data, settings, progress=progress)
    truth = data.target[data.primary].astype(np.float64)
    records = [case.record for case in data.cases]
    have = [[r.presence()[m] for r in records] for m in records[0].presence()]
    counts = np.array(have)[:, data.primary].sum(1).tolist()
    full = scores.by_method[FULL]
    rows = []
    for name, chances in scores.by_method.items():
        row: dict[str, Any] = {"name": name, "kind": scores.kinds[name]}
        row.update(_mean_scores(chances, truth, settings.draws))
        row["full_minus"] = _difference(full, chances, truth, settings.draws)
        rows.append(row)
    return {
        "label": data.task.label,
        "title": data.task.title,
        "caution": data.task.caution,
        "images": len(data.cases),
        "patients": len(truth),
        "positives": int(truth.sum()),
        "have": dict(zip(MODALITIES, counts)),
        "rows": rows,
    }


def cross_validated(
    data: TaskCases, settings: CaseSettings, *, progress: bool = True
) -> Scores:
    """Out-of-fold probabilities of every method, on the same folds.

    Raises:
        DatasetError: too few patient groups of one class for the folds.
    """
    classes = [len(set(data.groups[data.target == answer])) for answer in (0, 1)]
    if min(classes) < FOLDS:
        raise DatasetError(f"{data.task.label}: too few patients for {FOLDS} folds")
    methods = _methods(data, settings)
    place = np.cumsum(data.primary) - 1  # column of each primary image
    patients = int(data.primary.sum())
    kinds = {name: kind for kind, _, names in methods for name in names}
    found = {name: np.full((settings.repeats, patients), np.nan) for name in kinds}
    total = settings.repeats * FOLDS
    with tqdm(total=total, desc=data.task.label, disable=not progress) as bar:
        for repeat in range(settings.repeats):
            seed = settings.train.seed + repeat
            folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
            for fit, held in folds.split(place, data.target, data.groups):
                held = held[data.primary[held]]
                for _, method, names in methods:
                    if len(held):
                        columns = method(fit, held, seed)
                        for name, chances in zip(names, columns):
                            found[name][repeat, place[held]] = chances
                bar.update()
    return Scores(found, kinds)


Method = Callable[[Rows, Rows, int], Sequence[Floats]]


def _methods(
    data: TaskCases, settings: CaseSettings
) -> list[tuple[str, Method, tuple[str, ...]]]:
    """Kind, (rows to fit, rows to score, seed) -> columns, and their names."""
    records = [case.record for case in data.cases]
    codes = value_codes(records)
    values = value_table(records, codes)[:, : len(codes)]  # measured values only
    notes = [note_text(record) for record in records]
    used = usable_coalitions(data)
    found: list[tuple[str, Method, tuple[str, ...]]] = [
        ("model", _network(data, settings, used), tuple(used)),
    ]
    if any(notes):
        found.append(("baseline", _on_notes(data, notes), ("TF-IDF, notes",)))
    for name, logistic in (("trees, values", False), ("logistic, values", True)):
        found.append(("baseline", _on_table(data, values, logistic), (name,)))
    for name in data.task.shortcuts:
        table = shortcut_table(data.rows, name)
        for kind, logistic in (("trees", False), ("logistic", True)):
            method = _on_table(data, table, logistic)
            found.append(("shortcut", method, (f"{name}, {kind}",)))
    return found


def usable_coalitions(data: TaskCases) -> dict[str, Pattern]:
    """Those that differ on these cases: a modality that nobody has takes none away."""
    present = [case.record.presence() for case in data.cases]
    have = [any(p[m] for p in present) for m in present[0]]
    found: dict[Pattern, str] = {}
    for name, pattern in COALITIONS.items():
        image, text, values = (a and b for a, b in zip(pattern, have))
        if image or text or values:
            found.setdefault((image, text, values), name)
    return {name: pattern for pattern, name in found.items()}


def _network(
    data: TaskCases, settings: CaseSettings, used: dict[str, Pattern]
) -> Method:
    """The tri-modal model, once trained, with modalities left out."""

    def run(fit: Rows, held: Rows, seed: int) -> Sequence[Floats]:
        recipe = replace(settings.train, seed=seed, progress=False)
        label = data.task.label
        chosen = [data.cases[i] for i in fit]
        trained = fit_groups(chosen, data.target[fit], label, recipe)
        scored = [data.cases[i] for i in held]
        return [
            probabilities(trained, scored, label, coalition)
            for coalition in used.values()
        ]

    return run


def _on_notes(data: TaskCases, notes: Sequence[str]) -> Method:
    def run(fit: Rows, held: Rows, seed: int) -> Sequence[Floats]:
        del seed
        model = text_pipeline(min_cases=2)
        model.fit([notes[i] for i in fit], data.target[fit])
        return [model.predict_proba([notes[i] for i in held])[:, 1]]

    return run


def _on_table(data: TaskCases, table: Floats, logistic: bool) -> Method:
    def run(fit: Rows, held: Rows, seed: int) -> Sequence[Floats]:
        model = values_pipeline() if logistic else _small_trees(seed)
        columns = fit_on_measured(
            model, table[fit], data.target[fit].astype(np.float64)
        )
        return [model.predict_proba(table[np.ix_(held, columns)])[:, 1]]

    return run


def _small_trees(seed: int) -> HistGradientBoostingClassifier:
    """Gradient-boosted trees for a few hundred rows: shallow, few, no early stop."""
    return HistGradientBoostingClassifier(
        learning_rate=0.1,
        max_iter=40,
        max_leaf_nodes=6,
        min_samples_leaf=8,
        early_stopping=False,
        random_state=seed,
    )


def _mean_scores(
    chances: Floats, truth: Floats, draws: int
) -> dict[str, dict[str, float]]:
    """Mean over repeats of each score, with its interval over patients."""
    drawn: dict[str, list[float]] = {name: [] for name in SCORES}
    for rows in resamples(len(truth), None, draws, 0):
        for name, score in SCORES.items():
            values = [score(repeat[rows], truth[rows]) for repeat in chances]
            drawn[name].append(float(np.mean(values)))
    found = {}
    for name, score in SCORES.items():
        low, high = np.nanquantile(drawn[name], [0.025, 0.975])
        value = float(np.mean([score(repeat, truth) for repeat in chances]))
        found[name] = {"value": value, "low": float(low), "high": float(high)}
    return found


def _difference(
    full: Floats, other: Floats, truth: Floats, draws: int
) -> dict[str, float]:
    """AUROC of the full model minus another's on the same patients."""

    def gap(rows: Rows) -> float:
        both = [
            auroc(a[rows], truth[rows]) - auroc(b[rows], truth[rows])
            for a, b in zip(full, other)
        ]
        return float(np.mean(both))

    drawn = [gap(rows) for rows in resamples(len(truth), None, draws, 0)]
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    every = np.arange(len(truth))
    return {"value": gap(every), "low": float(low), "high": float(high)}
