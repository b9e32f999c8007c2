"""One optimisation loop for all stages: AdamW, one warm-up, one cosine, one average.

What accompanies a loop (held-out loss, early stopping, a state file after each epoch)
is in :class:`Watch`; without it the loop draws the same random numbers and ends in the
same weights.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from model.training.running_average import RunningAverage, put
from model.training.watch import State, Watch

__all__ = ["RunningAverage", "Schedule", "Watch", "in_batches", "optimise"]

#: Largest norm of a step's gradient.
CLIP = 1.0


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


def optimise(
    name: str,
    parameters: Iterable[nn.Parameter],
    records: int,
    batch_loss: Callable[[Tensor], Tensor],
    schedule: Schedule,
    *,
    seed: int,
    progress: bool = True,
    slow: Iterable[nn.Parameter] = (),
    slow_share: float = 0.1,
    watch: Watch = Watch(),
) -> list[float]:
    """Minimise ``batch_loss`` over shuffled batches.

    Args:
        name: Shown beside the progress bar; names the stage's state.
        parameters: What may change.
        records: Number of records; batches are tensors of row numbers below it.
        batch_loss: Rows (b,) to a scalar loss.
        schedule: Epochs, learning rate and the rest.
        seed: Order of the batches.
        progress: Draw a bar on standard error.
        slow: Further parameters, at a share of the learning rate.
        slow_share: That share.
        watch: Held-out loss, early stopping, state; see :class:`Watch`.

    Returns:
        Mean loss of each epoch.
    """
    loop = _Loop(name, (parameters, slow, slow_share), records, schedule, seed, watch)
    loop.restore()
    total = loop.per_epoch * schedule.epochs
    with tqdm(
        total=max(1, total),
        initial=loop.step,
        desc=name,
        disable=not progress,
        leave=True,
    ) as bar:
        while not loop.finished:
            loop.epoch(batch_loss, bar)
            bar.set_postfix(loss=f"{loop.losses[-1]:.4f}")
    return loop.losses


class _Loop:
    """The state of one optimisation, between epochs."""

    def __init__(
        self,
        name: str,
        parameters: tuple[Iterable[nn.Parameter], Iterable[nn.Parameter], float],
        records: int,
        schedule: Schedule,
        seed: int,
        watch: Watch,
    ) -> None:
        fast, slow = ([p for p in part if p.requires_grad] for part in parameters[:2])
        self.name, self.records, self.schedule = name, records, schedule
        self.watch = watch
        self.trainable = [*fast, *slow]
        rates = (schedule.rate, schedule.rate * parameters[2])
        self.rates = [rate for rate, part in zip(rates, (fast, slow)) if part]
        groups = [{"params": part} for part in (fast, slow) if part]
        self.optimiser = torch.optim.AdamW(
            groups, lr=schedule.rate, weight_decay=schedule.weight_decay
        )
        self.average = RunningAverage(self.trainable, schedule.average)
        self.order = torch.Generator().manual_seed(seed)
        self.per_epoch = math.ceil(records / schedule.batch)
        self.total = max(1, self.per_epoch * schedule.epochs)
        self.step = 0
        self.losses: list[float] = []
        self.best: list[Tensor] = []
        self.best_loss = math.inf
        self.waited = 0
        self.finished = schedule.epochs == 0
        self.device = self.trainable[0].device
        self.half = watch.bfloat16 and self.device.type == "cuda"

    def epoch(self, batch_loss: Callable[[Tensor], Tensor], bar: Any) -> None:
        """One pass over the records, then what accompanies it."""
        start, summed = time.monotonic(), 0.0
        shuffled = torch.randperm(self.records, generator=self.order)
        for rows in in_batches(shuffled, self.schedule.batch):
            summed += self._one_step(batch_loss, rows) * len(rows)
            bar.update()
        self.losses.append(summed / self.records)
        held_out = self._held_out()
        self.finished = self._enough(held_out)
        if self.finished:
            self._settle()
        figures = {"loss": self.losses[-1], "rate": self._rate_now()}
        if held_out is not None:
            figures["held_out_loss"] = held_out
        figures["seconds"] = round(time.monotonic() - start, 2)
        if self.watch.keeper is not None:
            self.watch.keeper.record(self.name, len(self.losses), figures)
            self.watch.keeper.save(self.name, self._state())

    def _one_step(self, batch_loss: Callable[[Tensor], Tensor], rows: Tensor) -> float:
        share = _rate(self.step, self.total, self.schedule.warmup)
        for group, rate in zip(self.optimiser.param_groups, self.rates):
            group["lr"] = rate * share
        with torch.autocast("cuda", torch.bfloat16, enabled=self.half):
            loss = batch_loss(rows)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.trainable, CLIP)
        self.optimiser.step()
        self.step += 1
        if self.schedule.average:
            self.average.update()
        return float(loss.detach())

    def _rate_now(self) -> float:
        return self.schedule.rate * _rate(self.step, self.total, self.schedule.warmup)

    def _held_out(self) -> float | None:
        """Loss on held-out records, with the weights that would be kept."""
        if self.watch.held_out is None:
            return None
        if not self.schedule.average:
            return self.watch.held_out()
        with self.average.in_place():
            return self.watch.held_out()

    def _enough(self, held_out: float | None) -> bool:
        """Whether this was the last epoch; remembers the best weights."""
        if self.watch.patience and held_out is not None:
            self.waited += 1
            if held_out < self.best_loss:
                self.best_loss, self.waited = held_out, 0
                kept = self.average.shadow if self.schedule.average else self.trainable
                self.best = [x.detach().clone() for x in kept]
            if self.waited >= self.watch.patience:
                return True
        return len(self.losses) >= self.schedule.epochs

    def _settle(self) -> None:
        """Put the weights in place that the stage ends with."""
        if self.best:
            put(self.best, self.trainable)
        elif self.schedule.average:
            self.average.apply()

    def _state(self) -> State:
        """Everything the next epoch depends on; after the last one, the weights."""
        tensors = _numbered("parameter", self.trainable)
        tensors["random.torch"] = torch.get_rng_state()
        if self.device.type == "cuda":
            tensors["random.cuda"] = torch.cuda.get_rng_state(self.device)
        for name, random in self._generators():
            tensors[name] = random.get_state()
        plain: dict[str, Any] = {
            "step": self.step,
            "losses": self.losses,
            "finished": self.finished,
            "best_loss": self.best_loss if self.best else None,
            "waited": self.waited,
        }
        if not self.finished:
            tensors |= _numbered("average", self.average.shadow)
            tensors |= _numbered("best", self.best)
            plain["averaged"] = self.average.steps
            for i, parameter in enumerate(self.trainable):
                for key, x in self.optimiser.state.get(parameter, {}).items():
                    tensors[f"optimiser.{i}.{key}"] = x.detach().clone()
        return tensors, plain

    def _generators(self) -> list[tuple[str, torch.Generator]]:
        own = [("random.order", self.order)]
        more = enumerate(self.watch.generators)
        return own + [(f"random.{i}", generator) for i, generator in more]

    def restore(self) -> None:
        """Continue where the stored state of this stage ends, if there is one."""
        if self.watch.keeper is None:
            return
        state = self.watch.keeper.load(self.name)
        if state is None:
            return
        tensors, plain = state
        put(_with_prefix("parameter", tensors), self.trainable)
        torch.set_rng_state(tensors["random.torch"])
        if "random.cuda" in tensors:
            torch.cuda.set_rng_state(tensors["random.cuda"], self.device)
        for name, generator in self._generators():
            generator.set_state(tensors[name])
        self.step, self.losses = int(plain["step"]), list(plain["losses"])
        self.finished, self.waited = bool(plain["finished"]), int(plain["waited"])
        if self.finished:
            return
        device = self.device
        if plain["best_loss"] is not None:
            self.best_loss = float(plain["best_loss"])
            self.best = [x.to(device) for x in _with_prefix("best", tensors)]
        self.average.shadow = [x.to(device) for x in _with_prefix("average", tensors)]
        self.average.steps = int(plain["averaged"])
        for i, parameter in enumerate(self.trainable):
            prefix = f"optimiser.{i}."
            kept = {
                name.removeprefix(prefix): x
                for name, x in tensors.items()
                if name.startswith(prefix)
            }
            if kept:
                self.optimiser.state[parameter] = {
                    key: x if key == "step" else x.to(device) for key, x in kept.items()
                }


def _numbered(prefix: str, tensors: Sequence[Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{i}": x.detach().clone() for i, x in enumerate(tensors)}


def _with_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> list[Tensor]:
    """The tensors that :func:`_numbered` named, in their order."""
    count = sum(name.startswith(f"{prefix}.") for name in tensors)
    return [tensors[f"{prefix}.{i}"] for i in range(count)]


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
