"""L_exp: the evidence that raises a logit shall be the evidence that matters.

h are the encoders' output tokens, taken as leaves; g = d logit_c / d h and the
relevance of a token is r = (g . h)+, the quantity that every map of
:mod:`model.explain` shows. Differentiating a function of r needs a second derivative,
through the fusion module alone: the encoders are outside of the graph.

Four parts, each with its weight:

(a) ``reason``, right for the right reasons (after Ross et al., 2017):
    -log(sum of r inside the mask / sum of r), for positive labels with a mask;
(b) ``shown``, shown = used: KL(r || label-query attention) per modality, r held fixed;
(c) ``focus``: max(0, H(r) / log N - tau), so that relevance is not smeared out;
(d) ``consistent``: the map of a flipped and shifted film is the flipped and shifted
    map, and the order of sentences does not move relevance between words.

The perturbations that the deletion and comprehensiveness measures use (blur infill,
removed words) are never trained on. B records, Nm tokens of modality m.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from model.explain.grad_cam import relevance_map
from model.network.fusion import FusionOutput, Tokens, TriModalModel
from model.network.inputs import IMAGE, TEXT
from model.training.loss_weights import LossWeights

#: Normalised entropy above which relevance counts as smeared out.
FOCUS_LIMIT = 0.7
#: At most so many records of a batch are explained: second derivatives are dear.
MOST_EXPLAINED = 48
_TINY = 1e-8
#: Added to the denominator of (a): else a model could escape by having no relevance.
_FLOOR = 1e-3
_FIRST = 3  # columns of the attention before those of the modalities


@dataclass(frozen=True, slots=True)
class Twin:
    """The same records seen otherwise: flipped and shifted film, reordered sentences.

    ``source`` says for each token of the twin which token of the original it shows,
    -1 for none: film (B, Ni) and words (B, Nt).
    """

    tokens: Tokens
    film_source: Tensor
    word_source: Tensor


TwinOf = Callable[[Tensor], Twin]


def relevance(
    model: TriModalModel, tokens: Tokens, present: Tensor, column: Tensor
) -> tuple[list[Tensor], FusionOutput]:
    """r = (g . h)+ of every token for one logit per record, differentiable.

    Args:
        model: Only its fusion is used; plain attention kernels, because the fused ones
            have no second derivative.
        tokens: Encoder outputs (B, Nm, D); held fixed.
        present: (B, 3).
        column: (B,), the label whose logit is explained.

    Returns:
        3 x (B, Nm), zero where there is no token, and the forward pass.
    """
    leaves = [x.detach().float().requires_grad_() for x in tokens.content()]
    with sdpa_kernel(SDPBackend.MATH):
        output = model.fuse(tokens.with_content(*leaves), present)
        chosen = output.logits.gather(1, column.unsqueeze(1)).sum()
        gradients = torch.autograd.grad(
            chosen, leaves, create_graph=True, allow_unused=True
        )
    shares = []
    for m, (h, g, mask) in enumerate(zip(leaves, gradients, tokens.masks())):
        keep = mask & present[:, m : m + 1]  # (B, Nm)
        shares.append(relevance_map(h, torch.zeros_like(h) if g is None else g, keep))
    return shares, output


def normalised(r: Tensor) -> tuple[Tensor, Tensor]:
    """(B, N) to shares that sum to 1, and which rows have any relevance (B,)."""
    total = r.sum(1, keepdim=True)  # (B, 1)
    return r / total.clamp(min=_TINY), total.squeeze(1) > _TINY


def reason_loss(r: Tensor, inside: Tensor, wanted: Tensor) -> Tensor:
    """(a) Mean of -log(relevance inside the mask / relevance).

    Args:
        r: (B, N).
        inside: (B, N) in [0, 1], the mask.
        wanted: (B,) bool: positive label, and a mask that is not empty.
    """
    total = r.sum(1)  # (B,)
    share = (r * inside).sum(1) / (total + _FLOOR)  # (B,)
    return _mean(-(share + _TINY).log(), wanted & (total > _TINY))


def shown_loss(r: Tensor, attention: Tensor, keep: Tensor) -> Tensor:
    """(b) Mean KL(r || attention) over the records with relevance.

    Args:
        r: (B, N); no gradient passes through it.
        attention: (B, N), the label query's weight on the same tokens; renormalised.
        keep: (B, N), which tokens exist.
    """
    share, rows = normalised(r.detach())
    seen, _ = normalised(attention * keep)
    divergence = share * ((share + _TINY).log() - (seen + _TINY).log())
    return _mean(divergence.sum(1), rows)


def focus_loss(r: Tensor, keep: Tensor, limit: float = FOCUS_LIMIT) -> Tensor:
    """(c) Mean of max(0, H(r) / log N - limit) over the records with relevance.

    Args:
        r: (B, N).
        keep: (B, N), which tokens exist; N of a record counts these.
        limit: The share of the largest entropy that is free.
    """
    share, rows = normalised(r)
    entropy = -(share * (share + _TINY).log()).sum(1)  # (B,)
    count = keep.sum(1)  # (B,)
    most = count.clamp(min=2).to(r.dtype).log()
    return _mean((entropy / most - limit).clamp(min=0), rows & (count > 1))


def consistency_loss(r: Tensor, twin: Tensor, source: Tensor) -> Tensor:
    """(d) Mean total variation between the twin's map and the moved original.

    Args:
        r: (B, N) of the original.
        twin: (B, N') of the twin.
        source: (B, N') index into N, -1 where the original shows nothing.
    """
    both = source >= 0  # (B, N')
    moved = r.gather(1, source.clamp(min=0)) * both
    ours, some = normalised(moved)
    theirs, more = normalised(twin * both)
    return _mean(0.5 * (ours - theirs).abs().sum(1), some & more)


def _mean(loss: Tensor, rows: Tensor) -> Tensor:
    """Mean over the chosen rows, 0 without any; the others get no gradient."""
    chosen = loss[rows]
    return chosen.sum() / max(1, len(chosen))


def attention_of(output: FusionOutput, r: list[Tensor], m: int) -> Tensor:
    """(B, C, Nm): the label queries' weights on the tokens of modality ``m``.

    The columns are [3 missing tokens, then of each modality its summary and its
    tokens]; a modality that no record has takes no column.
    """
    start = _FIRST
    for number, part in enumerate(r):
        width = part.shape[1]
        if number == m:
            return output.attention[:, :, start + 1 : start + 1 + width]
        start += 1 + width if width else 0
    raise IndexError(m)


def explanation_loss(
    model: TriModalModel,
    tokens: Tokens,
    present: Tensor,
    column: Tensor,
    inside: Tensor | None,
    weights: LossWeights,
    twin: Twin | None = None,
) -> Tensor:
    """The weighted sum of the parts, averaged over modalities.

    Args:
        model: Its fusion is what learns.
        tokens: Of the records to explain; all have a positive label.
        present: (B, 3).
        column: (B,), the positive label that is explained.
        inside: (B, Ni) image masks; rows without any mask are zero. None: no masks.
        weights: ``reason``, ``shown``, ``focus``, ``consistent``.
        twin: The same records seen otherwise, for (d).

    Returns:
        Scalar.
    """
    tokens, present = _used(tokens, present)
    r, output = relevance(model, tokens, present, column)
    total = output.logits.sum() * 0.0
    if weights.reason and inside is not None and r[IMAGE].shape[1]:
        wanted = (inside > 0).any(1) & present[:, IMAGE]
        total = total + weights.reason * reason_loss(r[IMAGE], inside, wanted)
    own = torch.arange(len(column), device=column.device)
    for m, part in enumerate(r):
        keep = tokens.masks()[m] & present[:, m : m + 1]  # (B, Nm)
        if not part.shape[1]:
            continue
        if weights.shown:
            seen = attention_of(output, r, m)[own, column]  # (B, Nm)
            total = total + weights.shown * shown_loss(part, seen, keep) / len(r)
        if weights.focus:
            total = total + weights.focus * focus_loss(part, keep) / len(r)
    if weights.consistent and twin is not None:
        moved, _ = relevance(model, twin.tokens, present, column)
        for m, source in ((IMAGE, twin.film_source), (TEXT, twin.word_source)):
            if r[m].shape[1]:
                change = consistency_loss(r[m], moved[m], source)
                total = total + weights.consistent * change / 2
    return total


def _used(tokens: Tokens, present: Tensor) -> tuple[Tokens, Tensor]:
    """Without the columns of a modality that no record of the batch has."""
    masks = [
        mask & present[:, m : m + 1] for m, mask in enumerate(tokens.masks())
    ]  # 3 x (B, Nm)
    kept = [int(mask.shape[1]) if bool(mask.any()) else 0 for mask in masks]
    content = [x[:, :n] for x, n in zip(tokens.content(), kept)]
    return Tokens(*content, *(x[:, :n] for x, n in zip(masks, kept))), present
