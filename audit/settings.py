"""Settings of the audit log: one frozen dataclass, the environment read in one place.

No secret has a default: without its key files a process refuses to start.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from audit.errors import AuditConfigurationError

REQUIRED = (
    "TRIVIUM_AUDIT_URL",
    "TRIVIUM_AUDIT_KEYS_URL",
    "TRIVIUM_AUDIT_KEK_FILE",
    "TRIVIUM_AUDIT_INDEX_KEY_FILE",
    "TRIVIUM_AUDIT_NODE_KEY_FILE",
    "TRIVIUM_AUDIT_JOURNAL",
    "TRIVIUM_AUDIT_CHECKPOINTS",
)


@dataclass(frozen=True, slots=True)
class AuditSettings:
    """Where the log, its keys and its proofs live, and its limits."""

    url: str  # SQLAlchemy URL of the evidence database
    keys_url: str  # SQLAlchemy URL of the key database, never the same
    kek_file: Path  # key-encryption keys, mode 0600
    index_key_file: Path  # key of the blind index, mode 0600
    node_key_file: Path  # Ed25519 identity of this node, mode 0600
    journal: Path  # directory of the local encrypted journal
    checkpoints: Path  # append-only anchor file, outside the database
    trust_file: Path  # public keys of all nodes, one in hex a line
    deadline_ms: int = 100  # milliseconds for the database, then the journal
    journal_max_bytes: int = 256 * 1024 * 1024  # bytes in the journal directory
    retention_days: int = 3653  # days a record is kept: ten years
    probe_interval_s: float = 1.0  # seconds between tries while the database is down

    def __post_init__(self) -> None:
        """Refuse combinations that would void the design."""
        # Stolen backup: keys beside the rows they protect protect nothing.
        if self.url == self.keys_url:
            raise AuditConfigurationError(
                "TRIVIUM_AUDIT_KEYS_URL", "must not be the evidence database"
            )
        if self.deadline_ms < 1:
            raise AuditConfigurationError(
                "TRIVIUM_AUDIT_DEADLINE_MS", "must be at least 1"
            )


def read_settings(environ: Mapping[str, str] | None = None) -> AuditSettings:
    """Read the settings from the environment.

    Args:
        environ: names and values; the process's own when left out.

    Raises:
        AuditConfigurationError: a variable is missing or is not what it should be.
    """
    env = os.environ if environ is None else environ
    for name in REQUIRED:
        if not env.get(name):
            raise AuditConfigurationError(name, "is not set")
    node_key = Path(env["TRIVIUM_AUDIT_NODE_KEY_FILE"])
    trust = env.get("TRIVIUM_AUDIT_TRUST_FILE")
    deadline = env.get("TRIVIUM_AUDIT_DEADLINE_MS") or "100"
    if not deadline.isdecimal():
        raise AuditConfigurationError(
            "TRIVIUM_AUDIT_DEADLINE_MS", "must be a whole number of milliseconds"
        )
    return AuditSettings(
        url=env["TRIVIUM_AUDIT_URL"],
        keys_url=env["TRIVIUM_AUDIT_KEYS_URL"],
        kek_file=Path(env["TRIVIUM_AUDIT_KEK_FILE"]),
        index_key_file=Path(env["TRIVIUM_AUDIT_INDEX_KEY_FILE"]),
        node_key_file=node_key,
        journal=Path(env["TRIVIUM_AUDIT_JOURNAL"]),
        checkpoints=Path(env["TRIVIUM_AUDIT_CHECKPOINTS"]),
        trust_file=Path(trust) if trust else trust_beside(node_key),
        deadline_ms=int(deadline),
    )


def trust_beside(node_key_file: Path) -> Path:
    """The default trust file: the node key's name with ``.pub`` behind it."""
    return node_key_file.with_name(node_key_file.name + ".pub")
