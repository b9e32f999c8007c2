"""``film-trimodal`` in words and tables, from its figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Figures = Mapping[str, Any]

_HEAD = """# film-trimodal: fusion on real films

Real NIH films, joined to synthetic notes and values. A film shows something (F = 1)
when its report names an opacity, fluid or a large heart, and nothing (F = 0) when it
names no finding. A severity is drawn that follows F loosely; note and values show it,
with errors. A severe case is labelled 1, a mild one 0; one in the middle is 1 exactly
when the cells fit film and syndrome. So the film decides what note and values leave
open, and it is worth what an encoder really reads off it.
`model/films/joined_cases.py` states the rule.

Printed by:

    {command}

The film encoder is frozen; fusion learns on training patients, intervals resample
test patients. Decisions at one half.
"""
_OF_SMALL = """
This is the checkpoint `model/checkpoints/small`: its fusion also learnt on {drawn:,}
drawn cases, and its probabilities are calibrated, each coalition by its own
parameters. Its figures on drawn cases are in its MODEL_CARD.md.
`trivium-model films-trimodal` trains and scores a fusion on joined cases alone.
"""
_SCORES = ("auprc", "accuracy", "precision", "recall", "f1")
_COLUMNS = (
    "modalities",
    "AUROC",
    "AUPRC",
    "accuracy",
    "precision",
    "recall",
    "F1",
    "fusion minus this",
)


def trimodal_page(found: Figures) -> str:
    """The report as Markdown.

    Args:
        found: From :func:`model.films.film_trimodal.film_trimodal`.
    """
    bert = " --bert BERT" if found["settings"]["bert"] else ""
    command = f"trivium-model films-trimodal --films FILMS --encoder ENCODER{bert}"
    return _page(found, f"{command} --markdown docs/film-trimodal.md")


def small_page(record: Figures) -> str:
    """The same report on the fusion of the small checkpoint.

    Args:
        record: ``training.json`` of the build.
    """
    found = record["film_trimodal"]
    tested = found["coalitions"]["I"]["auroc"]["n"]
    cases = {"train": record["data"]["joined"]["train"], "test": tested}
    data = {**found, "cases": cases, "figures": record["figures"]}
    command = "trivium-model build-small --films FILMS --encoder ENCODER --bert BERT"
    page = _page(data, f"{command} --out OUT --markdown docs/film-trimodal.md")
    drawn = record["data"]["drawn"]["train"]
    return page + _OF_SMALL.format(drawn=drawn)


def _page(found: Figures, command: str) -> str:
    return "\n".join([_HEAD.format(command=command), *_paragraphs(found), ""])


def _paragraphs(found: Figures) -> list[str]:
    cases, bound = found["cases"], found["attainable"]
    reading = found["figures"]["film_reading"]
    rows = [
        [
            name,
            interval(row["auroc"]),
            *(number(row[score]) for score in _SCORES),
            _lead(found["fusion_minus"].get(name)),
        ]
        for name, row in found["coalitions"].items()
    ]
    return [
        f"{cases['train']:,} training and {cases['test']:,} test cases "
        f"({found['test_patients']:,} test patients), prevalence "
        f"{number(found['prevalence'])}. I film, T note, V values.\n",
        _table(_COLUMNS, rows),
        f"\nBest pair: {found['best_pair']}. Fusion not below it: "
        f"**{'holds' if found['holds'] else 'DOES NOT HOLD'}**.\n",
        "Exact posterior on the same cases: "
        f"{number(bound['film read without error'])} when a film is read without "
        f"error, {number(bound['film not looked at'])} when it is not looked at. What "
        "lies between is what reading films better can still bring.\n",
        "How well the frozen encoder's state tells F: AUROC "
        f"{number(reading['trained'])} on its training patients, "
        f"{number(reading['other'])} on validation patients (upper end of the interval "
        f"{number(reading['other_high'])}). {100 * reading['shuffled']:.0f} % of the "
        "training cases got another patient's film, so that the fusion trusts a film "
        "no more than new films deserve.",
    ]


def _lead(difference: Figures | None) -> str:
    if difference is None:
        return "-"
    return f"{interval(difference)}, p {number(difference['p'])}"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def interval(found: Figures) -> str:
    """A figure with its 95 % interval."""
    value, low, high = (number(found[name]) for name in ("value", "low", "high"))
    return f"{value} ({low} to {high})"


def number(value: float | None) -> str:
    """Three digits; a dash for what is not defined."""
    return "-" if value is None or value != value else f"{value:.3f}"
