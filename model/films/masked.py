"""Self-supervised: hide patches of a film and paint them from the rest.

Why this objective and not a contrastive one: it needs no invariance to side or place
(a contrastive pair would call the left and the right lung the same), works with small
batches, and costs one pass per film. Hidden squares are 2 x 2 patches, so that a
patch cannot be copied from its rim; the target is each patch at 4 x 4 pixels.

Source: Xie et al., "SimMIM: a Simple Framework for Masked Image Modeling", CVPR 2022.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from tqdm import tqdm

from model.errors import ConfigurationError
from model.films.film_model import FilmConfig, FilmModel, FilmRun
from model.films.folder import NIH, QUESTIONS
from model.films.pixels import Bytes, augmented, standardised
from model.films.scoring import mean_auroc
from model.films.state_file import read_state, write_state
from model.films.training_set import FilmSet

FINE = 4
BLOCK = 2
STATE_FILE = "masked.safetensors"


@dataclass(frozen=True, slots=True)
class MaskedSettings:
    """One run; ``hidden`` is the share of the film that is painted over.

    ``films`` of the set are shown per epoch, chosen anew each time.
    """

    epochs: int = 8
    films: int = 3000
    rate: float = 1e-3
    batch: int = 32
    hidden: float = 0.5
    weight_decay: float = 0.05
    seed: int = 11
    threads: int = 1
    progress: bool = True


def patch_targets(films: Tensor, grid: tuple[int, int]) -> Tensor:
    """What each patch shows at 4 x 4 pixels: (b, 1, S, S) -> (b, N, 16)."""
    small = F.adaptive_avg_pool2d(films, (grid[0] * FINE, grid[1] * FINE))
    cells: Tensor = F.unfold(small, FINE, stride=FINE)  # (b, 16, N)
    return cells.transpose(1, 2)


def hidden_patches(
    batch: int, grid: tuple[int, int], share: float, random: torch.Generator
) -> Tensor:
    """Which patches are painted over: (b, rows, columns) bool, in 2 x 2 squares."""
    shape = (batch, math.ceil(grid[0] / BLOCK), math.ceil(grid[1] / BLOCK))
    squares = torch.rand(shape, generator=random) < share
    spread = squares.repeat_interleave(BLOCK, 1).repeat_interleave(BLOCK, 2)
    return spread[:, : grid[0], : grid[1]]


def masked_loss(
    model: FilmModel, painter: nn.Linear, films: Tensor, hidden: Tensor
) -> Tensor:
    """Mean squared error of the hidden patches, in deviations of the film; a scalar.

    Args:
        model: Its encoder is taught.
        painter: (D -> 16), thrown away afterwards.
        films: (b, 1, S, S) standardised.
        hidden: (b, rows, columns).
    """
    veil = F.interpolate(hidden.float().unsqueeze(1), films.shape[-2:])  # (b, 1, S, S)
    seen = (films * (1 - veil)).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        tokens = model.tokens(seen)  # (b, N, D)
    painted = painter(tokens.float())  # (b, N, 16)
    error = (painted - patch_targets(films, model.encoder.grid)).square().mean(-1)
    there = hidden.flatten(1)  # (b, N)
    loss: Tensor = (error * there).sum() / there.sum().clamp(min=1)
    return loss


def pretrain_masked(
    films: Bytes,
    config: FilmConfig,
    settings: MaskedSettings,
    *,
    state: Path | None = None,
) -> FilmRun:
    """Teach an encoder by painting hidden patches; labels are never read.

    Args:
        films: (n, S, S) bytes of training patients.
        config: Sizes; the heads stay as they were initialised.
        settings: Schedule, share of hidden patches, seed.
        state: Folder of the state file from which an interrupted run goes on.

    Raises:
        ConfigurationError: no films, or a state of other settings.
    """
    if not len(films):
        raise ConfigurationError("no films to paint")
    torch.set_num_threads(max(1, settings.threads))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = FilmModel(config)
        painter = nn.Linear(config.width, FINE * FINE)
        losses = _paint(model, painter, films, settings, state)
    record = {"masked": asdict(settings), "masked_films": len(films), "losses": losses}
    return FilmRun(model.eval(), record)


def _paint(
    model: FilmModel,
    painter: nn.Linear,
    films: Bytes,
    settings: MaskedSettings,
    state: Path | None,
) -> list[float]:
    """The loop; returns the loss of every epoch."""
    shown = min(settings.films, len(films))
    total = settings.epochs * math.ceil(shown / settings.batch)
    both = nn.ModuleList([model, painter])
    optimiser = torch.optim.AdamW(
        both.parameters(), lr=settings.rate, weight_decay=settings.weight_decay
    )
    slope = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, settings.rate, total_steps=total + 1, pct_start=0.1
    )
    file = None if state is None else state / STATE_FILE
    losses = _resumed(file, settings, both, optimiser, slope)
    for epoch in range(len(losses), settings.epochs):
        random = torch.Generator().manual_seed(settings.seed * 1000 + epoch)
        rows = torch.randperm(len(films), generator=random)[:shown].numpy()
        model.train()
        summed = 0.0
        bar = tqdm(
            range(0, shown, settings.batch),
            desc=f"masked {epoch + 1}/{settings.epochs}",
            disable=not settings.progress,
            mininterval=5.0,
            leave=False,
        )
        for start in bar:
            batch = np.sort(rows[start : start + settings.batch])
            x, _ = augmented(films[batch], random)
            grid = model.encoder.grid
            hidden = hidden_patches(len(batch), grid, settings.hidden, random)
            loss = masked_loss(model, painter, x, hidden)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(both.parameters(), 1.0)
            optimiser.step()
            slope.step()
            summed += float(loss.detach()) * len(batch)
        losses.append(summed / shown)
        if settings.progress:
            tqdm.write(f"masked epoch {epoch + 1}: {losses[-1]:.4f}")
        if file is not None:
            kept = {"settings": asdict(settings), "losses": losses}
            parts: dict[str, Any] = {
                "both": both,
                "optimiser": optimiser,
                "slope": slope,
            }
            write_state(file, kept | {n: p.state_dict() for n, p in parts.items()})
    return losses


def _resumed(
    file: Path | None,
    settings: MaskedSettings,
    both: nn.Module,
    optimiser: torch.optim.Optimizer,
    slope: torch.optim.lr_scheduler.LRScheduler,
) -> list[float]:
    """Losses of the epochs that an earlier process finished; fills what it left."""
    if file is None or not file.is_file():
        return []
    kept = read_state(file)
    if kept["settings"] != asdict(settings):
        raise ConfigurationError("the state file is of a run with other settings")
    both.load_state_dict(kept["both"])
    optimiser.load_state_dict(kept["optimiser"])
    slope.load_state_dict(kept["slope"])
    return list(kept["losses"])


def probe(model: FilmModel, training: FilmSet, held_out: FilmSet) -> float:
    """What frozen features tell: mean held-out AUROC of a logistic regression.

    Args:
        model: Its encoder is read, never changed; features are the mean and the
            deviation of the patch features before their projection.
        training: Films with answers of the first source.
        held_out: Of other patients.
    """
    source = model.config.sources[0]
    inside, outside = features(model, training.films), features(model, held_out.films)
    truth, wanted = training.targets[0], held_out.targets[0]
    scores = np.zeros_like(wanted)
    for question in range(len(QUESTIONS[source])):
        known = ~np.isnan(truth[:, question])
        if len(np.unique(truth[known, question])) < 2:
            continue
        reader = make_pipeline(
            StandardScaler(), LogisticRegression(C=0.01, max_iter=500)
        )
        reader.fit(inside[known], truth[known, question])
        scores[:, question] = reader.decision_function(outside)
    found: float = mean_auroc(scores, wanted, without_none=source == NIH)
    return found


def probe_report(
    run: FilmRun, training: FilmSet, tested: FilmSet, *, random: int = 3
) -> dict[str, Any]:
    """The probe after painting beside that of encoders with random weights; JSON.

    Args:
        run: Of :func:`pretrain_masked`.
        training: Films with answers of the first source.
        tested: Of other patients.
        random: How many random encoders, of seeds 0, 1, ...
    """
    config, found = run.model.config, []
    for seed in range(random):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            found.append(probe(FilmModel(config), training, tested))
    masked = probe(run.model, training, tested)
    return {
        "size": config.image.size,
        "settings": run.record["masked"],
        "losses": list(run.record["losses"]),
        "films": {"train": len(training), "test": len(tested)},
        "masked": masked,
        "random": found,
        "holds": bool(masked > max(found)),
    }


@torch.no_grad()
def features(model: FilmModel, films: Bytes) -> NDArray[np.float32]:
    """Mean and deviation of the patch features of films (n, S, S): (n, 2W)."""
    model.eval()
    found = [torch.zeros(0, 2 * model.encoder.vit.num_features)]
    for start in range(0, len(films), 64):
        x = standardised(films[start : start + 64])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            cells = model.encoder.vit.forward_features(x).float().flatten(2)
        found.append(torch.cat([cells.mean(-1), cells.std(-1)], dim=1))
    table: NDArray[np.float32] = torch.cat(found).numpy()
    return table


def epochs_of(losses: Sequence[float]) -> str:
    """First and last loss in words, for a report."""
    if not losses:
        return "not run"
    return f"{losses[0]:.3f} to {losses[-1]:.3f} in {len(losses)} epochs"
