"""Teach the image encoder real films: masked labels, one head per source.

Class-balanced cross-entropy over what each source was asked, boxes where there are
any, an exponential average of the weights, early stopping on the validation patients,
and a state file after every epoch from which an interrupted run goes on.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from model.errors import ConfigurationError
from model.films.boxes import box_loss, patch_boxes
from model.films.film_model import FilmConfig, FilmModel, FilmRun, begin_from
from model.films.folder import NIH, QUESTIONS
from model.films.pixels import Bytes, augmented, standardised, views
from model.films.scoring import mean_auroc
from model.films.state_file import read_state, write_state
from model.films.training_set import FilmSet

STATE_FILE = "state.safetensors"
MAX_BALANCE = 6.0


@dataclass(frozen=True, slots=True)
class FilmSettings:
    """One run.

    ``share`` is the part of the films of every source but the first that one epoch
    shows (chosen anew each time): the first source has the questions that count.
    ``patience`` is in epochs without a better validation score. ``boxes`` weighs the
    explainability loss on training boxes. ``average`` is the decay per step.
    ``mirror`` mirrors every second film. ``until`` ends the run after so many epochs
    of the schedule, for a run at another film size to go on from; 0 runs all of it.
    """

    epochs: int = 30
    until: int = 0
    rate: float = 2e-3
    batch: int = 32
    weight_decay: float = 0.05
    average: float = 0.995
    patience: int = 10
    share: float = 0.3
    boxes: float = 0.0
    smoothing: float = 0.02
    mirror: bool = False
    seed: int = 7
    threads: int = 1
    progress: bool = True


@dataclass
class _Progress:
    """What is kept between epochs, and written to the state file."""

    epoch: int = 0
    best: float = -math.inf
    since: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    weights: dict[str, Tensor] = field(default_factory=dict)


def balance(targets: NDArray[np.float32]) -> Tensor:
    """Weight of a positive per question: sqrt(negatives / positives), at most 6.

    The root, because the full ratio lets three hernias outweigh everything.
    """
    positive, known = (targets == 1).sum(0), (~np.isnan(targets)).sum(0)
    ratio = (known - positive) / np.maximum(positive, 1)
    kept = np.sqrt(np.clip(ratio, 1.0, MAX_BALANCE**2))
    return torch.from_numpy(kept.astype(np.float32))


def masked_loss(
    logits: Tensor, targets: Tensor, weight: Tensor, smoothing: float
) -> Tensor:
    """Balanced cross-entropy over the asked questions.

    Args:
        logits: (b, questions).
        targets: (b, questions), NaN where nobody asked.
        weight: (questions,) of a positive.
        smoothing: Labels read from reports are wrong now and then.

    Returns:
        Sum over the asked divided by b, so a source counts by its films; 0 for none.
    """
    known = ~targets.isnan()
    wanted = targets.nan_to_num() * (1 - 2 * smoothing) + smoothing
    loss = F.binary_cross_entropy_with_logits(
        logits.float(), wanted, reduction="none", pos_weight=weight
    )
    per_film = (loss * known).sum(1) / known.sum(1).clamp(min=1)  # (b,)
    return per_film.sum() / len(targets)


def predict(
    model: FilmModel, films: Bytes, source: str, *, averaged: bool = False
) -> NDArray[np.float32]:
    """Logits (n, questions of ``source``) of films (n, S, S).

    Args:
        model: The film model.
        films: As bytes.
        source: Whose questions.
        averaged: Mean over the views of :func:`model.films.pixels.views`.
    """
    head = model.place(source)
    found = [torch.zeros(0, len(QUESTIONS[source]))]
    model.eval()
    with torch.no_grad():
        for start in range(0, len(films), 64):
            x = standardised(films[start : start + 64])
            shown = views(x) if averaged else [x]
            with torch.autocast("cpu", dtype=torch.bfloat16):
                answers = [model(view)[head].float() for view in shown]
            found.append(torch.stack(answers).mean(0))
    table: NDArray[np.float32] = torch.cat(found).numpy()
    return table


def pretrain(
    training: FilmSet,
    held_out: FilmSet,
    config: FilmConfig,
    settings: FilmSettings,
    *,
    start: FilmModel | None = None,
    state: Path | None = None,
) -> FilmRun:
    """Train a film model.

    Args:
        training: Films of the training patients.
        held_out: Of other patients: stops the run and chooses the epoch.
        config: Sizes and heads.
        settings: Schedule, balance, seed.
        start: Weights to begin with (self-supervised, or of an earlier run).
        state: Folder of the state file; an interrupted run of the same settings
            goes on from there.

    Returns:
        The averaged weights of the best epoch.

    Raises:
        ConfigurationError: nothing to train on, or a state of other settings.
    """
    if not len(training) or not len(held_out):
        raise ConfigurationError("no films to train or to validate on")
    torch.set_num_threads(max(1, settings.threads))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = FilmModel(config)
        if start is not None:
            begin_from(model, start)
        run = _Run(model, training, held_out, settings, state)
        return run.finish()


class _Run:
    """One training run: model, average, optimiser, and where it stands."""

    def __init__(
        self,
        model: FilmModel,
        training: FilmSet,
        held_out: FilmSet,
        settings: FilmSettings,
        state: Path | None,
    ) -> None:
        self.model = model
        self.training, self.held_out, self.settings = training, held_out, settings
        self.weights = [balance(t) for t in training.targets]
        self.targets = [torch.from_numpy(t) for t in training.targets]
        asked = [~np.isnan(t).all(1) for t in training.targets]
        self.pools = [np.flatnonzero(a) for a in asked]
        self.boxes = patch_boxes(training.rows, model.config, model.encoder.grid)
        self.per_epoch = math.ceil(len(self._epoch_rows(0)) / settings.batch)
        self.optimiser = torch.optim.AdamW(
            _groups(model, settings.weight_decay), lr=settings.rate
        )
        total = max(1, self.per_epoch * settings.epochs)
        self.slope = torch.optim.lr_scheduler.LambdaLR(
            self.optimiser, lambda step: _rate(step, total)
        )
        average_of = torch.optim.swa_utils.get_ema_multi_avg_fn
        average = average_of(settings.average)  # type: ignore[no-untyped-call]
        self.average = torch.optim.swa_utils.AveragedModel(
            model,
            multi_avg_fn=average,
            use_buffers=True,
        )
        self.now = _Progress()
        self.file = None if state is None else state / STATE_FILE
        if self.file is not None and self.file.is_file():
            self._resume(self.file)

    def finish(self) -> FilmRun:
        """Run the remaining epochs; returns the best averaged weights."""
        settings = self.settings
        last = min(settings.epochs, settings.until or settings.epochs)
        while self.now.epoch < last and self.now.since < settings.patience:
            loss = self._epoch()
            averaged: Any = self.average.module
            score = validation_score(averaged, self.held_out)
            better = score > self.now.best
            self.now.since = 0 if better else self.now.since + 1
            if better:
                self.now.best = score
                self.now.weights = _copy(averaged)
            self.now.epoch += 1
            self.now.history.append({"loss": loss, "validation_auroc": score})
            if settings.progress:
                tqdm.write(f"epoch {self.now.epoch}: {loss:.4f}, AUROC {score:.4f}")
            self._keep()
        self.model.load_state_dict(self.now.weights)
        record = {
            "settings": asdict(settings),
            "films": len(self.training),
            "history": self.now.history,
            "validation_auroc": self.now.best,
        }
        return FilmRun(self.model.eval(), record)

    def _epoch_rows(self, epoch: int) -> NDArray[np.int64]:
        """All films of the first source, a share of the others, shuffled."""
        random = np.random.default_rng((self.settings.seed, epoch))
        chosen = [self.pools[0]]
        for pool in self.pools[1:]:
            count = round(self.settings.share * len(pool))
            chosen.append(random.permutation(pool)[:count])
        return random.permutation(np.concatenate(chosen))

    def _epoch(self) -> float:
        """One pass; returns the mean loss."""
        settings, summed = self.settings, 0.0
        rows = self._epoch_rows(self.now.epoch)
        random = torch.Generator().manual_seed(settings.seed * 1000 + self.now.epoch)
        self.model.train()
        bar = tqdm(
            range(0, len(rows), settings.batch),
            desc=f"films {self.now.epoch + 1}/{settings.epochs}",
            disable=not settings.progress,
            mininterval=5.0,
            leave=False,
        )
        for start in bar:
            batch = rows[start : start + settings.batch]
            loss = self._loss(batch, random)
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimiser.step()
            self.slope.step()
            self.average.update_parameters(self.model)
            summed += float(loss.detach()) * len(batch)
        return summed / len(rows)

    def _loss(self, batch: NDArray[np.int64], random: torch.Generator) -> Tensor:
        films, place = augmented(
            self.training.films[batch], random, mirror=self.settings.mirror
        )
        films = films.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            tokens = self.model.tokens(films)  # (b, N, D)
        tokens = tokens.float()
        logits = self.model.answers(tokens)
        parts = [
            masked_loss(found, target[batch], weight, self.settings.smoothing)
            for found, target, weight in zip(logits, self.targets, self.weights)
        ]
        total = torch.stack(parts).sum()
        if self.settings.boxes and self.boxes is not None:
            extra = box_loss(self.model, tokens, self.boxes.moved(batch, place))
            total = total + self.settings.boxes * extra
        return total

    def _keep(self) -> None:
        if self.file is None:
            return
        state = {
            "settings": asdict(self.settings),
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "slope": self.slope.state_dict(),
            "progress": asdict(self.now),
        }
        write_state(self.file, state)

    def _resume(self, file: Path) -> None:
        state = read_state(file)
        if state["settings"] != asdict(self.settings):
            raise ConfigurationError("the state file is of a run with other settings")
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.slope.load_state_dict(state["slope"])
        self.now = _Progress(**state["progress"])


def validation_score(model: FilmModel, held_out: FilmSet) -> float:
    """Mean AUROC over the findings of the first source; early stopping reads it.

    Raises:
        ConfigurationError: the films hold no finding with both answers.
    """
    source = model.config.sources[0]
    asked = ~np.isnan(held_out.targets[0]).all(1)
    if not asked.any():
        raise ConfigurationError("no validation film of the first source")
    logits = predict(model, held_out.films[asked], source)
    truth = held_out.targets[0][asked]
    score = mean_auroc(logits, truth, without_none=source == NIH)
    if math.isnan(score):
        raise ConfigurationError("no finding with both answers to validate on")
    return score


def _groups(model: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Weight decay for matrices and kernels, none for biases and norms."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    return [
        {"params": decayed, "weight_decay": decay},
        {"params": plain, "weight_decay": 0.0},
    ]


def _copy(model: nn.Module) -> dict[str, Tensor]:
    return {name: x.detach().clone() for name, x in model.state_dict().items()}


def _rate(step: int, total: int) -> float:
    """A tenth of the steps warm up, then half a cosine down to 1 %."""
    start = max(1.0, 0.1 * total)
    if step < start:
        return (step + 1) / start
    share = (step - start) / max(1.0, total - start)
    return 0.01 + 0.495 * (1.0 + math.cos(math.pi * min(1.0, share)))
