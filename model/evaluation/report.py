"""The whole evaluation as one plain JSON object: figures, targets, verdicts.

Sections hold rows (:class:`~model.evaluation.rows.Row`); beside them stand the tables
and the points that plots are drawn from. Everything that the Markdown, the HTML and the
card show comes from here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from model.errors import ConfigurationError
from model.evaluation.abstentions import abstention_rows
from model.evaluation.bench import Bench
from model.evaluation.coalitions import (
    calibration_rows,
    coalition_chances,
    coalition_table,
    curves,
    discrimination_rows,
    paper_rows,
)
from model.evaluation.evaluate import refuse_training_seed
from model.evaluation.explanations import examples, explanation_rows
from model.evaluation.fairness import fairness_rows
from model.evaluation.hallucination import hallucination_rows
from model.evaluation.kept_tasks import kept_rows
from model.evaluation.missingness import missing_rows
from model.evaluation.model_card import how_trained, rebuilt_by
from model.evaluation.note_probes import note_rows
from model.evaluation.robustness import robustness_rows
from model.evaluation.rows import Row
from model.evaluation.shortcut import shortcut_rows
from model.inference.weights import WEIGHTS_FILE, LoadedCheckpoint
from model.jobs.model_identity import read_manifest
from model.synthetic.latents import Split
from model.training.synthetic_set import LABEL, synthetic_cases

LEAST_CASES = 100


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured; ``explained`` cases go through the explanation measures."""

    cases: int = 10_000
    shifted: int = 2_000
    served: int = 300
    explained: int = 200
    draws: int = 1_000


QUICK = Sizes(cases=200, shifted=100, served=10, explained=12, draws=40)


def full_report(
    checkpoint: LoadedCheckpoint,
    sizes: Sizes,
    *,
    seed: int,
    parameters: str = "P0",
    command: str = "",
    progress: bool = True,
) -> dict[str, Any]:
    """Measure everything on fresh synthetic cases.

    Args:
        checkpoint: Estimates the synthetic label.
        sizes: How much is measured.
        seed: Not one of the training seeds.
        parameters: Parameter set of the generator.
        command: What was typed, quoted in the report.
        progress: Show bars.

    Raises:
        SeedRefusedError: the seed was used in training.
        ConfigurationError: another label, or too few cases.
    """
    refuse_training_seed(checkpoint.training, seed)
    if LABEL not in checkpoint.config.labels:
        raise ConfigurationError(
            "this checkpoint does not estimate the synthetic label"
        )
    if sizes.cases < LEAST_CASES:
        raise ConfigurationError(f"a report needs at least {LEAST_CASES} cases")
    bench = Bench(
        checkpoint,
        synthetic_cases(
            sizes.cases,
            seed,
            split=Split.TEST,
            parameters=parameters,
            image_size=checkpoint.config.image.size,
        ),
        seed,
        shift_cases=sizes.shifted,
        served_cases=sizes.served,
        draws=sizes.draws,
        progress=progress,
    )
    return {
        "model": _model(checkpoint),
        "data": _data(bench, sizes, parameters),
        "command": command,
        **_measured(bench, sizes),
    }


def _measured(bench: Bench, sizes: Sizes) -> dict[str, Any]:
    """All sections with the tables and points beside them."""
    chances = coalition_chances(bench)
    fair, subgroups = fairness_rows(bench)
    explained, measures = explanation_rows(bench, sizes.explained)
    sections: dict[str, list[Row]] = {
        "Discrimination": discrimination_rows(bench, chances),
        "The paper's ablation": paper_rows(bench, chances),
        "Calibration": calibration_rows(bench, chances),
        "Abstention": abstention_rows(bench, chances),
        "Robustness": robustness_rows(bench),
        "Missing evidence": missing_rows(bench, chances),
        "Fairness": fair,
        "Hallucination": hallucination_rows(bench),
        "Notes that mislead, order": note_rows(bench),
        "Shortcuts": shortcut_rows(bench),
        "Skills kept": kept_rows(bench),
        "Explanations": explained,
    }
    return {
        "table": coalition_table(bench, chances),
        "sections": [
            {"title": title, "rows": [row.to_json() for row in rows]}
            for title, rows in sections.items()
        ],
        "subgroups": subgroups,
        "curves": curves(bench, chances),
        "examples": examples(bench),
        "explanation_measures": measures,
    }


def _model(checkpoint: LoadedCheckpoint) -> dict[str, Any]:
    identity = checkpoint.identity
    parameters = sum(p.numel() for p in checkpoint.model.parameters())
    return {
        "name": identity.name,
        "version": identity.version,
        "sha256": identity.sha256,
        "trained_on": identity.trained_on,
        "label": LABEL,
        "preset": checkpoint.preset,
        "parameters": parameters,
        "weights_sha256": read_manifest(checkpoint.folder)[1][WEIGHTS_FILE],
        **_origin(checkpoint.training),
    }


def _origin(training: Mapping[str, Any]) -> dict[str, Any]:
    """How the weights were made and what an end-to-end run reached, where known."""
    if training.get("data", {}).get("source") != "synthetic":
        return {}
    return {
        "how_trained": how_trained(training),
        "rebuilt_by": rebuilt_by(training),
        "unstaged": training.get("unstaged"),
    }


def _data(bench: Bench, sizes: Sizes, parameters: str) -> dict[str, Any]:
    return {
        "source": "synthetic",
        "parameters": parameters,
        "seed": bench.seed,
        "cases": len(bench.cases),
        "prevalence": float(bench.truth.mean()),
        "threshold": bench.threshold,
        "shifted": min(sizes.shifted, sizes.cases),
        "served": sizes.served,
        "explained": sizes.explained,
        "draws": sizes.draws,
    }


def rows_of(report: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """All rows of a report, in order."""
    return [row for section in report["sections"] for row in section["rows"]]


def verdicts(report: Mapping[str, Any]) -> dict[str, int]:
    """How many targets hold, how many are missed, how many were not measured."""
    rows = rows_of(report)
    return {
        "hold": sum(row["holds"] is True for row in rows),
        "missed": sum(row["holds"] is False for row in rows),
        "not measured": sum(row["value"] is None for row in rows),
    }
