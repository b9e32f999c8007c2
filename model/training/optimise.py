"""One optimisation loop for all stages: AdamW, one warm-up, one cosine, one average."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from tqdm import tqdm


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast: ``rate`` is the peak learning rate, ``batch`` in records.

    ``average`` is the decay of the running average of the weights that is kept at the
    end; 0 keeps the last step. Averaging makes reruns agree.
    """

    epochs: int
    rate: float
    batch: int = 128
    warmup: float = 0.05
    weight_decay: float = 0.01
    average: float = 0.0


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
        with torch.no_grad():
            for kept, now in zip(self.shadow, self.parameters):
                now.copy_(kept)


def optimise(
    name: str,
    parameters: Iterable[nn.Parameter],
    records: int,
    batch_loss: Callable[[Tensor], Tensor],
    schedule: Schedule,
    *,
    seed: int,
    progress: bool = True,
) -> list[float]:
    """Minimise ``batch_loss`` over shuffled batches.

    Args:
        name: Shown beside the progress bar.
        parameters: What may change.
        records: Number of records; batches are tensors of row numbers below it.
        batch_loss: Rows (b,) to a scalar loss.
        schedule: Epochs, learning rate and the rest.
        seed: Order of the batches.
        progress: Draw a bar on standard error.

    Returns:
        Mean loss of each epoch.
    """
    trainable = [p for p in parameters if p.requires_grad]
    per_epoch = math.ceil(records / schedule.batch)
    total = max(1, per_epoch * schedule.epochs)
    optimiser = torch.optim.AdamW(
        trainable, lr=schedule.rate, weight_decay=schedule.weight_decay
    )
    slope = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: _rate(step, total, schedule.warmup)
    )
    average = RunningAverage(trainable, schedule.average)
    order = torch.Generator().manual_seed(seed)
    losses = []
    with tqdm(total=total, desc=name, disable=not progress, leave=True) as bar:
        for _ in range(schedule.epochs):
            summed = 0.0
            shuffled = torch.randperm(records, generator=order)
            for rows in in_batches(shuffled, schedule.batch):
                loss = batch_loss(rows)
                optimiser.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(trainable, 1.0)
                optimiser.step()
                slope.step()
                if schedule.average:
                    average.update()
                summed += float(loss.detach()) * len(rows)
                bar.update()
            losses.append(summed / records)
            bar.set_postfix(loss=f"{losses[-1]:.4f}")
    if schedule.average:
        average.apply()
    return losses


def in_batches(rows: Tensor, size: int) -> list[Tensor]:
    """Row numbers (n,) in pieces of ``size``; the last may be shorter."""
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _rate(step: int, total: int, warmup: float) -> float:
    """Linear warm-up, then half a cosine down to 2 % of the peak."""
    start = max(1.0, warmup * total)
    if step < start:
        return (step + 1) / start
    share = (step - start) / max(1.0, total - start)
    return 0.02 + 0.49 * (1.0 + math.cos(math.pi * min(1.0, share)))
