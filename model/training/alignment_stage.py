"""S2: the projection heads learn one space for three modalities, encoders frozen."""

from __future__ import annotations

import torch
from torch import Tensor

from model.network.fusion import Tokens, TriModalModel
from model.training.cached_tokens import Prepared, cache_tokens, pick
from model.training.companion import Companion
from model.training.objective import Objective
from model.training.optimise import Schedule, in_batches, optimise


def train_alignment(
    model: TriModalModel,
    objective: Objective,
    data: Prepared,
    schedule: Schedule,
    *,
    seed: int,
    progress: bool,
    companion: Companion = Companion(),
) -> list[float]:
    """S2: the projection heads learn L_con on cached tokens; the model stays as it is.

    Args:
        model: Whose encoders give the tokens.
        objective: With the projection heads.
        data: Training records.
        schedule: Epochs and learning rate.
        seed: Order of the batches.
        progress: Draw a bar.
        companion: Held-out loss, early stopping, state.

    Returns:
        Loss per epoch; empty without projection heads.
    """
    alignment = objective.alignment
    if alignment is None:
        return []
    tokens = cache_tokens(model, data.inputs)
    fresh = companion.fresh
    fresh_tokens = None if fresh is None else cache_tokens(model, fresh.inputs)

    def loss_of(part: Prepared, kept: Tokens, rows: Tensor) -> Tensor:
        present = part.inputs.present[rows]
        patient, answers = part.patients()[rows], part.answers()[rows]
        return alignment.loss(pick(kept, rows), present, patient, answers)

    @torch.no_grad()
    def held_out() -> float:
        assert fresh is not None and fresh_tokens is not None
        every = torch.arange(len(fresh.targets))
        parts = [rows for rows in in_batches(every, schedule.batch) if len(rows) > 1]
        losses = [float(loss_of(fresh, fresh_tokens, rows)) for rows in parts]
        return sum(losses) / max(1, len(losses))

    return optimise(
        f"S2 alignment{companion.suffix}",
        alignment.parameters(),
        len(data.inputs),
        lambda rows: loss_of(data, tokens, rows),
        schedule,
        seed=seed,
        progress=progress,
        watch=companion.watch(held_out if fresh is not None else None),
    )
