"""What a loader read, used and left out, and why: counts, never content."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Account:
    """Running counts of one load; each row is used, or skipped for one reason.

    ``rows`` counts what was looked at by table, ``used`` what entered a record,
    ``skipped`` the rest by table and reason code.
    """

    rows: Counter[str] = field(default_factory=Counter)
    used: Counter[str] = field(default_factory=Counter)
    skipped: dict[str, Counter[str]] = field(default_factory=dict)

    def use(self, table: str) -> None:
        """One row that entered a record."""
        self.rows[table] += 1
        self.used[table] += 1

    def skip(self, table: str, reason: str, count: int = 1) -> None:
        """Rows that did not, and the reason code."""
        self.rows[table] += count
        self.skipped.setdefault(table, Counter())[reason] += count

    def balanced(self) -> bool:
        """Whether every row is accounted for."""
        return all(
            total == self.used[table] + sum(self.skipped.get(table, Counter()).values())
            for table, total in self.rows.items()
        )

    def to_json(self) -> dict[str, Any]:
        """Plain numbers by table, tables and reasons in alphabetical order."""
        return {
            table: {
                "rows": self.rows[table],
                "used": self.used[table],
                "skipped": dict(sorted(self.skipped.get(table, Counter()).items())),
            }
            for table in sorted(self.rows)
        }
