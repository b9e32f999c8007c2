"""S1: every encoder alone learns what its own modality can tell."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from model.network.fusion import TriModalModel
from model.network.inputs import IMAGE, MODALITIES
from model.training.cached_tokens import ENCODE_BATCH, Prepared, one_modality
from model.training.companion import Companion
from model.training.finding_heads import FindingHeads, PatchHeads
from model.training.optimise import Schedule, in_batches, optimise
from model.training.training_set import Finding

#: Weight of the per-patch lesion loss in the image encoder's own stage.
LESION_WEIGHT = 1.0


def train_encoder(
    model: TriModalModel,
    m: int,
    data: Prepared,
    findings: Sequence[Finding],
    schedule: Schedule,
    *,
    seed: int,
    progress: bool,
    companion: Companion = Companion(),
) -> tuple[list[float], FindingHeads]:
    """S1: teach one encoder what its modality can tell.

    Args:
        model: Its encoder and pool of modality ``m`` change, nothing else.
        m: Index into MODALITIES.
        data: Training records.
        findings: What to teach.
        schedule: Epochs and learning rate.
        seed: Order of the batches.
        progress: Draw a bar.
        companion: Held-out loss, early stopping, state.

    Returns:
        Loss per epoch, and the heads (for probing; they are not part of the model).
    """
    device = data.targets.device
    encoder = (model.image_encoder, model.text_encoder, model.values_encoder)[m]
    heads = FindingHeads(model.config.width, findings).to(device)
    patches = None
    if m == IMAGE and data.lesion is not None:
        patches = PatchHeads(model.config.width, findings, data.lesion).to(device)
    have = data.inputs.present[:, m].nonzero().squeeze(1)  # rows with this modality
    pool = model.pools[m]
    model.train()

    def loss(rows: Tensor) -> Tensor:
        chosen = have[rows]
        tokens = one_modality(model, data.inputs.select(chosen), m)
        x, mask = tokens.content()[m], tokens.masks()[m]
        total = heads.loss(pool(x, mask), chosen)
        if patches is not None:
            score = pool.get_submodule("score")(x).squeeze(-1)  # (b, Ni)
            total = total + LESION_WEIGHT * patches.loss(x, score, chosen)
        return total

    if len(have) == 0:
        return [], heads
    parts = [*encoder.parameters(), *pool.parameters(), *heads.parameters()]
    if patches is not None:
        parts += patches.parameters()
    losses = optimise(
        f"S1 {MODALITIES[m]}{companion.suffix}",
        parts,
        len(have),
        loss,
        schedule,
        seed=seed,
        progress=progress,
        watch=companion.watch(_finding_loss(model, m, heads, findings, companion)),
    )
    return losses, heads


def _finding_loss(
    model: TriModalModel,
    m: int,
    heads: FindingHeads,
    findings: Sequence[Finding],
    companion: Companion,
) -> Callable[[], float] | None:
    """Loss of the finding heads on held-out records; None without such records."""
    fresh, questions = companion.fresh, companion.questions
    if fresh is None or questions is None:
        return None
    have = fresh.inputs.present[:, m].nonzero().squeeze(1)
    asked = questions(MODALITIES[m])

    @torch.no_grad()
    def held_out() -> float:
        model.eval()
        heads.ask(asked)
        total = 0.0
        for rows in in_batches(have, ENCODE_BATCH):
            tokens = one_modality(model, fresh.inputs.select(rows), m)
            pooled = model.pools[m](tokens.content()[m], tokens.masks()[m])
            total += float(heads.loss(pooled, rows)) * len(rows)
        heads.ask(findings)
        model.train()
        return total / len(have)

    return held_out if len(have) else None


@torch.no_grad()
def probe(
    model: TriModalModel, m: int, data: Prepared, heads: FindingHeads
) -> list[float]:
    """Share of right answers of each finding head, over records with an answer."""
    model.eval()
    hits = []
    have = data.inputs.present[:, m].nonzero().squeeze(1)
    if len(have) == 0:
        return []
    for rows in in_batches(have, ENCODE_BATCH):
        tokens = one_modality(model, data.inputs.select(rows), m)
        pooled = model.pools[m](tokens.content()[m], tokens.masks()[m])
        hits.append(heads.hits(pooled, rows))
    shares: list[float] = torch.cat(hits, dim=1).nanmean(1).tolist()
    return shares
