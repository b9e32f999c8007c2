"""The encrypted local journal: where records go while the database does not take them.

Rules:

1. Each journal stream has a file of its own, locked by its process, so that a replay
   never races a writer.
2. A batch is one ``write`` to an ``O_APPEND`` file and one ``fdatasync``; a write that
   came out short is cut off again (harm: a torn frame in front of good ones).
3. Before each batch the file must still be linked and be the one under its name
   (attack: delete or replace the file and let records go to an unlinked inode).
4. The folder has a size limit, and a batch that does not fit is refused as "full".
5. A failed sync is never retried on the same file: the kernel may have dropped the
   pages.
"""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import cast

from audit.errors import JournalError
from audit.frames import FrameKind, Value, encode
from audit.key_files import sync_folder
from audit.stream import Prepared, Stream, StreamEnd, batch_values, stream_values

SUFFIX = ".journal"
_FULL = {errno.ENOSPC: "full", errno.EDQUOT: "full", errno.EFBIG: "full"}
ALARM_SHARE = 0.8  # of the limit, from which the log complains


class JournalFile:
    """The open file of one journal stream."""

    def __init__(self, folder: Path, stream: Stream, max_bytes: int) -> None:
        """Create the file and write the opening statement.

        Raises:
            JournalError: the folder does not take it.
        """
        self.path = folder / f"{stream.stream_id.hex()}{SUFFIX}"
        self._folder = folder
        self._max_bytes = max_bytes
        self._others = sum(_sizes(folder))
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        try:
            self._handle = os.open(self.path, flags, 0o600)
        except OSError as exc:
            raise JournalError("cannot create") from exc
        self._size = 0
        self.broken = False
        values = cast(tuple[Value, ...], stream_values(stream.opening, stream.node_sig))
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._append(encode(FrameKind.OPEN, values))
            sync_folder(folder)
        except (OSError, JournalError) as exc:
            self.close()
            self.path.unlink(missing_ok=True)
            reason = exc.reason if isinstance(exc, JournalError) else "cannot write"
            raise JournalError(reason) from exc

    def write(self, prepared: Prepared, sidecars: dict[bytes, bytes]) -> None:
        """Make a batch durable.

        Args:
            prepared: rows and signature.
            sidecars: encrypted key notes by record id, for rows that need them.

        Raises:
            JournalError: reason full, replaced, cannot write or cannot sync.
        """
        data = b"".join(
            encode(FrameKind.SIDECAR, (record_id, note))
            for record_id, note in sidecars.items()
        )
        values = list(batch_values(prepared.batch))
        for row in prepared.rows:
            values.extend(row.values())
        self._append(data + encode(FrameKind.BATCH, cast(list[Value], values)))

    def finish(self, end: StreamEnd) -> None:
        """Write the end of the stream and let go of the file.

        Raises:
            JournalError: as for :meth:`write`; the file is let go of all the same.
        """
        try:
            # The end is small and may pass the limit: a stream without it looks cut.
            self._append(encode(FrameKind.END, tuple(end)), limited=False)
        finally:
            self.close()

    def discard(self) -> None:
        """Remove a file that never held a record."""
        self.path.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Let go of file and lock."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def usage(self) -> float:
        """Share of the size limit in use."""
        return (self._others + self._size) / self._max_bytes

    def _append(self, data: bytes, limited: bool = True) -> None:
        if self.broken:
            raise JournalError("broken")
        self._check_identity()
        # Rule 4.
        if limited and self._others + self._size + len(data) > self._max_bytes:
            raise JournalError("full")
        try:
            written = os.write(self._handle, data)
        except OSError as exc:
            raise JournalError(_FULL.get(exc.errno or 0, "cannot write")) from exc
        if written != len(data):
            self._cut()
            raise JournalError("full")
        try:
            os.fdatasync(self._handle)
        except OSError as exc:
            self.broken = True  # rule 5
            raise JournalError("cannot sync") from exc
        self._size += len(data)

    def _check_identity(self) -> None:
        """Rule 3."""
        try:
            mine, named = os.fstat(self._handle), os.stat(self.path)
        except OSError as exc:
            self.broken = True
            raise JournalError("replaced") from exc
        same = (mine.st_dev, mine.st_ino) == (named.st_dev, named.st_ino)
        if mine.st_nlink < 1 or not same:
            self.broken = True
            raise JournalError("replaced")

    def _cut(self) -> None:
        """Rule 2: take a short write back; a file that refuses is given up."""
        try:
            os.ftruncate(self._handle, self._size)
        except OSError as exc:
            self.broken = True
            raise JournalError("cannot write") from exc


def pending(folder: Path) -> list[Path]:
    """Journal files that wait to be replayed, oldest first.

    Raises:
        JournalError: the folder cannot be read.
    """
    return [path for _, path, _ in sorted(_listing(folder))]


def _sizes(folder: Path) -> list[int]:
    return [size for _, _, size in _listing(folder)]


def _listing(folder: Path) -> list[tuple[int, Path, int]]:
    found = []
    try:
        names = [name for name in os.listdir(folder) if name.endswith(SUFFIX)]
    except OSError as exc:
        raise JournalError("cannot list") from exc
    for name in names:
        try:
            status = os.stat(folder / name)
        except FileNotFoundError:
            continue  # replayed by another process in this moment
        found.append((status.st_mtime_ns, folder / name, status.st_size))
    return found
