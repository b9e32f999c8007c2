"""What an ablation of losses says: scores of every row, differences, statements.

A figure is the mean over the random starts. Its 95 % interval resamples the test cases
of every start (each start has its own cases and weights); a difference is taken on the
same resampled cases. Accuracy, precision, recall and F1 are at a calibrated probability
of one half.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from model.errors import CheckpointError
from model.evaluation.resampling import resamples
from model.evaluation.scores import accuracy, auroc, f1, precision, recall
from model.network.inputs import MODALITIES
from model.training.explanation_guard import MOST_COST
from model.training.faithfulness import Floats, paired_gain
from model.training.retrieval import mean_rank

REFERENCE = "cls,uni"
FULL = "all"
PATTERNS = {
    FULL: (True, True, True),
    "image+text": (True, True, False),
    "image+values": (True, False, True),
    "text+values": (False, True, True),
}
#: At a probability of one half, with everything present.
DECIDED: dict[str, Callable[[Floats, Floats], float]] = {
    "accuracy": accuracy,
    "precision": precision,
    "recall": recall,
    "f1": f1,
}
_DIGITS = 6


@dataclass(frozen=True)
class RowScores:
    """What one trained row does on the n tested cases of its start.

    ``logits`` (n,) by coalition, ``chance`` (n,) calibrated with everything present,
    ``masses`` (n, 3) relevance on what was planted (NaN without), ``retrieval`` by
    direction.
    """

    logits: Mapping[str, Floats]
    chance: Floats
    masses: Floats
    retrieval: Mapping[str, Mapping[str, float]]
    seconds: float


@dataclass(frozen=True)
class Run:
    """One random start: labels (n,) of its tested cases, its rows, the guard's word."""

    seed: int
    label: Floats
    rows: Mapping[str, RowScores]
    guard: Mapping[str, Any]
    seconds: float

    def save(self, path: Path) -> None:
        """Keep it as JSON, rounded to six digits."""
        rows = {
            name: {
                "logits": {key: _listed(x) for key, x in row.logits.items()},
                "chance": _listed(row.chance),
                "masses": [_listed(column) for column in row.masses.T],
                "retrieval": row.retrieval,
                "seconds": row.seconds,
            }
            for name, row in self.rows.items()
        }
        said = {
            "seed": self.seed,
            "label": _listed(self.label),
            "rows": rows,
            "guard": self.guard,
            "seconds": self.seconds,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".part")
        draft.write_text(json.dumps(said), encoding="utf-8")
        draft.replace(path)

    @classmethod
    def load(cls, path: Path) -> Run:
        """What :meth:`save` kept.

        Raises:
            CheckpointError: the file is damaged or something else.
        """
        try:
            said = json.loads(path.read_text(encoding="utf-8"))
            rows = {
                name: RowScores(
                    {key: _column(x) for key, x in row["logits"].items()},
                    _column(row["chance"]),
                    np.stack([_column(x) for x in row["masses"]], axis=1),
                    row["retrieval"],
                    row["seconds"],
                )
                for name, row in said["rows"].items()
            }
            label = _column(said["label"])
            return cls(said["seed"], label, rows, said["guard"], said["seconds"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{path.name} holds no ablation") from error


def _listed(column: Floats) -> list[float | None]:
    return [None if x != x else round(x, _DIGITS) for x in column.tolist()]


def _column(listed: Sequence[float | None]) -> Floats:
    return np.array([np.nan if x is None else x for x in listed], dtype=np.float64)


def report_of(
    data: Mapping[str, Any], runs: Sequence[Run], draws: int = 1_000
) -> dict[str, Any]:
    """Everything that is told.

    Args:
        data: What was run, as plain JSON.
        runs: At least one, all with the same rows, REFERENCE among them.
        draws: Of every bootstrap interval.

    Returns:
        Plain JSON: ``data``, ``rows``, ``guard`` (on only if it is on from every
        start), ``statements`` (each with value, target and whether it holds).
    """
    rows = [_described(name, runs, draws) for name in runs[0].rows]
    guard = {
        "on": all(run.guard["on"] for run in runs),
        "starts": [{"seed": run.seed, **run.guard} for run in runs],
    }
    return {
        "data": {**data, "seeds": [run.seed for run in runs]},
        "reference": REFERENCE,
        "rows": rows,
        "guard": guard,
        "statements": statements(rows, bool(guard["on"])),
        "seconds": round(sum(run.seconds for run in runs), 1),
    }


def _described(name: str, runs: Sequence[Run], draws: int) -> dict[str, Any]:
    """One row as plain JSON, with its differences to the reference."""
    mine = [run.rows[name] for run in runs]
    theirs = [run.rows[REFERENCE] for run in runs]
    truths = [run.label for run in runs]
    found: dict[str, Any] = {"losses": name, "auroc": {}}
    for key in PATTERNS:
        ours, others = ([row.logits[key] for row in rows] for rows in (mine, theirs))
        found["auroc"][key] = compared(auroc, ours, others, truths, draws)
    ours, others = ([row.chance for row in rows] for rows in (mine, theirs))
    for score, metric in DECIDED.items():
        found[score] = compared(metric, ours, others, truths, draws)
    ranks = [mean_rank(row.retrieval) for row in mine]
    directions = {
        key: float(np.mean([row.retrieval[key]["rank"] for row in mine]))
        for key in mine[0].retrieval
    }
    pooled = [np.concatenate([row.masses for row in rows]) for rows in (theirs, mine)]
    found["retrieval"] = {"mean_rank": float(np.mean(ranks)), "directions": directions}
    found["mass"] = {
        m: paired_gain(pooled[0][:, i], pooled[1][:, i]).to_json()
        for i, m in enumerate(MODALITIES)
    }
    found["seconds"] = round(sum(row.seconds for row in mine), 1)
    return found


def compared(
    metric: Callable[[Floats, Floats], float],
    ours: Sequence[Floats],
    others: Sequence[Floats],
    truths: Sequence[Floats],
    draws: int,
) -> dict[str, Any]:
    """Mean score over starts, and its difference to another's on the same cases.

    Args:
        metric: (scores, truth) -> float.
        ours: One (n,) per start.
        others: Likewise, of what it is compared with.
        truths: Likewise, in {0, 1}.
        draws: Of the bootstrap, within every start.
    """
    values: list[tuple[float, float]] = []
    drawn = np.zeros((len(truths), draws, 2))
    for start, (a, b, truth) in enumerate(zip(ours, others, truths)):
        values.append((metric(a, truth), metric(b, truth)))
        for draw, rows in enumerate(resamples(len(truth), None, draws, start)):
            kept = truth[rows]
            drawn[start, draw] = metric(a[rows], kept), metric(b[rows], kept)
    mean, spread = np.mean(values, axis=0), drawn.mean(axis=0)  # (2,), (draws, 2)
    own, gaps = _interval(spread[:, 0]), _interval(spread[:, 0] - spread[:, 1])
    return {
        "value": _defined(mean[0]),
        **own,
        "minus_reference": {"value": _defined(mean[0] - mean[1]), **gaps},
        "by_start": [_defined(round(a, 5)) for a, _ in values],
    }


def _interval(drawn: Floats) -> dict[str, float | None]:
    """The 95 % interval of what is defined; null without."""
    found = drawn[~np.isnan(drawn)]
    if not len(found):
        return {"low": None, "high": None}
    low, high = np.quantile(found, [0.025, 0.975])
    return {"low": float(low), "high": float(high)}


def _defined(value: float) -> float | None:
    return None if value != value else float(value)


def statements(rows: Sequence[Mapping[str, Any]], exp_on: bool) -> dict[str, Any]:
    """What is claimed of each loss, with value, target and whether it holds."""
    by_name = {row["losses"]: row for row in rows}
    ranks = {name: row["retrieval"]["mean_rank"] for name, row in by_name.items()}
    gain = ranks["cls,uni,con"] - ranks[REFERENCE]
    worst = min(by_name["cls,uni,con"]["retrieval"]["directions"].values())
    cost = {
        name: -row["auroc"][FULL]["minus_reference"]["value"]
        for name, row in by_name.items()
    }

    def said(value: float, target: str, holds: bool) -> dict[str, Any]:
        return {"value": value, "target": target, "holds": bool(holds)}

    def bounded(name: str) -> dict[str, Any]:
        return said(cost[name], f"<= {MOST_COST}", cost[name] <= MOST_COST)

    return {
        "con_improves_retrieval": said(gain, "> 0", gain > 0),
        "con_ranks_every_direction_above_chance": said(worst, "> 0.5", worst > 0.5),
        "con_auroc_cost": bounded("cls,uni,con"),
        "exp_auroc_cost": bounded("cls,uni,exp"),
        "exp_pays": said(float(exp_on), "guard says on", exp_on),
        "cls_is_needed": said(cost["uni"], "> 0.005", cost["uni"] > MOST_COST),
    }
