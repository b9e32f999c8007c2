"""Numbers of many cases by name, from which a report makes means and intervals."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Tally:
    """Numbers of many cases by name; curves are kept whole."""

    numbers: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    curves: dict[str, list[Sequence[float]]] = field(
        default_factory=lambda: defaultdict(list)
    )

    def add(self, name: str, value: float | None) -> None:
        """One number of one case; None is left out."""
        if value is not None:
            self.numbers[name].append(float(value))
