"""The memory of used tokens, shared by every process of this host.

Rule J8 (CDS Hooks best practice, "JWT"): a ``jti`` is good for one call. Attack: a
request that was overheard, or taken from a log, is sent again.

One SQLite file is the store: ``INSERT OR IGNORE`` on a primary key is the set-if-absent
that the rule needs, and it holds across threads and processes. Rows hold a digest of
issuer and ``jti``, never the values. A row is kept until its token has expired.

Limits: hosts cannot share a file, so behind a balancer each issuer must go to one
host. After a power cut the last few rows may be gone (WAL without a sync per
row), which reopens at most the five minutes that a token lives.
"""

from __future__ import annotations

import hashlib
import sqlite3
import threading
from pathlib import Path

from cds_hooks.errors import ReplayStoreError
from model.jobs.sqlite_wal import enter_wal

PURGE_EVERY_S = 60


class ReplayStore:
    """Set-if-absent with expiry; safe for threads, one object a process.

    Args:
        path: The SQLite file; its folder is made when it is missing.
        timeout_s: Longest wait for another process's write.
    """

    def __init__(self, path: Path, *, timeout_s: float = 0.1) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(
                path, timeout=timeout_s, isolation_level=None, check_same_thread=False
            )
            enter_wal(self._db, timeout_s)
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS used "
                "(digest BLOB PRIMARY KEY, exp INTEGER NOT NULL) WITHOUT ROWID"
            )
        except (OSError, sqlite3.Error) as error:
            raise ReplayStoreError() from error
        self._lock = threading.Lock()
        self._purged_at = 0.0

    def first_use(self, issuer: str, jti: str, expires: float, now: float) -> bool:
        """True for the first caller with this pair, False for every later one.

        Raises:
            ReplayStoreError: the store did not answer; the token must be refused.
        """
        digest = hashlib.sha256(f"{len(issuer)}:{issuer}{jti}".encode()).digest()
        try:
            with self._lock:
                if now - self._purged_at > PURGE_EVERY_S:
                    self._db.execute("DELETE FROM used WHERE exp < ?", (int(now),))
                    self._purged_at = now
                added = self._db.execute(
                    "INSERT OR IGNORE INTO used (digest, exp) VALUES (?, ?)",
                    (digest, int(expires) + 1),
                )
                return added.rowcount == 1
        except sqlite3.Error as error:
            raise ReplayStoreError() from error

    def close(self) -> None:
        """Close the file."""
        self._db.close()
