"""Which losses a run minimises, and how much each weighs: one frozen dataclass.

L = L_cls + 0.1 L_con + 0.05 L_exp + 0.15 L_uni. The defaults leave the alignment and
the explainability loss off: the first changes nothing while the encoders are frozen,
the second has to pay for itself first (:mod:`model.training.explanation_guard`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from model.errors import ConfigurationError
from model.network.losses import UNIMODAL_WEIGHT

#: The name of each loss on the command line, its field, and its weight when on.
LOSSES = {
    "cls": ("classification", 1.0),
    "con": ("contrastive", 0.1),
    "exp": ("explanation", 0.05),
    "uni": ("unimodal", UNIMODAL_WEIGHT),
}


@dataclass(frozen=True, slots=True)
class LossWeights:
    """Weight of each loss; 0 switches it off and leaves its computation out.

    ``reason``, ``shown``, ``focus`` and ``consistent`` weigh the four parts within the
    explainability loss. ``balanced`` weighs positives so that each label's positives
    and negatives count alike.

    Raises:
        ConfigurationError: a weight is negative, or nothing is left to minimise.
    """

    classification: float = 1.0
    contrastive: float = 0.0
    explanation: float = 0.0
    unimodal: float = UNIMODAL_WEIGHT
    reason: float = 1.0
    shown: float = 1.0
    focus: float = 1.0
    consistent: float = 1.0
    balanced: bool = False

    def __post_init__(self) -> None:
        numbers = [float(getattr(self, item.name)) for item in fields(self)]
        if min(numbers) < 0:
            raise ConfigurationError("a loss weight is negative")
        if not self.classification and not self.unimodal:
            raise ConfigurationError("neither cls nor uni is on: no label is learnt")

    @classmethod
    def of(cls, names: Sequence[str], *, balanced: bool = False) -> LossWeights:
        """The named losses at their usual weights, all others off.

        Raises:
            ConfigurationError: a name is not in LOSSES, or neither cls nor uni is.
        """
        unknown = set(names) - set(LOSSES)
        if unknown:
            raise ConfigurationError(
                f"no such loss: {', '.join(sorted(unknown))}; "
                f"there are {', '.join(LOSSES)}"
            )
        weights = {
            field: weight if name in names else 0.0
            for name, (field, weight) in LOSSES.items()
        }
        return cls(**weights, balanced=balanced)

    def names(self) -> tuple[str, ...]:
        """The losses that are on, as the command line calls them."""
        return tuple(
            name for name, (field, _) in LOSSES.items() if getattr(self, field) > 0
        )
