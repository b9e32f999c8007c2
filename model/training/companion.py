"""What accompanies the stages of a run: held-out records, patience, stored state."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from model.training.cached_tokens import Prepared
from model.training.training_set import Finding
from model.training.watch import Keeper, Watch


@dataclass(frozen=True, slots=True)
class Companion:
    """What accompanies every stage of a run; see :class:`.watch.Watch`.

    ``fresh`` are held-out records with their findings by modality, for held-out
    losses; ``suffix`` is appended to the names of stages that run twice.
    """

    fresh: Prepared | None = None
    questions: Callable[[str], Sequence[Finding]] | None = None
    patience: int = 0
    keeper: Keeper | None = None
    bfloat16: bool = False
    suffix: str = ""

    def watch(
        self,
        held_out: Callable[[], float] | None = None,
        generators: tuple[torch.Generator, ...] = (),
    ) -> Watch:
        """For one stage."""
        return Watch(held_out, self.patience, self.keeper, generators, self.bfloat16)
