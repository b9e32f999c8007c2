"""What a comparison runs on: seeds, numbers of cases, and one recipe for everybody."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from model.errors import ConfigurationError
from model.training.local_encoders import LocalEncoders
from model.training.optimise import Schedule
from model.training.train import TrainSettings

FIRST_SEED = 7
SEED_STEP = 10
MIN_CASES = 50


@dataclass(frozen=True, slots=True)
class CompareSettings:
    """One comparison; every method of a seed gets the same cases and encoders.

    ``train`` is the recipe of the tri-modal model; the encoders of S1 come from it for
    every method, and the fusion variants share its fusion schedules. ``contrastive``
    aligns image and note (as many passes as the fusion gets), ``head`` fits a method's
    own classifier on its finished embeddings or one encoder's state. ``local`` puts
    encoders from this disk in the place of the preset's, for every method alike.
    """

    seeds: int = 3
    cases: int = 10_000
    held_out: int = 8_000
    tested: int = 10_000
    parameters: str = "P0"
    train: TrainSettings = field(default_factory=TrainSettings)
    contrastive: Schedule = Schedule(epochs=6, rate=1e-3, batch=128, average=0.98)
    head: Schedule = Schedule(epochs=14, rate=4e-3, batch=256, average=0.98)
    draws: int = 1_000
    local: LocalEncoders = LocalEncoders()

    def __post_init__(self) -> None:
        """Refuse sizes that nothing can be learnt from.

        Raises:
            ConfigurationError: no seed, or too few cases of a kind.
        """
        if self.seeds < 1:
            raise ConfigurationError("a comparison needs at least one seed")
        if min(self.cases, self.held_out, self.tested) < MIN_CASES:
            raise ConfigurationError(
                f"a comparison needs at least {MIN_CASES} cases of each kind"
            )

    def seed_list(self) -> list[int]:
        """The seeds of weights and cases: 7, 17, 27, ..."""
        return [FIRST_SEED + SEED_STEP * number for number in range(self.seeds)]

    def recipe(self, seed: int) -> TrainSettings:
        """The recipe with one seed."""
        return replace(self.train, seed=seed)

    def encoder_digest(self) -> str:
        """Of the settings that change the encoders' weights."""
        recipe = self.train
        local = [asdict(self.local)] if self.local else []
        return _digest(
            self.cases,
            self.parameters,
            recipe.preset,
            recipe.pieces,
            [_plain(schedule) for schedule in recipe.encoders],
            *local,
        )

    def digest(self) -> str:
        """Of the settings that change a method's scores on one seed, encoders apart.

        Neither how many seeds nor the display; a change of code is not seen, which is
        what ``--fresh`` is for.
        """
        recipe = self.train
        schedules = (recipe.pooled, recipe.fusion, self.contrastive, self.head)
        return _digest(
            self.held_out,
            self.tested,
            recipe.dropout,
            [_plain(schedule) for schedule in schedules],
        )


def _plain(schedule: Schedule) -> list[float]:
    """What of a schedule matters."""
    return [
        schedule.epochs,
        schedule.rate,
        schedule.batch,
        schedule.warmup,
        schedule.weight_decay,
        schedule.average,
    ]


def _digest(*parts: Any) -> str:
    """Sixteen hexadecimal characters of the parts as JSON."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
