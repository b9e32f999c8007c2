"""What a fuzzing run found, in a form that both kinds of input share."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

MAX_ESCAPED = 50
HANG_S = 5.0


@dataclass(slots=True)
class Fuzzed:
    """Counts of one run; ``escaped`` names what our error tree did not hold.

    ``refused`` counts by error class; ``read`` are inputs that gave a result, be it
    with skips; ``slowest_s`` is wall time of one input in seconds; ``peak_mib`` the
    largest resident memory of the process that did the work.
    """

    examples: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    read: int = 0
    escaped: list[str] = field(default_factory=list)
    slowest_s: float = 0.0
    peak_mib: float = 0.0

    def refuse(self, error: BaseException) -> None:
        """Count one typed refusal."""
        name = type(error).__name__
        self.refused[name] = self.refused.get(name, 0) + 1

    def escape(self, seed: str, what: str) -> None:
        """Keep one finding with the seed that repeats it; the list is bounded."""
        if len(self.escaped) < MAX_ESCAPED:
            self.escaped.append(f"{seed}: {what}"[:300])

    def took(self, seconds: float, seed: str) -> None:
        """Note the time of one input; above :data:`HANG_S` it is a finding."""
        self.slowest_s = max(self.slowest_s, seconds)
        if seconds > HANG_S:
            self.escape(seed, f"took {seconds:.1f} s")

    @property
    def holds(self) -> bool:
        """Nothing escaped, and every input is accounted for."""
        counted = self.read + sum(self.refused.values())
        return not self.escaped and counted == self.examples

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON, times rounded."""
        found = asdict(self)
        found["refused"] = dict(sorted(self.refused.items()))
        found["slowest_s"] = round(self.slowest_s, 3)
        found["peak_mib"] = round(self.peak_mib, 1)
        return found | {"holds": self.holds}
