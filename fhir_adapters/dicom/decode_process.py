"""Decode images in limited child processes; this process never runs a codec.

A handful of children stay warm, so a decode costs the decode and two copies through a
pipe, not the start of an interpreter. Rules, each with its attack:

1. A child starts with an empty environment, three pipes' worth of file descriptors and
   no way to open more: nothing to steal, nowhere to send it (codec takeover).
2. It limits its own memory and CPU (:mod:`.decode_child`); here the wall clock is kept.
   Past the deadline it is killed and replaced (hang).
3. What it answers is read as lengths, JSON and raw float32, each capped and checked
   (:mod:`.decode_wire`); no pickle (answer of a child that was taken over).
4. A child serves a bounded number of files (slow leaks).

    image = decode_in_child(data, expected=ExpectedInstance(study_uid), ...)
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import os
import sys
import threading
import time
from dataclasses import dataclass

from fhir_adapters.dicom.decode_pipe import Child
from fhir_adapters.dicom.decode_wire import decoded_of, request_header
from fhir_adapters.dicom.instance import (
    MAX_FILE_BYTES,
    DecodedInstance,
    ExpectedInstance,
    to_chest_image,
)
from fhir_adapters.errors import ImageUnreadableError
from fhir_adapters.patient_record import ChestImage

__all__ = ["DecodeLimits", "DecodePool", "ExpectedInstance", "decode_in_child"]

_SHARED = threading.Lock()


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """What one pool and its children may take.

    Attributes:
        children: Decodes at a time, and processes.
        memory_bytes: Address space of a child; 2 GiB holds the largest image allowed.
        cpu_seconds: CPU time for one file.
        wall_seconds: Wall time for one file, waiting for a child included.
        start_seconds: Wall time for a child to become ready.
        files_per_child: Files after which a child is replaced.
    """

    children: int = 2
    memory_bytes: int = 2 * 1024**3
    cpu_seconds: int = 10
    wall_seconds: float = 15.0
    start_seconds: float = 30.0
    files_per_child: int = 500


class DecodePool:
    """Warm decoding children behind one lock; safe to share by threads.

    Args:
        limits: What the pool may take.
        command: What a child runs; tests pass children that misbehave.
    """

    def __init__(
        self,
        limits: DecodeLimits = DecodeLimits(),
        *,
        command: tuple[str, ...] | None = None,
    ) -> None:
        self.limits = limits
        self._command = command or child_command(limits)
        self._idle: list[Child] = []
        self._slots = threading.BoundedSemaphore(limits.children)
        self._lock = threading.Lock()
        self._closed = False

    def warm(self) -> None:
        """Start every child now, so that the first film does not wait for imports."""
        with self._lock:
            missing = self.limits.children - len(self._idle)
            self._idle += [Child(self._command) for _ in range(missing)]

    def idle(self) -> tuple[Child, ...]:
        """The children that wait for a film."""
        with self._lock:
            return tuple(self._idle)

    def close(self) -> None:
        """End every idle child; those at work end with their file."""
        with self._lock:
            self._closed = True
            children, self._idle = self._idle, []
        for child in children:
            child.kill()

    def decode(
        self,
        data: bytes,
        *,
        expected: ExpectedInstance,
        reference: str,
        origin: str,
        deadline: float | None = None,
    ) -> ChestImage:
        """Decode one DICOM file in a child; arguments as for ``image.load_image``.

        Args:
            data: The file.
            expected: What was asked for.
            reference: FHIR reference of the study.
            origin: "dicomweb", "fhir", "prefetch" or "folder".
            deadline: ``time.monotonic()`` value; the pool's wall limit holds as well.

        Raises:
            ImageUnreadableError: The loader's reasons, or "decoder_busy",
                "decode_timeout", "decode_cpu_limit", "decode_memory_limit",
                "decoder_crashed", "decoder_not_started", "decoder_answer_malformed".
        """
        if len(data) > MAX_FILE_BYTES:
            raise ImageUnreadableError("file_too_large")
        limit = time.monotonic() + self.limits.wall_seconds
        limit = limit if deadline is None else min(limit, deadline)
        if not self._slots.acquire(timeout=max(limit - time.monotonic(), 0.0)):
            raise ImageUnreadableError("decoder_busy")
        try:
            child = self._take()
            try:
                child.wait_ready(limit, self.limits.start_seconds)
                child.send(request_header(expected), data, limit)
                # Hashed by the process that can be trusted, while the child works.
                digest = hashlib.sha256(data).hexdigest()
                decoded = _answer(child, limit)
            finally:
                self._put_back(child)
        finally:
            self._slots.release()
        return to_chest_image(
            decoded,
            expected=expected,
            reference=reference,
            origin=origin,
            sha256=digest,
        )

    def _take(self) -> Child:
        """An idle child that lives, else a new one."""
        with self._lock:
            while self._idle:
                child = self._idle.pop()
                if child.lives:
                    return child
                child.kill()
        return Child(self._command)

    def _put_back(self, child: Child) -> None:
        """Keep a fit child; replace another at once, so that nobody waits for it."""
        keep = child.fit and child.files < self.limits.files_per_child
        if not keep:
            child.kill()
        with self._lock:
            # warm() may have filled the pool while this child was at work.
            wanted = not self._closed and len(self._idle) < self.limits.children
            if wanted:
                self._idle.append(child if keep else Child(self._command))
        if keep and not wanted:
            child.kill()


def _answer(child: Child, limit: float) -> DecodedInstance:
    """A child's answer; one that may no longer be sane is not asked again."""
    header, body = child.receive(limit)
    try:
        return decoded_of(header, body)
    except ImageUnreadableError as error:
        if error.reason in {"decode_memory_limit", "decoder_answer_malformed"}:
            child.fit = False
        raise


def child_command(limits: DecodeLimits) -> tuple[str, ...]:
    """The command of a child: this interpreter, no user site, no current folder."""
    module = "fhir_adapters.dicom.decode_child"
    numbers = (str(limits.memory_bytes), str(limits.cpu_seconds))
    return (sys.executable, "-P", "-s", "-m", module, *numbers)


@functools.cache
def _pool_of(process_id: int) -> DecodePool:
    """The pool of this process; a forked one gets its own children."""
    pool = DecodePool()
    atexit.register(pool.close)
    return pool


def shared_pool() -> DecodePool:
    """The pool that :func:`decode_in_child` uses; call its ``warm`` at start."""
    with _SHARED:
        return _pool_of(os.getpid())


def decode_in_child(
    data: bytes,
    *,
    expected: ExpectedInstance,
    reference: str,
    origin: str,
    deadline: float | None = None,
    pool: DecodePool | None = None,
) -> ChestImage:
    """Decode one DICOM file in a limited child; see :meth:`DecodePool.decode`."""
    return (pool or shared_pool()).decode(
        data,
        expected=expected,
        reference=reference,
        origin=origin,
        deadline=deadline,
    )
