"""Fine-tune a head on a BERT: the loop that the tagger and the choice head share.

The encoder learns at a lower rate than the new head. The rate warms up and then falls
along a straight line. Batches hold examples of like length, in random order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

E = TypeVar("E")
_DECAY = 0.01


@dataclass(frozen=True, slots=True)
class FineTuneSettings:
    """``rate`` is the head's peak, ``encoder_share`` the encoder's part of it.

    ``batch`` counts examples, ``warmup`` is a share of the steps.
    """

    epochs: int = 4
    rate: float = 1e-3
    encoder_share: float = 0.3
    batch: int = 16
    warmup: float = 0.1
    seed: int = 7


def fine_tune(
    model: nn.Module,
    encoder: nn.Module,
    examples: Sequence[E],
    settings: FineTuneSettings,
    *,
    length: Callable[[E], int],
    loss_of: Callable[[Sequence[E]], Tensor],
    name: str,
    progress: bool = True,
) -> list[float]:
    """Train in place.

    Args:
        model: Encoder and head.
        encoder: The part of ``model`` that learns more slowly.
        examples: At least one.
        settings: Schedule and seed.
        length: Pieces of an example; examples of like length share a batch.
        loss_of: Mean loss of a batch.
        name: What the bar says.
        progress: Draw a bar.

    Returns:
        Mean loss of each epoch.
    """
    torch.manual_seed(settings.seed)
    steps = settings.epochs * math.ceil(len(examples) / settings.batch)
    optimiser = torch.optim.AdamW(rates(model, encoder, settings), weight_decay=_DECAY)
    slope = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: pace(step, steps, settings.warmup)
    )
    lengths = [length(example) for example in examples]
    losses = []
    model.train()
    with tqdm(total=steps, desc=name, disable=not progress, mininterval=5) as bar:
        for epoch in range(settings.epochs):
            summed = 0.0
            for rows in batches(lengths, settings, epoch):
                loss = loss_of([examples[row] for row in rows])
                optimiser.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimiser.step()
                slope.step()
                summed += float(loss.detach()) * len(rows)
                bar.update()
            losses.append(summed / len(examples))
            bar.set_postfix(loss=f"{losses[-1]:.4f}")
    return losses


def rates(
    model: nn.Module, encoder: nn.Module, settings: FineTuneSettings
) -> list[dict[str, object]]:
    """Parameter groups: the encoder's, then all others."""
    slow = list(encoder.parameters())
    known = {id(parameter) for parameter in slow}
    return [
        {"params": slow, "lr": settings.rate * settings.encoder_share},
        {
            "params": [p for p in model.parameters() if id(p) not in known],
            "lr": settings.rate,
        },
    ]


def pace(step: int, total: int, warmup: float) -> float:
    """Share of the peak rate: up, then down along a straight line."""
    start = max(1, round(warmup * total))
    if step < start:
        return (step + 1) / start
    return max(0.0, (total - step) / max(1, total - start))


def batches(
    lengths: Sequence[int], settings: FineTuneSettings, epoch: int
) -> list[list[int]]:
    """Places of examples of like length, in random order: little is padded."""
    rng = np.random.default_rng((settings.seed, epoch))
    noise = rng.uniform(0.9, 1.1, len(lengths))
    order = np.argsort([size * n for size, n in zip(lengths, noise)])
    starts = np.arange(0, len(lengths), settings.batch)
    rng.shuffle(starts)
    return [order[start : start + settings.batch].tolist() for start in starts]
