"""Explanations in the report: their measures, and a few cases to look at."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from typing import Any

from model.evaluation.bench import Bench
from model.evaluation.rows import Row, not_measured, reported
from model.jobs.explanation import Explanation
from model.jobs.prediction import Prediction
from model.synthetic.case import SynthCase
from model.synthetic.latents import Severity

_MEASURES = "model.explain.measures"
_SCORE = "explainability_score"
_NO_CASE = "no case of this kind among those explained"
_LOOKED_AT = 60


def explanation_rows(bench: Bench, cases: int) -> tuple[list[Row], dict[str, Any]]:
    """The measured quality of explanations as rows, and the report they are from.

    Args:
        bench: The checkpoint and its cases.
        cases: How many cases are explained.
    """
    if importlib.util.find_spec(_MEASURES) is None:
        missing = "this version has no measures of explanations"
        return [not_measured("Explainability Score", "", missing)], {}
    measures = importlib.import_module(_MEASURES)
    report: dict[str, Any] = measures.explanation_report(
        bench.checkpoint,
        bench.cases[:cases],
        seed=bench.seed,
        progress=bench.progress,
    )
    rows = list(figures(report))
    score = report.get(_SCORE)
    if isinstance(score, float | int):
        rows.insert(0, reported("Explainability Score", float(score), n=cases))
    return rows, report


def figures(report: Mapping[str, Any], path: str = "") -> Iterator[Row]:
    """Every figure of a nested report: whatever says ``value``."""
    if "value" in report:
        value = report["value"]
        target = report.get("target", "")
        yield Row(
            name=path,
            value=None if value is None else float(value),
            target="" if target is None else str(target),
            holds=report.get("holds"),
            low=report.get("low"),
            high=report.get("high"),
            n=int(report.get("n") or 0),
            note=str(report.get("note") or ("" if value is not None else _NO_CASE)),
        )
        return
    for name, part in report.items():
        words = f"{path}: {name}" if path else name
        if isinstance(part, Mapping):
            yield from figures(part, words.replace("_", " "))


def examples(bench: Bench) -> list[dict[str, Any]]:
    """A clear case, one that needs all three modalities, and a normal one."""
    wanted = (
        ("A clear finding", Severity.HIGH, 1),
        ("Ambiguous severity: only the three together tell", Severity.AMBIGUOUS, 1),
        ("No finding", Severity.LOW, 0),
    )
    found = []
    for title, severity, label in wanted:
        example = _first(bench, severity, label)
        if example is not None:
            found.append({"title": title, **_plain(*example)})
    return found


def _first(
    bench: Bench, severity: Severity, label: int
) -> tuple[SynthCase, Prediction, Explanation] | None:
    """The first case of its kind that the model answers rightly."""
    for case, record in zip(bench.cases[:_LOOKED_AT], bench.records):
        if case.label != label or case.latents.severity is not severity:
            continue
        prediction, explanation = bench.predictor.assess(record)
        if explanation is not None:
            if prediction.estimates[0].positive == bool(label):
                return case, prediction, explanation
    return None


def _plain(
    case: SynthCase, prediction: Prediction, explanation: Explanation
) -> dict[str, Any]:
    """One example as plain JSON; ``film`` holds rows of grey values, two digits."""
    names = {value.loinc: value for value in case.values}
    estimate = prediction.estimates[0]
    return {
        "case": case.case_id,
        "label": case.label,
        "probability": estimate.probability,
        "threshold": estimate.threshold,
        "film": [[round(float(x), 2) for x in row] for row in case.image],
        "maps": [
            {"grid": m.grid, "box": m.box, "blank": m.blank}
            for m in explanation.heat_maps
        ],
        "note": case.note.text,
        "words": [[w.start, w.end, w.score] for w in explanation.words],
        "values": [
            {
                "name": names[v.loinc].name,
                "value": f"{names[v.loinc].value:f} {names[v.loinc].unit}",
                "logit": v.logit,
            }
            for v in sorted(explanation.values, key=lambda v: -abs(v.logit))
            if v.loinc in names
        ][:8],
        "modalities": {m.modality: m.logit for m in explanation.modalities},
        "sentences": [sentence.text for sentence in explanation.narrative],
    }
