"""One decoding child as its parent sees it: two pipes and a clock.

Both pipes are non-blocking and every step waits for the pipe or the deadline, whichever
comes first, so a child that stops reading or writing cannot hold a thread.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import subprocess
import time
from pathlib import Path

from fhir_adapters.dicom.decode_wire import (
    MAX_BODY_BYTES,
    MAX_HEADER_BYTES,
    PREFIX,
    frame,
)
from fhir_adapters.errors import ImageUnreadableError

_ROOT = Path(__file__).resolve().parents[2]
_PIPE_BYTES = 1 << 20
_PIECE = 1 << 20


class Child:
    """One process and its two pipes; not to be shared by threads.

    ``fit`` is False from the first byte sent to the last byte received: whatever goes
    wrong in between leaves a process whose next answer could be to the wrong question.
    """

    def __init__(self, command: tuple[str, ...]) -> None:
        self.fit = True
        self.files = 0
        self._ready = False
        self._started = time.monotonic()
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=_environment(),
                cwd="/",
                bufsize=0,
                close_fds=True,
                start_new_session=True,
            )
        except OSError as cause:
            raise ImageUnreadableError("decoder_not_started") from cause
        assert self._process.stdin is not None and self._process.stdout is not None
        self._in, self._out = self._process.stdin, self._process.stdout
        for pipe in (self._in, self._out):
            os.set_blocking(pipe.fileno(), False)
            _widen(pipe.fileno())

    @property
    def process_id(self) -> int:
        """The operating system's number for it."""
        return self._process.pid

    @property
    def lives(self) -> bool:
        """True until the process has ended."""
        return self._process.poll() is None

    def kill(self) -> None:
        """End the process and free its pipes."""
        self._process.kill()
        self._process.wait()
        self._in.close()
        self._out.close()

    def wait_ready(self, limit: float, start_seconds: float) -> None:
        """Wait for the first message of a young child.

        A caller in a hurry gives up without harm; a child that needs longer than
        ``start_seconds`` does not start at all.
        """
        if self._ready:
            return
        last = self._started + start_seconds
        try:
            self._read_message(min(limit, last))
        except ImageUnreadableError as error:
            late = error.reason == "decode_timeout" and time.monotonic() < last
            self.fit = late
            reason = "decode_timeout" if late else "decoder_not_started"
            raise ImageUnreadableError(reason) from error
        self._ready = True

    def send(self, header: dict[str, object], data: bytes, limit: float) -> None:
        """Write one request, never longer than until ``limit``."""
        self.fit = False
        self.files += 1
        descriptor = self._in.fileno()
        for part in (frame(header, len(data)), data):
            left = memoryview(part)
            while left:
                self._wait(descriptor, select.POLLOUT, limit)
                try:
                    written = os.write(descriptor, left[:_PIECE])
                except BrokenPipeError as cause:
                    raise self._ended() from cause
                left = left[written:]

    def receive(self, limit: float) -> tuple[bytes, bytearray]:
        """Read one answer, never longer than until ``limit``."""
        answer = self._read_message(limit)
        self.fit = True
        return answer

    def _read_message(self, limit: float) -> tuple[bytes, bytearray]:
        header_bytes, body_bytes = PREFIX.unpack(self._read(PREFIX.size, limit))
        if header_bytes > MAX_HEADER_BYTES or body_bytes > MAX_BODY_BYTES:
            raise ImageUnreadableError("decoder_answer_malformed")
        header = bytes(self._read(header_bytes, limit))
        return header, self._read(body_bytes, limit)

    def _read(self, length: int, limit: float) -> bytearray:
        """Exactly ``length`` bytes."""
        buffer = bytearray(length)
        left = memoryview(buffer)
        descriptor = self._out.fileno()
        while left:
            self._wait(descriptor, select.POLLIN, limit)
            count = os.readv(descriptor, [left])
            if count == 0:
                raise self._ended()
            left = left[count:]
        return buffer

    def _wait(self, descriptor: int, event: int, limit: float) -> None:
        """Until the pipe is ready, or the time is up."""
        poll = select.poll()
        poll.register(descriptor, event)
        milliseconds = max((limit - time.monotonic()) * 1000, 0.0)
        if not poll.poll(milliseconds):
            raise ImageUnreadableError("decode_timeout")

    def _ended(self) -> ImageUnreadableError:
        """The error for a child that ended in the middle of a file."""
        self.fit = False
        self._process.kill()
        if self._process.wait() == -signal.SIGXCPU:
            return ImageUnreadableError("decode_cpu_limit")
        return ImageUnreadableError("decoder_crashed")


def _environment() -> dict[str, str]:
    """All that a child gets to know: where the code is, and to use one thread."""
    return {
        "PYTHONPATH": str(_ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }


def _widen(descriptor: int) -> None:
    """A wider pipe means fewer switches between the processes; smaller also works."""
    with contextlib.suppress(OSError):
        fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
