"""The hidden truth behind a synthetic case and what each modality sees of it.

Severity and concordance decide the label; every modality sees severity, with errors,
and its own pattern. The three patterns lie on a Latin square, so any two of them say
nothing about concordance: cases of ambiguous severity need all three modalities.

Two parameter sets are kept: ``P0``, whose best attainable scores lie where the
published tri-modal results lie, and ``P1``, a little above.

Seeds: a case is fixed by (split, seed, index). Splits are separate seed namespaces, so
training on seed 7 and testing on seed 7 never shares a case, and the first ten cases of
a seed are the same whether ten or ten thousand are drawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import IntEnum, StrEnum
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int8]
Floats = NDArray[np.float64]

# Rows: image pattern; columns: syndrome; entry: the concordant cell pattern.
LATIN_SQUARE: Ints = np.array([[0, 1, 2], [1, 2, 0], [2, 0, 1]], dtype=np.int8)

# Of the severity errors at an end state, the share that lands in the middle.
MIDDLE_SHARE = 0.8

# One column of uniform numbers per random decision; a change of order changes cases.
_COLUMNS = 12


class Split(StrEnum):
    """Seed namespace; the same seed in two splits gives unrelated cases."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"
    DEMO = "demo"


_SPLIT_KEY: Mapping[Split, int] = MappingProxyType(
    {Split.TRAIN: 101, Split.VALIDATION: 202, Split.TEST: 303, Split.DEMO: 404}
)


class Severity(IntEnum):
    """How ill the lungs are."""

    LOW = 0
    AMBIGUOUS = 1
    HIGH = 2


class ImagePattern(IntEnum):
    """Shape of the opacity on the film."""

    SOLID = 0
    RING = 1
    RETICULAR = 2


class Syndrome(IntEnum):
    """Time course told in the note."""

    ACUTE_PRODUCTIVE = 0
    SUBACUTE_DRY = 1
    CHRONIC_CONSTITUTIONAL = 2


class CellPattern(IntEnum):
    """Differential count of the leukocytes."""

    NEUTROPHILIC = 0
    LYMPHOPENIC = 1
    EOSINOPHILIC = 2


@dataclass(frozen=True, slots=True)
class Parameters:
    """Probabilities of the latent model.

    ``p_low``, ``p_ambiguous``, ``p_concordant`` are priors; ``flip_clear`` and
    ``flip_ambiguous`` the label noise off and on the ambiguous state;
    ``severity_error`` and ``pattern_error`` hold (image, text, values).
    """

    p_low: float
    p_ambiguous: float
    p_concordant: float
    flip_clear: float
    flip_ambiguous: float
    severity_error: tuple[float, float, float]
    pattern_error: tuple[float, float, float]


PARAMETERS: Mapping[str, Parameters] = MappingProxyType(
    {
        "P0": Parameters(
            p_low=0.2496,
            p_ambiguous=0.4685,
            p_concordant=0.2966,
            flip_clear=0.0538,
            flip_ambiguous=0.0114,
            severity_error=(0.0541, 0.0929, 0.0200),
            pattern_error=(0.1043, 0.0316, 0.1160),
        ),
        "P1": Parameters(
            p_low=0.2376,
            p_ambiguous=0.4743,
            p_concordant=0.2766,
            flip_clear=0.0433,
            flip_ambiguous=0.0147,
            severity_error=(0.0467, 0.0847, 0.0205),
            pattern_error=(0.0956, 0.0626, 0.0713),
        ),
    }
)


@dataclass(frozen=True, slots=True, eq=False)
class Latents:
    """Latent states of n cases, one row per case.

    ``severity``, ``concordant``, ``patterns`` (n, 3) and ``flipped`` are the truth;
    ``seen_severity`` (n, 3) and ``seen_pattern`` (n, 3) what image, text and values
    show, in that order. ``label`` is y.
    """

    severity: Ints
    concordant: Ints
    patterns: Ints
    flipped: Ints
    label: Ints
    seen_severity: Ints
    seen_pattern: Ints

    def __len__(self) -> int:
        return int(self.label.shape[0])

    def row(self, index: int) -> CaseLatents:
        """The latents of one case as plain integers."""
        plain = {f.name: getattr(self, f.name)[index].tolist() for f in fields(self)}
        return CaseLatents(
            severity=Severity(plain["severity"]),
            concordant=bool(plain["concordant"]),
            patterns=tuple(plain["patterns"]),
            flipped=bool(plain["flipped"]),
            seen_severity=tuple(plain["seen_severity"]),
            seen_pattern=tuple(plain["seen_pattern"]),
        )


@dataclass(frozen=True, slots=True)
class CaseLatents:
    """True and observed latents of one case; triples are (image, text, values)."""

    severity: Severity
    concordant: bool
    patterns: tuple[int, int, int]
    flipped: bool
    seen_severity: tuple[int, int, int]
    seen_pattern: tuple[int, int, int]


def parameter_set(name: str) -> Parameters:
    """The parameter set called ``name``; ValueError when there is none."""
    try:
        return PARAMETERS[name]
    except KeyError:
        known = ", ".join(PARAMETERS)
        raise ValueError(f"no parameter set {name!r}; known: {known}") from None


def generator(split: Split, seed: int, *path: int) -> np.random.Generator:
    """The random stream at ``path`` below (split, seed); ValueError if seed < 0."""
    if seed < 0:
        raise ValueError("a seed is zero or positive")
    return np.random.default_rng(
        np.random.SeedSequence(seed, spawn_key=(_SPLIT_KEY[split], *path))
    )


def severity_confusion(error: float) -> Floats:
    """P(seen severity | true severity), shape (3, 3), rows are the truth."""
    near, far = MIDDLE_SHARE * error, (1 - MIDDLE_SHARE) * error
    return np.array(
        [
            [1 - error, near, far],
            [error / 2, 1 - error, error / 2],
            [far, near, 1 - error],
        ]
    )


def pattern_confusion(error: float) -> Floats:
    """P(seen pattern | true pattern), shape (3, 3), errors spread evenly."""
    return np.full((3, 3), error / 2) + np.eye(3) * (1 - 1.5 * error)


def draw_latents(
    n: int, rng: np.random.Generator, parameters: Parameters = PARAMETERS["P0"]
) -> Latents:
    """Draw n cases at once.

    Every decision reads its own column of one matrix of uniform numbers, filled row by
    row, so the first cases do not depend on n.
    """
    uniform = rng.random((n, _COLUMNS))
    column = iter(uniform.T)
    par = parameters
    severity = _categorical(
        next(column), np.array([par.p_low, par.p_ambiguous, 1.0])[None, :].cumsum(1)
    )
    concordant = (next(column) < par.p_concordant).astype(np.int8)
    image = (next(column) * 3).astype(np.int8)
    syndrome = (next(column) * 3).astype(np.int8)
    shift = np.where(concordant == 1, 0, 1 + (next(column) < 0.5))
    cells = ((LATIN_SQUARE[image, syndrome] + shift) % 3).astype(np.int8)

    finding = (severity == Severity.HIGH) | (
        (severity == Severity.AMBIGUOUS) & (concordant == 1)
    )
    noise = np.where(severity == Severity.AMBIGUOUS, par.flip_ambiguous, par.flip_clear)
    flipped = next(column) < noise

    patterns = np.stack([image, syndrome, cells], axis=1)
    seen_severity = np.empty_like(patterns)
    seen_pattern = np.empty_like(patterns)
    for m in range(3):
        table = severity_confusion(par.severity_error[m]).cumsum(axis=1)
        seen_severity[:, m] = _categorical(next(column), table[severity])
    for m in range(3):
        table = pattern_confusion(par.pattern_error[m]).cumsum(axis=1)
        seen_pattern[:, m] = _categorical(next(column), table[patterns[:, m]])
    return Latents(
        severity=severity,
        concordant=concordant,
        patterns=patterns,
        flipped=flipped.astype(np.int8),
        label=(finding ^ flipped).astype(np.int8),
        seen_severity=seen_severity,
        seen_pattern=seen_pattern,
    )


def _categorical(uniform: Floats, cumulative: Floats) -> Ints:
    """Inverse of a (1 or n, 3) cumulative table at (n,) uniform numbers."""
    first, second = cumulative[:, 0], cumulative[:, 1]
    return ((uniform >= first).astype(np.int8) + (uniform >= second)).astype(np.int8)
