"""Self-supervised objectives of S1: hide a part of one modality, tell it from the rest.

Film: half of the patches are blanked, a linear decoder restores their pixels from the
tokens (after SimMIM, Xie et al., 2022). Note: 15 % of the pieces are hidden as in BERT
and told from their tokens. Values: 30 % of the measurements lose value and flag; their
piecewise-linear code is restored. Needs no label, so it may see any record.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from model.inference.vocabulary import SPECIAL
from model.network.fusion import TriModalModel
from model.network.inputs import IMAGE, MODALITIES, TEXT, TriModalInputs
from model.network.losses import UNKNOWN_CLASS
from model.training.cached_tokens import ENCODE_BATCH, Prepared, one_modality
from model.training.optimise import Schedule, in_batches, optimise
from model.training.training_set import Finding
from model.training.watch import Watch

HIDDEN_SHARE = (0.5, 0.15, 0.3)  # of patches, pieces, measurements
MASK = SPECIAL.index("[MASK]")
_RIDGE = 1.0


class Restorer(nn.Module):
    """Linear decoder from the tokens of one modality to what was hidden."""

    def __init__(self, model: TriModalModel, m: int, inputs: TriModalInputs) -> None:
        super().__init__()
        self.m = m
        self.grid = model.image_encoder.grid
        self.cell = (
            inputs.pixels.shape[-2] // self.grid[0],
            inputs.pixels.shape[-1] // self.grid[1],
        )
        sizes = (
            self.cell[0] * self.cell[1],
            model.config.text.vocabulary,
            inputs.value.shape[-1],
        )
        self.out = nn.Linear(model.config.width, sizes[m])

    def loss(
        self, model: TriModalModel, inputs: TriModalInputs, random: torch.Generator
    ) -> Tensor:
        """Hide, encode, restore: mean loss over what was hidden, 0 if nothing was."""
        if self.m == IMAGE:
            hidden, places = hide_patches(inputs, random, self.grid)
        else:
            hide = hide_words if self.m == TEXT else hide_values
            hidden, places = hide(inputs, random)
        x = one_modality(model, hidden, self.m).content()[self.m]
        guess = self.out(x[:, : places.shape[1]][places])  # (k, size)
        wanted = self._wanted(inputs)[:, : places.shape[1]][places]
        if not len(guess):
            return x.sum() * 0.0 + self.out.weight.sum() * 0.0
        if self.m == TEXT:
            return F.cross_entropy(guess, wanted)
        return F.mse_loss(guess, wanted)

    def _wanted(self, inputs: TriModalInputs) -> Tensor:
        """What each token's place held: pixels, piece or value code."""
        if self.m == TEXT:
            return inputs.input_ids  # (B, Nt)
        if self.m != IMAGE:
            return inputs.value  # (B, Ns, K)
        flat = inputs.pixels.flatten(0, 1)  # (B*V, 1, H, W)
        cells = F.unfold(flat, self.cell, stride=self.cell)  # (B*V, pixels, N)
        views = cells.transpose(1, 2).reshape(
            *inputs.pixels.shape[:2], -1, cells.shape[1]
        )
        return views.flatten(1, 2)


def hide_patches(
    inputs: TriModalInputs, random: torch.Generator, grid: tuple[int, int]
) -> tuple[TriModalInputs, Tensor]:
    """Blank half of the patches of every existing film.

    Args:
        inputs: A batch.
        random: Which patches.
        grid: Rows and columns of patches.

    Returns:
        The batch with zeros there, and the hidden places (B, V * N).
    """
    batch, views = inputs.pixel_mask.shape
    device = inputs.pixels.device
    chance = torch.rand(batch, views, *grid, generator=random).to(device)
    there = inputs.pixel_mask & inputs.present[:, IMAGE : IMAGE + 1]  # (B, V)
    hidden = (chance < HIDDEN_SHARE[IMAGE]) & there[:, :, None, None]  # (B, V, r, c)
    cell = [side // n for side, n in zip(inputs.pixels.shape[-2:], grid)]
    over = hidden.repeat_interleave(cell[0], 2).repeat_interleave(cell[1], 3)
    blank = inputs.pixels.masked_fill(over.unsqueeze(2), 0.0)  # (B, V, 1, H, W)
    return replace(inputs, pixels=blank), hidden.flatten(1)


def hide_words(
    inputs: TriModalInputs, random: torch.Generator
) -> tuple[TriModalInputs, Tensor]:
    """Hide 15 % of the pieces: of these 80 % [MASK], 10 % another piece, 10 % stay.

    Returns:
        The batch with other pieces there, and the hidden places (B, Nt).
    """
    device = inputs.input_ids.device
    shape = inputs.input_ids.shape
    chance = torch.rand(shape, generator=random).to(device)
    word = inputs.attn & (inputs.word >= 0) & inputs.present[:, TEXT : TEXT + 1]
    hidden = (chance < HIDDEN_SHARE[TEXT]) & word  # (B, Nt)
    how = torch.rand(shape, generator=random).to(device)
    highest = int(inputs.input_ids.max()) + 1
    other = torch.randint(
        len(SPECIAL), max(highest, len(SPECIAL) + 1), shape, generator=random
    )
    pieces = inputs.input_ids.masked_fill(hidden & (how < 0.8), MASK)
    pieces = torch.where(hidden & (how >= 0.9), other.to(device), pieces)
    return replace(inputs, input_ids=pieces), hidden


def hide_values(
    inputs: TriModalInputs, random: torch.Generator
) -> tuple[TriModalInputs, Tensor]:
    """Take value and flag of 30 % of the measurements; their code stays.

    Returns:
        The batch without them, and the hidden places (B, Ns).
    """
    chance = torch.rand(inputs.code.shape, generator=random).to(inputs.code.device)
    there = inputs.obs_mask & inputs.present[:, 2:]
    hidden = (chance < HIDDEN_SHARE[2]) & there  # (B, Ns)
    return (
        replace(
            inputs,
            value=inputs.value.masked_fill(hidden.unsqueeze(-1), 0.0),
            flag=inputs.flag.masked_fill(hidden, 0),
        ),
        hidden,
    )


def pretrain_encoder(
    model: TriModalModel,
    m: int,
    data: Prepared,
    schedule: Schedule,
    *,
    seed: int,
    progress: bool,
    watch: Watch = Watch(),
) -> list[float]:
    """Train one encoder on its self-supervised objective; nothing else changes.

    Args:
        model: Its encoder of modality ``m`` learns.
        m: Index into MODALITIES.
        data: Records; their targets are not read.
        schedule: Epochs and learning rate.
        seed: Order of the batches and what is hidden.
        progress: Draw a bar.
        watch: State and bfloat16; the held-out loss is not used here.

    Returns:
        Loss per epoch; empty when no record has the modality.
    """
    have = data.inputs.present[:, m].nonzero().squeeze(1)
    if not len(have):
        return []
    encoder = (model.image_encoder, model.text_encoder, model.values_encoder)[m]
    restorer = Restorer(model, m, data.inputs).to(data.targets.device)
    random = torch.Generator().manual_seed(seed + 2)
    model.train()
    return optimise(
        f"S1 {MODALITIES[m]} self-supervised",
        [*encoder.parameters(), *restorer.parameters()],
        len(have),
        lambda rows: restorer.loss(model, data.inputs.select(have[rows]), random),
        schedule,
        seed=seed,
        progress=progress,
        watch=replace(watch, generators=(random,)),
    )


@torch.no_grad()
def features(
    model: TriModalModel, m: int, inputs: TriModalInputs
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Mean and largest token of one modality (k, 2 D), and the k rows that have it."""
    model.eval()
    have = inputs.present[:, m].nonzero().squeeze(1)
    parts = []
    for rows in in_batches(have, ENCODE_BATCH):
        tokens = one_modality(model, inputs.select(rows), m)
        x, mask = tokens.content()[m], tokens.masks()[m].unsqueeze(-1)
        mean = (x * mask).sum(1) / mask.sum(1).clamp(min=1)  # (b, D)
        most = x.masked_fill(~mask, float("-inf")).amax(1)  # (b, D)
        parts.append(torch.cat([mean, most], 1).double().cpu())
    found: NDArray[np.float64] = torch.cat(parts).numpy()
    return found, have.cpu().numpy()


def linear_probe(
    model: TriModalModel,
    m: int,
    sides: tuple[TriModalInputs, TriModalInputs],
    questions: tuple[Sequence[Finding], Sequence[Finding]],
) -> list[float]:
    """What a ridge classifier reads off the frozen encoder of modality ``m``.

    Args:
        model: As it is; nothing changes.
        m: Index into MODALITIES.
        sides: Records to fit on, and records to score.
        questions: The same questions about both.

    Returns:
        Share of right answers per question on the second side; NaN without answers.
    """
    (seen, fit_rows), (fresh, test_rows) = (features(model, m, x) for x in sides)
    centre, spread = seen.mean(0), seen.std(0) + 1e-6
    seen, fresh = (
        np.column_stack([(x - centre) / spread, np.ones(len(x))]) for x in (seen, fresh)
    )
    shares = []
    for ours, theirs in zip(*questions, strict=True):
        y, truth = ours.target[fit_rows], theirs.target[test_rows]
        known = y != UNKNOWN_CLASS
        x = seen[known]
        wanted = np.eye(ours.classes)[y[known]]
        weight = np.linalg.solve(x.T @ x + _RIDGE * np.eye(x.shape[1]), x.T @ wanted)
        answered = truth != UNKNOWN_CLASS
        right = (fresh @ weight).argmax(1)[answered] == truth[answered]
        shares.append(float(right.mean()) if len(right) else float("nan"))
    return shares
