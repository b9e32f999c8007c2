"""MedCLIP style: films and notes of different patients match by what they show.

After Wang et al. 2022, "MedCLIP: contrastive learning from unpaired medical images and
text" (EMNLP; arXiv 2210.10163). Kept: films and notes are drawn apart, each with its
own findings; the target of the contrast is the softmax of the cosine between findings
(semantic matching, both directions); zero-shot by an ensemble of finding prompts.
Written from the description; no weights or code of that work.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from model.baselines.contrastive import DualEncoder, Embedded, align, scored
from model.baselines.prompts import embed_prompts, finding_prompts, prompt_margin
from model.baselines.scored import Floats, Scored
from model.baselines.shared import Part, Shared
from model.network.inputs import MODALITIES
from model.training.stages import pick

#: Inverse temperature of the targets: how sharply equal findings are preferred.
TARGET_SCALE = 4.0


class MedClip(DualEncoder):
    """Soft cross-entropy against the similarity of findings."""

    def matching_loss(self, films: Embedded, notes: Embedded, alike: Tensor) -> Tensor:
        """Scalar loss.

        Args:
            films: A films.
            notes: B notes, of other patients.
            alike: (A, B) cosine of their findings.
        """
        similarity = self.scale * films.whole @ notes.whole.T  # (A, B)
        return soft_match(similarity, alike)


def soft_match(similarity: Tensor, alike: Tensor) -> Tensor:
    """Soft cross-entropy of both directions; (A, B) logits and (A, B) cosines."""
    target = alike * TARGET_SCALE
    rows = -(target.softmax(1) * F.log_softmax(similarity, dim=1)).sum(1).mean()
    columns = -(target.softmax(0) * F.log_softmax(similarity, dim=0)).sum(0).mean()
    return (rows + columns) / 2


def shown_findings(part: Part, m: int) -> Tensor:
    """What modality ``m`` shows of every case, and the diagnosis: (n, K), unit length.

    The severity as that modality shows it, one column a grade, and the label, one
    column for and one against: the vocabulary that films and notes have in common.
    """
    severity, *_ = part.data.questions(MODALITIES[m])
    grade = F.one_hot(torch.from_numpy(severity.target), severity.classes)  # (n, 3)
    label = part.prepared.targets[:, :1]  # (n, 1)
    both = torch.cat([grade.float(), label, 1.0 - label], dim=1)  # (n, 5)
    return F.normalize(both, dim=1)


def medclip(shared: Shared) -> Scored:
    """Match films and notes by findings, then score."""
    part = shared.training
    films, notes = shown_findings(part, 0), shown_findings(part, 1)  # 2 x (n, K)
    config, seed = shared.model.config, shared.recipe.seed
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = MedClip(config.width, config.heads)
        other = torch.Generator().manual_seed(seed + 1)

        def loss(rows: Tensor) -> Tensor:
            # unpaired: the notes are those of other patients, drawn on their own
            drawn = torch.randint(len(part.cases), (len(rows),), generator=other)
            seen, _ = model.embed(pick(part.tokens, rows))
            _, read = model.embed(pick(part.tokens, drawn))
            return model.matching_loss(seen, read, films[rows] @ notes[drawn].T)

        align(shared, model, loss, "MedCLIP style")
    ill = embed_prompts(shared, model, finding_prompts("high"))
    well = embed_prompts(shared, model, finding_prompts("low"))

    def zero_shot(seen: Tensor) -> Floats:
        margin: Floats = prompt_margin(seen, ill, well).double().numpy()
        return margin

    return scored(shared, model, zero_shot)
