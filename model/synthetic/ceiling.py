"""The best score any model can reach on synthetic cases, by exact enumeration.

The observed latents take 9 values per modality; their joint distribution with the
label is summed over all hidden states. A trained model is judged by the distance to
``posterior`` on the same cases, because the ceiling of a finite test set itself varies
by several thousandths of AUROC.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from fhir_adapters.patient_record import Modality
from model.synthetic.case import SynthCase
from model.synthetic.latents import (
    LATIN_SQUARE,
    Floats,
    Latents,
    Parameters,
    parameter_set,
    pattern_confusion,
    severity_confusion,
)

Coalition = frozenset[Modality]

_ORDER = tuple(Modality)

COALITIONS: tuple[Coalition, ...] = tuple(
    frozenset(group)
    for group in (
        (Modality.IMAGE,),
        (Modality.TEXT,),
        (Modality.VALUES,),
        (Modality.IMAGE, Modality.TEXT),
        (Modality.IMAGE, Modality.VALUES),
        (Modality.TEXT, Modality.VALUES),
        _ORDER,
    )
)


@dataclass(frozen=True, slots=True)
class Ceiling:
    """Attainable scores of one coalition over the whole population."""

    auroc: float
    accuracy: float


def coalition_name(coalition: Iterable[Modality]) -> str:
    """Stable name such as "image+text"."""
    members = frozenset(coalition)
    return "+".join(m.value for m in _ORDER if m in members)


@lru_cache(maxsize=16)
def joint(parameters: Parameters) -> Floats:
    """P(y, what each modality shows), shape (2, 3, 3, 3, 3, 3, 3).

    Axes: label; then severity and pattern as seen by image, by text, by values.
    """
    par = parameters
    p_severity = np.array([par.p_low, par.p_ambiguous, 1 - par.p_low - par.p_ambiguous])
    p_concordant = np.array([1 - par.p_concordant, par.p_concordant])
    finding = np.array([[0, 0], [0, 1], [1, 1]])
    flip = np.array([par.flip_clear, par.flip_ambiguous, par.flip_clear])[:, None]
    p_positive = np.where(finding == 1, 1 - flip, flip)
    # (y, severity, concordant)
    p_state = np.stack([1 - p_positive, p_positive]) * (
        p_severity[:, None] * p_concordant
    )
    # (concordant, image pattern, syndrome, cells)
    match = np.eye(3)[LATIN_SQUARE]
    p_patterns = np.stack([(1 - match) / 2, match]) / 9
    sees = [severity_confusion(error) for error in par.severity_error]
    shows = [pattern_confusion(error) for error in par.pattern_error]
    seen_severity = np.einsum("yem,ei,ej,ek->ymijk", p_state, *sees)
    seen_pattern = np.einsum("mabc,ap,bq,cr->mpqr", p_patterns, *shows)
    table: Floats = np.einsum("ymijk,mpqr->yipjqkr", seen_severity, seen_pattern)
    table.flags.writeable = False
    return table


def population_ceiling(parameters: str | Parameters) -> Mapping[Coalition, Ceiling]:
    """Exact AUROC and accuracy of each coalition of modalities."""
    par = _resolve(parameters)
    return {coalition: _score(_marginal(par, coalition)) for coalition in COALITIONS}


def severity_only_ceiling(parameters: str | Parameters) -> Ceiling:
    """Scores with severity from all modalities but no pattern: what a model reaches
    that has not learnt to combine the three."""
    return _score(joint(_resolve(parameters)).sum(axis=(2, 4, 6)))


def posterior(
    cases: Sequence[SynthCase] | Latents,
    coalition: Iterable[Modality],
    parameters: str | Parameters | None = None,
) -> Floats:
    """P(y = 1 | what the coalition shows) for each case, shape (n,).

    Args:
        cases: The cases, or the latents of many cases at once.
        coalition: Modalities that may be used; none gives the prevalence.
        parameters: Needed for latents; cases know their own parameter set.

    Raises:
        ValueError: Cases of different parameter sets, or none named for latents.
    """
    if isinstance(cases, Latents):
        seen_severity, seen_pattern = cases.seen_severity, cases.seen_pattern
    else:
        shape = (len(cases), 3)
        seen = [case.latents for case in cases]
        seen_severity = np.array([s.seen_severity for s in seen], np.int8)
        seen_pattern = np.array([s.seen_pattern for s in seen], np.int8)
        seen_severity = seen_severity.reshape(shape)
        seen_pattern = seen_pattern.reshape(shape)
        if parameters is None and cases:
            parameters = _only_parameter_set(cases)
    if parameters is None:
        raise ValueError("the parameter set of the cases is not known")
    members = frozenset(coalition)
    table = _marginal(_resolve(parameters), members)
    cells: list[np.ndarray[tuple[int, ...], np.dtype[np.int8]]] = []
    for m, modality in enumerate(_ORDER):
        if modality in members:
            cells += [seen_severity[:, m], seen_pattern[:, m]]
    if not cells:
        return np.full(len(cases), table[1] / table.sum())
    chance: Floats = table[1] / table.sum(axis=0)
    result: Floats = chance[tuple(cells)]
    return result


def _resolve(parameters: str | Parameters) -> Parameters:
    return parameter_set(parameters) if isinstance(parameters, str) else parameters


def _only_parameter_set(cases: Sequence[SynthCase]) -> str:
    names = {case.parameters for case in cases}
    if len(names) > 1:
        raise ValueError("cases of different parameter sets")
    return names.pop()


def _marginal(parameters: Parameters, coalition: Coalition) -> Floats:
    """The joint table with the axes of absent modalities summed out."""
    hidden = [
        axis
        for m, modality in enumerate(_ORDER)
        if modality not in coalition
        for axis in (1 + 2 * m, 2 + 2 * m)
    ]
    table: Floats = joint(parameters).sum(axis=tuple(hidden))
    return table


def _score(table: Floats) -> Ceiling:
    """Scores of ranking by posterior; cells of equal posterior may be in any order."""
    negative, positive = table.reshape(2, -1)
    order = np.argsort(positive / (negative + positive), kind="stable")
    negative, positive = negative[order], positive[order]
    below = np.cumsum(negative) - negative / 2
    auroc = float((positive * below).sum() / (positive.sum() * negative.sum()))
    return Ceiling(auroc, float(np.maximum(negative, positive).sum()))
