"""What a verification found, in words that a machine can read."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

MAX_FINDINGS = 1000  # kept in full; the rest is counted


class FindingKind(StrEnum):
    """Kinds of contradiction."""

    ROW_ALTERED = "row_altered"
    CHAIN_BROKEN = "chain_broken"
    ROWS_MISSING = "rows_missing"
    TRUNCATED = "truncated"
    UNSIGNED = "unsigned"
    BATCH_ALTERED = "batch_altered"
    STREAM_ALTERED = "stream_altered"
    STREAM_MISSING = "stream_missing"
    STREAM_END_ALTERED = "stream_end_altered"
    LEAF_ALTERED = "leaf_altered"
    TREE_ALTERED = "tree_altered"
    TREE_TRUNCATED = "tree_truncated"
    CHECKPOINT_ALTERED = "checkpoint_altered"
    CHECKPOINT_MISSING = "checkpoint_missing"
    ANCHOR_ALTERED = "anchor_altered"
    ANCHOR_MISSING = "anchor_missing"
    EQUIVOCATION = "equivocation"


@dataclass(frozen=True, slots=True)
class Finding:
    """One contradiction and where it is; ``last_seq`` ends a range."""

    kind: FindingKind
    stream: str | None = None
    seq: int | None = None
    last_seq: int | None = None
    detail: str = ""


@dataclass(slots=True)
class VerifyReport:
    """Result of a verification; ``verified`` is true only without findings."""

    records: int = 0
    streams: int = 0
    batches: int = 0
    leaves: int = 0
    checkpoints: int = 0
    anchors: int = 0
    pending_journals: int = 0
    unsealed: int = 0
    total_findings: int = 0
    findings: list[Finding] = field(default_factory=list)
    not_checked: list[str] = field(default_factory=list)

    @property
    def verified(self) -> bool:
        """Whether nothing contradicts."""
        return self.total_findings == 0

    def add(
        self,
        kind: FindingKind,
        stream: bytes | None = None,
        seq: int | None = None,
        last_seq: int | None = None,
        detail: str = "",
    ) -> None:
        """Note a finding."""
        self.total_findings += 1
        if len(self.findings) < MAX_FINDINGS:
            name = stream.hex() if isinstance(stream, bytes) else None
            self.findings.append(Finding(kind, name, seq, last_seq, detail))

    def to_json(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {"verified": self.verified, **asdict(self)}
