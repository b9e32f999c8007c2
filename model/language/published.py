"""Published figures that our own stand beside, each with its source.

``checked`` is false for what is quoted from memory and must be checked before it is
quoted further; such figures are marked wherever they are printed.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Published:
    """One figure of a publication, as a share of 1."""

    system: str
    value: float
    source: str
    checked: bool = False

    @property
    def marked(self) -> str:
        """The figure in percent with its system, and "from memory" where it is."""
        note = "" if self.checked else ", from memory"
        return f"{100 * self.value:.1f} ({self.system}{note})"


_BIOBERT = "Lee et al., Bioinformatics 2020 (btz682)"
_QUOTED_CHEMICAL = f"{_BIOBERT}, as in BMC Bioinformatics 2022 (s12859-022-05051-9)"
_QUOTED_NCBI = f"{_BIOBERT}, as in arXiv 2011.01504"
_CHOICE = "Jin et al., EMNLP 2019, and the leaderboard of PubMedQA"

#: Entity F1 by corpus and type; the first is the one that the gap is taken to.
ENTITY_F1: dict[tuple[str, str], tuple[Published, ...]] = {
    ("bc5cdr", "disease"): (
        Published("BioBERT v1.1", 0.8715, _BIOBERT),
        Published("BioCreative V best", 0.8646, "Database 2016, baw032", True),
    ),
    ("bc5cdr", "medication"): (
        Published("BioBERT v1.1", 0.9347, _QUOTED_CHEMICAL, True),
    ),
    ("bc5cdr", "all"): (
        Published("SciBERT", 0.9001, "Beltagy et al., EMNLP 2019: both types"),
    ),
    ("ncbi-disease", "disease"): (
        Published("BioBERT v1.1", 0.8971, _QUOTED_NCBI, True),
    ),
    ("maccrobat2020", "all"): (
        Published(
            "BERT family, all 41 types, other splits",
            0.70,
            "no benchmark with fixed splits exists; roughly .65 to .72 is reported",
        ),
    ),
}

#: Accuracy by test set.
ACCURACY: dict[str, tuple[Published, ...]] = {
    "head-qa": (
        Published("best system of the paper", 0.37, "Vilares and others, ACL 2019"),
    ),
    "mmlu": (
        Published(
            "RoBERTa-base, fine-tuned, all of MMLU",
            0.28,
            "Hendrycks et al., ICLR 2021",
        ),
    ),
    "pubmedqa": (
        Published("BioBERT, several phases", 0.6808, _CHOICE, True),
        Published("one human", 0.78, _CHOICE, True),
    ),
    "medqa": (
        Published(
            "best system of the paper",
            0.367,
            "Jin et al., Applied Sciences 2021, 11, 6421",
            True,
        ),
    ),
}
