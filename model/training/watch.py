"""What may accompany an optimisation: held-out loss, early stopping, stored state."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

State = tuple[dict[str, Tensor], dict[str, Any]]


class Keeper(Protocol):
    """Where the state of a stage survives the process."""

    def load(self, stage: str) -> State | None:
        """Tensors and plain values of that stage, None when it never began."""

    def save(self, stage: str, state: State) -> None:
        """Replace what is stored, all or nothing."""

    def record(self, stage: str, epoch: int, figures: Mapping[str, float]) -> None:
        """One line of measurements."""


@dataclass(frozen=True, slots=True)
class Watch:
    """What accompanies one optimisation.

    ``held_out`` gives the loss on held-out records, ``patience`` is how many epochs it
    may fail to improve (0 never stops), ``keeper`` stores a state after each epoch,
    ``generators`` are random streams that the batches draw from, ``bfloat16`` runs the
    forward passes in bfloat16 where the device is a CUDA one.
    """

    held_out: Callable[[], float] | None = None
    patience: int = 0
    keeper: Keeper | None = None
    generators: tuple[torch.Generator, ...] = ()
    bfloat16: bool = False
