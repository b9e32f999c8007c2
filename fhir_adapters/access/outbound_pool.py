"""Kept-alive connections, each used by one thread at a time.

httpcore's own pool judges a connection idle while another thread is about to use it; on
a busy machine it then closes a socket in use, and a token exchange, which must never be
repeated, fails. Here a connection leaves the pool when it is taken, so no two threads
ever look at the same one.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpcore

from fhir_adapters.errors import UpstreamTimeoutError

_KEEP_SECONDS = 30.0


class ConnectionPool:
    """At most ``size`` connections at a time, idle ones kept by origin.

    Args:
        size: Connections open or in use.
        ssl_context: For https origins.
        backend: What opens sockets.
    """

    def __init__(
        self, size: int, ssl_context: ssl.SSLContext, backend: httpcore.NetworkBackend
    ) -> None:
        self._size = size
        self._ssl_context = ssl_context
        self._backend = backend
        self._slots = threading.BoundedSemaphore(size)
        self._idle: list[tuple[httpcore.Origin, httpcore.HTTPConnection]] = []
        self._closed = False
        self._lock = threading.Lock()

    @contextmanager
    def connection(
        self, origin: httpcore.Origin, deadline: float
    ) -> Iterator[httpcore.HTTPConnection]:
        """A connection for one exchange, kept afterwards if the exchange is complete.

        Raises:
            UpstreamTimeoutError: None was free before ``deadline``.
        """
        if not self._slots.acquire(timeout=max(deadline - time.monotonic(), 0.0)):
            raise UpstreamTimeoutError("connections_busy")
        try:
            connection = self._take(origin)
            try:
                yield connection
            finally:
                self._put_back(origin, connection)
        finally:
            self._slots.release()

    def close(self) -> None:
        """Close every idle connection; those at work close when they come back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for _, connection in idle:
            connection.close()

    def _take(self, origin: httpcore.Origin) -> httpcore.HTTPConnection:
        """A kept connection that still lives, else a new one."""
        while (connection := self._pop(origin)) is not None:
            if not connection.has_expired():
                return connection
            connection.close()
        return httpcore.HTTPConnection(
            origin,
            ssl_context=self._ssl_context,
            keepalive_expiry=_KEEP_SECONDS,
            network_backend=self._backend,
        )

    def _pop(self, origin: httpcore.Origin) -> httpcore.HTTPConnection | None:
        """The youngest idle connection to ``origin``: the likeliest to be alive."""
        with self._lock:
            for place in reversed(range(len(self._idle))):
                if self._idle[place][0] == origin:
                    return self._idle.pop(place)[1]
        return None

    def _put_back(
        self, origin: httpcore.Origin, connection: httpcore.HTTPConnection
    ) -> None:
        """Keep a connection whose exchange is complete, close any other."""
        dropped: httpcore.HTTPConnection | None = connection
        with self._lock:
            if connection.is_idle() and not self._closed:
                self._idle.append((origin, connection))
                surplus = len(self._idle) > self._size
                dropped = self._idle.pop(0)[1] if surplus else None
        if dropped is not None:
            dropped.close()
