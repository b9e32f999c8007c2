"""L_con: the three modalities of one patient near each other in one space (S2).

Small projection heads read the encoders' tokens through a few learnt queries and put
each modality on the unit sphere. They sit *on top of* the tokens, not between encoder
and fusion: an InfoNCE loss keeps what two modalities share and drops what only one of
them shows, which the fusion needs.

The pairwise term is InfoNCE (van den Oord et al., 2018) over each available pair; the
triple term is Symile's multilinear product (Saporta et al., 2024), because pairwise
terms cannot see a concordance of three. Rows without a modality take part neither as
queries nor as candidates. B records, d width of the space.
"""

from __future__ import annotations

import math
from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.network.blocks import blank_invalid, never_empty
from model.network.fusion import Tokens
from model.network.inputs import MODALITIES

PAIRS = tuple(combinations(range(len(MODALITIES)), 2))
#: The learnt scale (the logarithm of 1 / temperature) stays within these bounds.
LOWEST_SCALE, HIGHEST_SCALE = 0.0, math.log(100.0)
#: Share of the target that goes to all patients with the same findings.
SOFTNESS = 0.2
#: The triple term compares all B * B pairs of candidates: at most so many rows a batch.
MOST_TRIPLES = 64
_FIRST_SCALE = math.log(1 / 0.07)
_QUERIES = 4


class ProjectionHead(nn.Module):
    """(B, N, D) tokens of one modality to (B, d) on the unit sphere."""

    def __init__(self, width: int, space: int) -> None:
        super().__init__()
        self.score = nn.Linear(width, _QUERIES)
        self.norm = nn.LayerNorm(_QUERIES * width)
        self.out = nn.Linear(_QUERIES * width, space)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Read the valid tokens; a row without any gives an arbitrary point."""
        x = blank_invalid(x, mask)  # (B, N, D)
        score = self.score(x).masked_fill(
            ~never_empty(mask).unsqueeze(-1), float("-inf")
        )  # (B, N, Q)
        read = score.softmax(1).transpose(1, 2) @ x  # (B, Q, D)
        return F.normalize(self.out(self.norm(read.flatten(1))), dim=-1)  # (B, d)


class Alignment(nn.Module):
    """Three projection heads and two learnt scales; kept beside the model."""

    def __init__(self, width: int, space: int = 64) -> None:
        super().__init__()
        self.heads = nn.ModuleList(ProjectionHead(width, space) for _ in MODALITIES)
        self.pair_scale = nn.Parameter(torch.tensor(_FIRST_SCALE))
        self.triple_scale = nn.Parameter(torch.tensor(_FIRST_SCALE))
        self.space = space

    def embed(self, tokens: Tokens, present: Tensor) -> tuple[Tensor, Tensor]:
        """Every modality of every record in the shared space.

        Args:
            tokens: Encoder outputs.
            present: (B, 3).

        Returns:
            Points (B, 3, d), arbitrary where absent, and which there are (B, 3).
        """
        points, there = [], []
        parts = zip(self.heads, tokens.content(), tokens.masks())
        for m, (head, x, mask) in enumerate(parts):
            keep = mask & present[:, m : m + 1]  # (B, Nm)
            there.append(keep.any(1))
            points.append(
                head(x, keep) if x.shape[1] else x.new_zeros(len(x), self.space)
            )
        return torch.stack(points, 1), torch.stack(there, 1)

    def loss(
        self, tokens: Tokens, present: Tensor, patient: Tensor, findings: Tensor
    ) -> Tensor:
        """Mean of the pairwise terms, plus the triple term.

        Args:
            tokens: Encoder outputs of a batch.
            present: (B, 3).
            patient: (B,) number of the patient of each record.
            findings: (B, F) answers, negative where unknown; F may be 0.

        Returns:
            Scalar; 0 when no pair of records can be compared.
        """
        points, there = self.embed(tokens, present)
        rival = patient.unsqueeze(0) != patient.unsqueeze(1)  # (B, B)
        alike = same_findings(findings)  # (B, B)
        pairs = []
        for a, b in PAIRS:
            rows = (there[:, a] & there[:, b]).nonzero().squeeze(1)
            if len(rows) >= 2:
                among = (rival[rows][:, rows], alike[rows][:, rows])
                pairs.append(
                    info_nce(points[rows, a], points[rows, b], self.pair_scale, *among)
                )
        total = points.sum() * 0.0
        if pairs:
            total = total + torch.stack(pairs).mean()
        rows = there.all(1).nonzero().squeeze(1)[:MOST_TRIPLES]
        if len(rows) >= 2:
            total = total + triple_loss(
                points[rows], self.triple_scale, rival[rows][:, rows]
            )
        return total


def clamped(scale: Tensor) -> Tensor:
    """exp of the scale within [0, ln 100]; outside the bounds it has no gradient."""
    return scale.clamp(LOWEST_SCALE, HIGHEST_SCALE).exp()


def same_findings(findings: Tensor) -> Tensor:
    """(B, F) answers to (B, B): True where both know the same things and agree.

    Records of which nothing is known are like nobody but themselves.
    """
    equal = (findings.unsqueeze(0) == findings.unsqueeze(1)).all(-1)  # (B, B)
    known = (findings >= 0).any(-1)  # (B,)
    itself = torch.eye(len(findings), dtype=torch.bool, device=findings.device)
    return (equal & known.unsqueeze(0)) | itself


def info_nce(
    a: Tensor, b: Tensor, scale: Tensor, rival: Tensor, alike: Tensor
) -> Tensor:
    """Both directions of one pair of modalities.

    Args:
        a: (n, d) of unit length.
        b: (n, d) of unit length; row i belongs to row i of ``a``.
        scale: Logarithm of the inverse temperature.
        rival: (n, n), False for two studies of one patient: no negatives of each other.
        alike: (n, n), True for patients who share their findings, the diagonal too.

    Returns:
        Scalar: the mean of the two directions' cross-entropies with soft targets, 0.8
        on the record itself and 0.2 spread over the candidates that share its findings.
    """
    logits = clamped(scale) * a @ b.T  # (n, n)
    itself = torch.eye(len(a), dtype=torch.bool, device=a.device)
    candidate = rival | itself  # (n, n), symmetric
    shared = (alike & candidate).to(logits.dtype)  # (n, n), symmetric
    target = (1 - SOFTNESS) * itself.to(logits.dtype) + SOFTNESS * shared / shared.sum(
        1, keepdim=True
    )
    losses = []
    for x in (logits, logits.T):
        log_share = x.masked_fill(~candidate, float("-inf")).log_softmax(1)  # (n, n)
        weighted = log_share.masked_fill(~candidate, 0.0) * target
        losses.append(-weighted.sum(1).mean())
    return torch.stack(losses).mean()


def triple_loss(points: Tensor, scale: Tensor, rival: Tensor) -> Tensor:
    """Symile: the product of three points is large for one patient only.

    Args:
        points: (n, 3, d), all modalities present.
        scale: Logarithm of the inverse temperature.
        rival: (n, n), False for two studies of one patient.

    Returns:
        Scalar: mean over the three anchors of the cross-entropy over all n * n pairs of
        the other two; pairs with another study of the anchor's patient are left out.
    """
    n = len(points)
    product = torch.einsum("id,jd,kd->ijk", *points.unbind(1))  # (n, n, n)
    logits = clamped(scale) * product * points.shape[-1] ** 0.5
    itself = torch.eye(n, dtype=torch.bool, device=points.device)
    single = rival | itself  # (n, n)
    candidate = single.unsqueeze(2) & single.unsqueeze(1)  # (anchor, n, n)
    own = torch.arange(n, device=points.device)
    losses = []
    for anchor in range(3):
        others = [axis for axis in range(3) if axis != anchor]
        x = logits.permute(anchor, *others)  # (anchor, n, n)
        x = x.masked_fill(~candidate, float("-inf")).flatten(1)  # (n, n * n)
        losses.append(F.cross_entropy(x, own * n + own))
    return torch.stack(losses).mean()
