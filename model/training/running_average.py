"""The running average of the weights that a stage ends with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class RunningAverage:
    """Exponential average of parameters, put in their place at the end."""

    def __init__(self, parameters: Iterable[nn.Parameter], decay: float) -> None:
        self.parameters = list(parameters)
        self.decay = decay
        self.shadow = [p.detach().clone() for p in self.parameters]
        self.steps = 0

    def update(self) -> None:
        """Blend the current values in; early steps count more, so no start-up bias."""
        self.steps += 1
        decay = min(self.decay, self.steps / (10.0 + self.steps))
        for kept, now in zip(self.shadow, self.parameters):
            kept.lerp_(now.detach(), 1.0 - decay)

    def apply(self) -> None:
        """Replace the parameters by their average."""
        put(self.shadow, self.parameters)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The average in place of the parameters for a while; then they are back."""
        now = [p.detach().clone() for p in self.parameters]
        self.apply()
        try:
            yield
        finally:
            put(now, self.parameters)


@torch.no_grad()
def put(values: Iterable[Tensor], parameters: Iterable[nn.Parameter]) -> None:
    """Copy values into parameters of the same shapes."""
    for value, parameter in zip(values, parameters, strict=True):
        parameter.copy_(value)
