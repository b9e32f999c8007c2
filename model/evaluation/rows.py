"""One line of the report: what was measured, the target, and whether it holds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from math import isnan
from typing import Any

from model.evaluation.resampling import Difference, Interval


@dataclass(frozen=True, slots=True)
class Row:
    """A figure.

    ``value`` is None where it could not be measured; ``holds`` is None where there is
    no target or no value. ``low`` and ``high`` bound a 95 % interval over n cases.
    """

    name: str
    value: float | None
    target: str = ""
    holds: bool | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)


Measured = float | Interval | Difference


def reported(name: str, value: Measured, *, n: int = 0, note: str = "") -> Row:
    """A figure without a target."""
    return _row(name, value, "", None, n, note)


def at_most(
    name: str, value: Measured, limit: float, *, n: int = 0, note: str = ""
) -> Row:
    """A figure that holds when it does not exceed the limit."""
    holds = _number(value) <= limit
    return _row(name, value, f"\u2264 {limit:g}", holds, n, note)


def at_least(
    name: str, value: Measured, limit: float, *, n: int = 0, note: str = ""
) -> Row:
    """A figure that holds when it reaches the limit."""
    holds = _number(value) >= limit
    return _row(name, value, f"\u2265 {limit:g}", holds, n, note)


def judged(
    name: str,
    value: Measured,
    target: str,
    holds: bool,
    *,
    n: int = 0,
    note: str = "",
) -> Row:
    """A figure whose target is more than one number."""
    return _row(name, value, target, holds, n, note)


def not_measured(name: str, target: str, why: str) -> Row:
    """A figure that is missing, and why."""
    return Row(name, None, target, None, note=why)


def _number(value: Measured) -> float:
    return value if isinstance(value, float | int) else value.value


def _row(
    name: str, value: Measured, target: str, holds: bool | None, n: int, note: str
) -> Row:
    number = _number(value)
    if isnan(number):
        return not_measured(name, target, note or "not defined on these cases")
    if isinstance(value, float | int):
        return Row(name, float(number), target, holds, n=n, note=note)
    low, high = (None if isnan(x) else x for x in (value.low, value.high))
    return Row(name, number, target, holds, low, high, n or value.n, note)


def missed(rows: Iterable[Row]) -> list[Row]:
    """The rows whose target does not hold."""
    return [row for row in rows if row.holds is False]
