"""The rows of the paper's own tables, as stated there; reference constants only.

Source: Thiyagarajan, the M-LLM paper, sections 4.3 (six models) and 4.4 (ablation).
Fractions. The data of the paper are not public and no interval is given, so these rows
stand beside ours and are not a test of ours against theirs.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PaperRow:
    """One row; None where the paper states nothing."""

    accuracy: float
    auroc: float
    precision: float | None = None
    recall: float | None = None
    f1: float | None = None


PAPER_MODELS: dict[str, PaperRow] = {
    "BioViL-T": PaperRow(0.857, 0.882, 0.831, 0.825, 0.828),
    "MedCLIP": PaperRow(0.864, 0.890, 0.843, 0.837, 0.840),
    "CheXzero": PaperRow(0.871, 0.895, 0.852, 0.846, 0.848),
    "Unimodal text LLM": PaperRow(0.782, 0.825, 0.758, 0.743, 0.750),
    "Unimodal ViT": PaperRow(0.804, 0.841, 0.786, 0.765, 0.775),
    "M-LLM": PaperRow(0.896, 0.923, 0.874, 0.869, 0.871),
}

#: By the coalition that is left: the full model, then without text, images, record.
PAPER_ABLATION: dict[str, PaperRow] = {
    "image+text+values": PaperRow(0.896, 0.923),
    "image+values": PaperRow(0.825, 0.857),
    "text+values": PaperRow(0.832, 0.863),
    "image+text": PaperRow(0.819, 0.849),
}

#: What is missing from each coalition of the ablation.
WITHOUT: dict[str, str] = {
    "image+text+values": "nothing (full)",
    "image+values": "without text",
    "text+values": "without images",
    "image+text": "without structured record",
}
