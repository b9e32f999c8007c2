"""Encoder outputs, kept: what fusion trains on while the encoders stay frozen."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from model.network.fusion import Tokens, TriModalModel
from model.network.inputs import TriModalInputs
from model.training.optimise import in_batches

ENCODE_BATCH = 256

PROPER_SUBSETS = torch.tensor(
    [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1]]
).bool()


@dataclass(frozen=True, slots=True)
class Prepared:
    """A training set as tensors.

    ``lesion`` (n, N) per-patch targets of the first view or None; ``patient`` (n,)
    numbers the patients, None: every record is another one; ``findings`` (n, F) holds
    the answers by which patients are alike, negative where unknown, None: the labels.
    """

    inputs: TriModalInputs
    targets: Tensor
    known: Tensor
    lesion: Tensor | None
    patient: Tensor | None = None
    findings: Tensor | None = None

    def patients(self) -> Tensor:
        """(n,) number of each record's patient."""
        if self.patient is not None:
            return self.patient
        return torch.arange(len(self.targets), device=self.targets.device)

    def answers(self) -> Tensor:
        """(n, F) by which patients are alike; -1 where unknown."""
        if self.findings is not None:
            return self.findings
        return torch.where(self.known, self.targets.round().long(), -1)


def one_modality(model: TriModalModel, inputs: TriModalInputs, m: int) -> Tokens:
    """Encode one modality only; the other two are empty."""
    batch, width = len(inputs), model.config.width
    empty = inputs.pixels.new_zeros(batch, 0, width)
    nothing = inputs.present[:, :0]
    parts = [empty, empty, empty, nothing, nothing, nothing]
    parts[m], parts[3 + m] = model.encode_modality(inputs, m)
    return Tokens(*parts)


@torch.no_grad()
def cache_tokens(model: TriModalModel, inputs: TriModalInputs) -> Tokens:
    """Encoder outputs of all records, padded to one length per modality."""
    model.eval()
    device = inputs.present.device
    numbers = torch.arange(len(inputs), device=device)
    batches = in_batches(numbers, ENCODE_BATCH)
    parts = [model.encode(inputs.select(rows)) for rows in batches]
    columns = []
    for name in ("image", "text", "values", "image_mask", "text_mask", "values_mask"):
        tensors = [getattr(part, name) for part in parts]
        longest = max(x.shape[1] for x in tensors)
        columns.append(torch.cat([padded_to(x, longest) for x in tensors]))
    return Tokens(*columns)


def padded_to(x: Tensor, length: int) -> Tensor:
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


@torch.no_grad()
def summarise(model: TriModalModel, tokens: Tokens) -> Tokens:
    """Each modality's pooled state as its only token: 3 x (B, 1, D)."""
    content, masks = [], []
    for pool, x, mask in zip(model.pools, tokens.content(), tokens.masks()):
        content.append(pool(x, mask).unsqueeze(1))
        masks.append(mask.any(1, keepdim=True))
    return Tokens(*content, *masks)


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
