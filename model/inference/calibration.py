"""From logits to probabilities, one calibration per presence pattern.

A model that sees one modality is less sure than one that sees three, so each subset of
modalities has its own Platt parameters per label. The file also keeps what held-out
patients looked like to the encoders, so that a record unlike all of them can be
refused instead of being given a number.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model.errors import CheckpointError
from model.inference.conformal import ConformalSet
from model.inference.photometry import FilmReference
from model.network.fusion import Tokens
from model.network.inputs import MODALITIES

CALIBRATION_FILE = "calibration.json"

#: All 8 presence patterns; the empty one is only the baseline of Shapley values.
PATTERNS: tuple[tuple[bool, bool, bool], ...] = tuple(
    (bool(bits & 1), bool(bits & 2), bool(bits & 4)) for bits in range(8)
)


def pattern_name(present: Sequence[bool]) -> str:
    """Name of a presence pattern: "image+text", "image+text+values", "none"."""
    names = [name for name, there in zip(MODALITIES, present, strict=True) if there]
    return "+".join(names) or "none"


@dataclass(frozen=True, slots=True)
class Platt:
    """probability = sigmoid(slope * logit + intercept)."""

    slope: float
    intercept: float

    def logit(self, raw: float) -> float:
        """The calibrated logit."""
        return self.slope * raw + self.intercept

    def probability(self, raw: float) -> float:
        """The calibrated probability of a raw logit."""
        x = self.logit(raw)
        if x >= 0:
            return 1.0 / (1.0 + math.exp(-x))
        return math.exp(x) / (1.0 + math.exp(x))


@dataclass(frozen=True, slots=True)
class FeatureReference:
    """How one modality's mean token spreads among held-out patients.

    ``mean`` (D,) and ``precision`` (D, D); ``limit`` is the 99.5th percentile of the
    held-out distances: above it a record is unlike what the model has seen.
    """

    mean: tuple[float, ...]
    precision: tuple[tuple[float, ...], ...]
    limit: float

    def distance(self, feature: Tensor) -> Tensor:
        """Mahalanobis distances (B,) of mean tokens (B, D)."""
        mean = feature.new_tensor(self.mean)
        precision = feature.new_tensor(self.precision)
        gap = feature - mean  # (B, D)
        square = ((gap @ precision) * gap).sum(-1)  # (B,)
        return square.clamp(min=0).sqrt()


@dataclass(frozen=True)
class Calibration:
    """Everything that is fitted on held-out patients after training.

    ``platt`` is keyed by pattern name, then by label; ``references`` by modality;
    ``map_floor`` by label: how much a held-out film without the finding may raise the
    logit (95th percentile of its Shapley value); a map at or below it is blank.
    ``conformal`` is keyed as ``platt``; it and ``films`` are missing from older
    checkpoints, which then lack those detectors.
    """

    version: str
    platt: Mapping[str, Mapping[str, Platt]]
    references: Mapping[str, FeatureReference] = field(default_factory=dict)
    map_floor: Mapping[str, float] = field(default_factory=dict)
    conformal: Mapping[str, Mapping[str, ConformalSet]] = field(default_factory=dict)
    films: FilmReference | None = None

    @classmethod
    def identity(cls, labels: Sequence[str]) -> Calibration:
        """No calibration at all: the raw logit is taken at its word."""
        plain = {label: Platt(1.0, 0.0) for label in labels}
        return cls("none", {pattern_name(p): plain for p in PATTERNS})

    def of(self, present: Sequence[bool], label: str) -> Platt:
        """The parameters for one presence pattern and label.

        Raises:
            CheckpointError: the checkpoint was not calibrated for them.
        """
        try:
            return self.platt[pattern_name(present)][label]
        except KeyError as error:
            raise CheckpointError("no calibration for this pattern") from error

    def conformal_of(self, present: Sequence[bool], label: str) -> ConformalSet | None:
        """The conformal thresholds of one pattern and label, None where none hold."""
        return self.conformal.get(pattern_name(present), {}).get(label)

    def outside(self, tokens: Tokens) -> dict[str, Tensor]:
        """Distance of each modality over its limit, (B,) each: above 1 is unlike.

        A modality without a reference is left out; rows where it is absent read 0.
        """
        ratios = {}
        for name, x, mask in zip(MODALITIES, tokens.content(), tokens.masks()):
            reference = self.references.get(name)
            if reference is not None:
                distance = reference.distance(mean_token(x, mask))
                ratios[name] = torch.where(mask.any(1), distance / reference.limit, 0.0)
        return ratios

    def save(self, folder: Path) -> None:
        """Write ``calibration.json``."""
        data = {
            "version": self.version,
            "platt": {
                pattern: {
                    label: {"slope": p.slope, "intercept": p.intercept}
                    for label, p in by_label.items()
                }
                for pattern, by_label in self.platt.items()
            },
            "references": {
                name: {
                    "mean": list(r.mean),
                    "precision": [list(row) for row in r.precision],
                    "limit": r.limit,
                }
                for name, r in self.references.items()
            },
            "map_floor": dict(self.map_floor),
            "conformal": {
                pattern: {label: asdict(found) for label, found in by_label.items()}
                for pattern, by_label in self.conformal.items()
            },
            "films": asdict(self.films) if self.films else None,
        }
        text = json.dumps(data, separators=(",", ":"))
        (folder / CALIBRATION_FILE).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Calibration:
        """Read what :meth:`save` wrote.

        Raises:
            CheckpointError: the file is missing or malformed.
        """
        try:
            text = (folder / CALIBRATION_FILE).read_text(encoding="utf-8")
            return cls._from_json(json.loads(text))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError("calibration.json is malformed") from error

    @classmethod
    def _from_json(cls, data: dict[str, Any]) -> Calibration:
        return cls(
            version=str(data["version"]),
            platt={
                pattern: {label: Platt(**p) for label, p in by_label.items()}
                for pattern, by_label in data["platt"].items()
            },
            references={
                name: FeatureReference(
                    tuple(r["mean"]),
                    tuple(tuple(row) for row in r["precision"]),
                    float(r["limit"]),
                )
                for name, r in data["references"].items()
            },
            map_floor={k: float(v) for k, v in data["map_floor"].items()},
            conformal={
                pattern: {label: ConformalSet(**c) for label, c in by_label.items()}
                for pattern, by_label in data.get("conformal", {}).items()
            },
            films=_film_reference(data.get("films")),
        )


def _film_reference(data: dict[str, Any] | None) -> FilmReference | None:
    if data is None:
        return None
    return FilmReference(**{**data, "template": tuple(data["template"])})


def mean_token(x: Tensor, mask: Tensor) -> Tensor:
    """Mean over the valid tokens: (B, N, D), (B, N) -> (B, D); 0 where none is."""
    weight = mask.unsqueeze(-1).to(x.dtype)  # (B, N, 1)
    clean = torch.where(mask.unsqueeze(-1), x, x.new_zeros(()))
    return clean.sum(1) / weight.sum(1).clamp(min=1.0)
