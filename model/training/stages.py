"""The stages of training: encoders alone, alignment, fusion on cached tokens, or all.

The three-way concordance that the fused estimate needs is not found end to end from
scratch: gradients through an untrained encoder do not say what the other two show.
Staged, the fusion module starts from tokens that already tell what each modality can.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from model.network.fusion import Tokens, TriModalModel
from model.network.inputs import TriModalInputs
from model.training.alignment_stage import train_alignment
from model.training.cached_tokens import (
    ENCODE_BATCH,
    PROPER_SUBSETS,
    Prepared,
    cache_tokens,
    drop_modalities,
    one_modality,
    pick,
    summarise,
)
from model.training.companion import Companion
from model.training.encoder_stage import probe, train_encoder
from model.training.objective import Objective
from model.training.optimise import Schedule, in_batches, optimise

__all__ = [
    "PROPER_SUBSETS",
    "Companion",
    "Prepared",
    "cache_tokens",
    "drop_modalities",
    "fusion_parameters",
    "one_modality",
    "pick",
    "probe",
    "summarise",
    "train_alignment",
    "train_encoder",
    "train_everything",
    "train_fusion",
]

#: Share of the learning rate that encoders get once the fusion is there (S4).
ENCODER_SHARE = 0.1


def fusion_parameters(model: TriModalModel) -> list[nn.Parameter]:
    """Everything that is neither an encoder nor its pool."""
    return [p for name, p in model.named_parameters() if not _of_encoder(name)]


def encoder_parameters(model: TriModalModel) -> list[nn.Parameter]:
    """The encoders and their pools."""
    return [p for name, p in model.named_parameters() if _of_encoder(name)]


def _of_encoder(name: str) -> bool:
    return "_encoder." in name or name.startswith("pools.")


def train_fusion(
    model: TriModalModel,
    data: Prepared,
    schedules: tuple[Schedule, Schedule],
    *,
    dropout: float,
    seed: int,
    progress: bool,
    objective: Objective = Objective(),
    companion: Companion = Companion(),
    tokens: Tokens | None = None,
) -> dict[str, list[float]]:
    """S3: fusion on cached tokens, encoders and pools frozen.

    First on one pooled token per modality: a hundred times fewer tokens, so that the
    agreement of three modalities is found in seconds. Then on all tokens, so that the
    cross-attention learns to read them.

    Args:
        model: Everything but its encoders and pools changes.
        data: Training records.
        schedules: On pooled tokens, on all tokens.
        dropout: Chance of hiding modalities of a record.
        seed: Order of the batches and choice of the hidden.
        progress: Draw bars.
        objective: What is minimised; explanations need the second step's tokens, and
            alignment has nothing to change here.
        companion: Held-out loss, early stopping, state.
        tokens: Of the training records, where they are known already.

    Returns:
        Loss per epoch of both steps.
    """
    if tokens is None:
        tokens = cache_tokens(model, data.inputs)
    pooled = summarise(model, tokens)
    whole = fresh_pooled = None
    if companion.fresh is not None:
        whole = cache_tokens(model, companion.fresh.inputs)
        fresh_pooled = summarise(model, whole)
    explained = objective.on_cached(model)
    losses = {}
    for name, source, fresh, goal, schedule in (
        ("pooled", pooled, fresh_pooled, objective.classification_only(), schedules[0]),
        ("tokens", tokens, whole, explained, schedules[1]),
    ):
        losses[name] = _train_whole(
            f"S3 {name}",
            model,
            (fusion_parameters(model), []),
            (_picked(source), None if fresh is None else _picked(fresh)),
            data,
            schedule,
            (dropout, seed, progress),
            goal,
            companion,
        )
    return losses


def _picked(tokens: Tokens) -> Callable[[Tensor], Tokens]:
    return lambda rows: pick(tokens, rows)


def train_everything(
    name: str,
    model: TriModalModel,
    data: Prepared,
    schedule: Schedule,
    *,
    dropout: float,
    seed: int,
    progress: bool,
    encoder_share: float = 1.0,
    objective: Objective = Objective(),
    companion: Companion = Companion(),
) -> list[float]:
    """S4, or the whole training when nothing came before: all parameters at once.

    Args:
        name: Of the stage.
        model: All of it changes.
        data: Training records.
        schedule: Epochs and learning rate of the fusion.
        dropout: Chance of hiding modalities of a record.
        seed: Order of the batches and choice of the hidden.
        progress: Draw a bar.
        encoder_share: Share of the learning rate that encoders and pools get.
        objective: What is minimised; alignment pulls on the encoders here.
        companion: Held-out loss, early stopping, state.

    Returns:
        Loss per epoch.
    """
    goal = objective.on_encoders(model)
    parameters = list(model.parameters())
    slow: list[nn.Parameter] = []
    if encoder_share != 1.0:
        parameters, slow = fusion_parameters(model), encoder_parameters(model)
    if goal.alignment is not None:
        parameters = [*parameters, *goal.alignment.parameters()]
    fresh = companion.fresh
    return _train_whole(
        name,
        model,
        (parameters, slow),
        (
            _encoded(model, data.inputs),
            _encoded(model, fresh.inputs) if fresh is not None else None,
        ),
        data,
        schedule,
        (dropout, seed, progress),
        goal,
        companion,
        encoder_share,
    )


def _encoded(
    model: TriModalModel, inputs: TriModalInputs
) -> Callable[[Tensor], Tokens]:
    return lambda rows: model.encode(inputs.select(rows))


def _train_whole(
    name: str,
    model: TriModalModel,
    parameters: tuple[list[nn.Parameter], list[nn.Parameter]],
    tokens_of: tuple[Callable[[Tensor], Tokens], Callable[[Tensor], Tokens] | None],
    data: Prepared,
    schedule: Schedule,
    setting: tuple[float, int, bool],
    objective: Objective,
    companion: Companion,
    encoder_share: float = 1.0,
) -> list[float]:
    """Minimise the tri-modal loss with modality dropout."""
    dropout, seed, progress = setting
    random = torch.Generator().manual_seed(seed + 1)
    model.train()

    def loss(rows: Tensor) -> Tensor:
        present = drop_modalities(data.inputs.present[rows], dropout, random)
        tokens = tokens_of[0](rows)
        output = model.fuse(tokens, present)
        total = objective.labels(output, data.targets[rows], data.known[rows], present)
        return objective.and_more(total, model, data, rows, tokens)

    fresh, fresh_tokens = companion.fresh, tokens_of[1]

    @torch.no_grad()
    def held_out() -> float:
        assert fresh is not None and fresh_tokens is not None
        model.eval()
        total = 0.0
        for rows in in_batches(torch.arange(len(fresh.targets)), ENCODE_BATCH):
            present = fresh.inputs.present[rows]
            output = model.fuse(fresh_tokens(rows), present)
            part = (fresh.targets[rows], fresh.known[rows], present)
            total += float(objective.labels(output, *part)) * len(rows)
        model.train()
        return total / len(fresh.targets)

    return optimise(
        name + companion.suffix,
        parameters[0],
        len(data.inputs),
        loss,
        schedule,
        seed=seed,
        progress=progress,
        slow=parameters[1],
        slow_share=encoder_share,
        watch=companion.watch(None if fresh_tokens is None else held_out, (random,)),
    )
