"""The embedded broker: kombu's file-system transport with two races closed.

kombu creates a message file and writes it afterwards, so a consumer that polls every
10 ms can move and read an empty file, and then dies on it. And it reads messages by way
of the machine's shared temporary folder. Here a message appears by one rename, complete
and readable by its owner only, and is taken by one rename into a folder beside it.
A message that is no JSON is dropped with a log line: the job store, not the broker, is
the truth, and the job is sent again.
"""

from __future__ import annotations

import json
import logging
import os
import time
import uuid
from pathlib import Path
from queue import Empty
from typing import Any

from kombu.exceptions import ChannelError
from kombu.transport import filesystem

logger = logging.getLogger(__name__)

INBOX, TAKEN, CONTROL = "messages", "taken", "control"


def folder_options(folder: Path, polling_interval_s: float) -> dict[str, Any]:
    """Create the broker's folders (0700) and return Celery's transport options."""
    for name in (INBOX, TAKEN, CONTROL):
        (folder / name).mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    return {
        "data_folder_in": str(folder / INBOX),
        "data_folder_out": str(folder / INBOX),
        "control_folder": str(folder / CONTROL),
        "processed_folder": str(folder / TAKEN),
        "polling_interval": polling_interval_s,
    }


class Channel(filesystem.Channel):
    """Puts and takes messages by rename; everything else is kombu's."""

    def _put(  # type: ignore[override]
        self, queue: str, payload: Any, **_: Any
    ) -> None:
        name = f"{time.time_ns():020d}_{uuid.uuid4().hex}.{queue}.msg"
        target = Path(self.data_folder_out) / name
        draft = target.with_suffix(".draft")
        try:
            handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(json.dumps(payload).encode())
            draft.rename(target)
        except OSError as exc:
            raise ChannelError("the broker folder cannot be written") from exc

    def _get(self, queue: str, timeout: float | None = None) -> Any:
        ending = f"{queue}.msg"
        try:
            names = sorted(os.listdir(self.data_folder_in))
        except OSError as exc:
            raise ChannelError("the broker folder cannot be read") from exc
        for name in names:
            if name.partition(".")[2] == ending:
                message = self._take(name)
                if message is not None:
                    return message
        raise Empty

    def _take(self, name: str) -> Any:
        taken = Path(self.processed_folder) / name
        try:
            os.rename(Path(self.data_folder_in) / name, taken)
        except FileNotFoundError:
            return None  # another worker was faster
        try:
            return json.loads(taken.read_bytes())
        except ValueError:
            logger.warning("dropped a malformed message from the broker folder")
            return None
        finally:
            taken.unlink()


class Transport(filesystem.Transport):
    """Named in Celery's ``broker_transport`` as "module:class"."""

    Channel = Channel
