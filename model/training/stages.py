"""The stages of training: encoders alone, fusion on cached tokens, or all at once.

The three-way concordance that the fused estimate needs is not found end to end from
scratch: gradients through an untrained encoder do not say what the other two show.
Staged, the fusion module starts from tokens that already tell what each modality can.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from model.network.fusion import Tokens, TriModalModel
from model.network.inputs import IMAGE, MODALITIES, TriModalInputs
from model.network.losses import tri_modal_loss
from model.training.finding_heads import FindingHeads, PatchHeads
from model.training.optimise import Schedule, in_batches, optimise
from model.training.training_set import Finding

#: Weight of the per-patch lesion loss in the image encoder's own stage.
LESION_WEIGHT = 1.0
_ENCODE_BATCH = 256

PROPER_SUBSETS = torch.tensor(
    [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1]]
).bool()


@dataclass(frozen=True, slots=True)
class Prepared:
    """A training set as tensors; ``lesion`` (n, Ni) per-patch targets or None."""

    inputs: TriModalInputs
    targets: Tensor
    known: Tensor
    lesion: Tensor | None


def one_modality(model: TriModalModel, inputs: TriModalInputs, m: int) -> Tokens:
    """Encode one modality only; the other two are empty."""
    batch, width = len(inputs), model.config.width
    empty = inputs.pixels.new_zeros(batch, 0, width)
    nothing = inputs.present[:, :0]
    parts = [empty, empty, empty, nothing, nothing, nothing]
    if m == IMAGE:
        parts[0], mask = model.image_encoder(inputs.pixels, inputs.pixel_mask)
    elif m == 1:
        parts[1] = model.text_encoder(inputs.input_ids, inputs.attn)
        mask = inputs.attn
    else:
        parts[2] = model.values_encoder(
            inputs.code,
            inputs.value,
            inputs.dt_hours,
            inputs.flag,
            inputs.kind,
            inputs.obs_mask,
        )
        mask = inputs.obs_mask
    parts[3 + m] = mask & inputs.present[:, m : m + 1]
    return Tokens(*parts)


def train_encoder(
    model: TriModalModel,
    m: int,
    data: Prepared,
    findings: Sequence[Finding],
    schedule: Schedule,
    *,
    seed: int,
    progress: bool,
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
    name = f"S1 {MODALITIES[m]}"
    losses = optimise(
        name, parts, len(have), loss, schedule, seed=seed, progress=progress
    )
    return losses, heads


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
    for rows in in_batches(have, _ENCODE_BATCH):
        tokens = one_modality(model, data.inputs.select(rows), m)
        pooled = model.pools[m](tokens.content()[m], tokens.masks()[m])
        hits.append(heads.hits(pooled, rows))
    shares: list[float] = torch.cat(hits, dim=1).nanmean(1).tolist()
    return shares


@torch.no_grad()
def cache_tokens(model: TriModalModel, inputs: TriModalInputs) -> Tokens:
    """Encoder outputs of all records, padded to one length per modality."""
    model.eval()
    device = inputs.present.device
    numbers = torch.arange(len(inputs), device=device)
    batches = in_batches(numbers, _ENCODE_BATCH)
    parts = [model.encode(inputs.select(rows)) for rows in batches]
    columns = []
    for name in ("image", "text", "values", "image_mask", "text_mask", "values_mask"):
        tensors = [getattr(part, name) for part in parts]
        longest = max(x.shape[1] for x in tensors)
        columns.append(torch.cat([_padded_to(x, longest) for x in tensors]))
    return Tokens(*columns)


def _padded_to(x: Tensor, length: int) -> Tensor:
    """Zeros (or False) appended along the second axis."""
    shape = (x.shape[0], length - x.shape[1], *x.shape[2:])
    return torch.cat([x, x.new_zeros(shape)], dim=1)


def pick(tokens: Tokens, rows: Tensor) -> Tokens:
    """The given records of cached tokens, trimmed to their own longest."""
    parts = []
    masks = [mask[rows] for mask in tokens.masks()]
    for x, mask in zip(tokens.content(), masks):
        longest = max(1, int(mask.sum(1).max())) if mask.shape[1] else 0
        parts.append(x[rows, :longest])
    trimmed = [mask[:, : x.shape[1]] for mask, x in zip(masks, parts)]
    return Tokens(*parts, *trimmed)


def drop_modalities(present: Tensor, chance: float, random: torch.Generator) -> Tensor:
    """Hide modalities of some records (B, 3), never all that a record has.

    With probability ``chance`` a record keeps only what one of the six proper subsets
    allows, each as likely; a record left with nothing keeps what it had.
    """
    batch = present.shape[0]
    subset = torch.randint(len(PROPER_SUBSETS), (batch,), generator=random)
    hit = torch.rand(batch, generator=random) < chance
    allowed = PROPER_SUBSETS[subset] | ~hit.unsqueeze(1)  # (B, 3)
    kept = present & allowed.to(present.device)
    return torch.where(kept.any(1, keepdim=True), kept, present)


def fusion_parameters(model: TriModalModel) -> list[nn.Parameter]:
    """Everything that is neither an encoder nor its pool."""
    return [
        p
        for name, p in model.named_parameters()
        if "_encoder." not in name and not name.startswith("pools.")
    ]


@torch.no_grad()
def summarise(model: TriModalModel, tokens: Tokens) -> Tokens:
    """Each modality's pooled state as its only token: 3 x (B, 1, D)."""
    content, masks = [], []
    for pool, x, mask in zip(model.pools, tokens.content(), tokens.masks()):
        content.append(pool(x, mask).unsqueeze(1))
        masks.append(mask.any(1, keepdim=True))
    return Tokens(*content, *masks)


def train_fusion(
    model: TriModalModel,
    data: Prepared,
    schedules: tuple[Schedule, Schedule],
    *,
    dropout: float,
    seed: int,
    progress: bool,
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

    Returns:
        Loss per epoch of both steps.
    """
    tokens = cache_tokens(model, data.inputs)
    pooled = summarise(model, tokens)
    losses = {}
    for name, source, schedule in (
        ("pooled", pooled, schedules[0]),
        ("tokens", tokens, schedules[1]),
    ):
        losses[name] = _train_whole(
            f"S3 {name}",
            model,
            fusion_parameters(model),
            lambda rows, source=source: pick(source, rows),  # type: ignore[misc]
            data,
            schedule,
            (dropout, seed, progress),
        )
    return losses


def train_everything(
    name: str,
    model: TriModalModel,
    data: Prepared,
    schedule: Schedule,
    *,
    dropout: float,
    seed: int,
    progress: bool,
) -> list[float]:
    """S4, or the whole training when nothing came before: all parameters at once."""
    return _train_whole(
        name,
        model,
        list(model.parameters()),
        lambda rows: model.encode(data.inputs.select(rows)),
        data,
        schedule,
        (dropout, seed, progress),
    )


def _train_whole(
    name: str,
    model: TriModalModel,
    parameters: list[nn.Parameter],
    tokens_of: Callable[[Tensor], Tokens],
    data: Prepared,
    schedule: Schedule,
    setting: tuple[float, int, bool],
) -> list[float]:
    """Minimise the tri-modal loss with modality dropout."""
    dropout, seed, progress = setting
    random = torch.Generator().manual_seed(seed + 1)
    model.train()

    def loss(rows: Tensor) -> Tensor:
        present = drop_modalities(data.inputs.present[rows], dropout, random)
        output = model.fuse(tokens_of(rows), present)
        return tri_modal_loss(output, data.targets[rows], data.known[rows], present)

    return optimise(
        name, parameters, len(data.inputs), loss, schedule, seed=seed, progress=progress
    )
