"""The methods of the comparison, in the order of the table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from model.baselines.biovil_t import biovil_t
from model.baselines.chexzero import chexzero
from model.baselines.classical import boosted_trees, logistic_values, tfidf
from model.baselines.contrastive import IMAGE_ONLY, PAIR
from model.baselines.fusions import fused
from model.baselines.medclip import medclip
from model.baselines.scored import Scored
from model.baselines.shared import FULL, Shared
from model.baselines.unimodal import unimodal

MAIN, LATE, CONCAT = "m_llm", "late", "concat"


@dataclass(frozen=True, slots=True)
class Method:
    """One way to answer: ``reads`` is the coalition of its row in the table.

    ``paper`` names the row of the paper's table it stands beside, empty for none;
    ``zero_shot`` is the coalition of its score without labels, empty for none.
    """

    name: str
    title: str
    reads: str
    run: Callable[[Shared], Scored]
    paper: str = ""
    zero_shot: str = ""


METHODS: tuple[Method, ...] = (
    Method(
        "biovil_t", "BioViL-T style", PAIR, biovil_t, "BioViL-T", zero_shot=IMAGE_ONLY
    ),
    Method("medclip", "MedCLIP style", PAIR, medclip, "MedCLIP", zero_shot=IMAGE_ONLY),
    Method(
        "chexzero", "CheXzero style", PAIR, chexzero, "CheXzero", zero_shot=IMAGE_ONLY
    ),
    Method(
        "text_only",
        "Text only (BERT)",
        "text",
        partial(unimodal, modality="text"),
        "Unimodal text LLM",
    ),
    Method(
        "image_only",
        "Image only (ViT)",
        "image",
        partial(unimodal, modality="image"),
        "Unimodal ViT",
    ),
    Method("labs_only", "Labs only", "values", partial(unimodal, modality="values")),
    Method("tfidf", "TF-IDF + logistic regression", "text", tfidf),
    Method("logistic", "Logistic regression on values", "values", logistic_values),
    Method("trees", "Gradient-boosted trees on values", "values", boosted_trees),
    Method(LATE, "Late fusion", FULL, partial(fused, fusion="late")),
    Method(CONCAT, "Concat MLP", FULL, partial(fused, fusion="concat")),
    Method(MAIN, "M-LLM (CATM)", FULL, partial(fused, fusion="catm"), "M-LLM"),
)
