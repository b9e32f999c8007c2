"""Connections that go where the check went, and end when the deadline says.

The network layer under the door's connection pool. Rules:

1. One lookup for a connection, every address judged, a judged address connected to
   (DNS rebinding; CWE-367, check and use must not differ).
2. TLS shakes hands under the name of the URL, never the address.
3. The timeouts that the pool hands through are deadlines on the monotonic clock: a read
   gets what is left of the exchange, not a fresh allowance (slow drip).
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterable

import httpcore

from fhir_adapters.access.outbound_address import Resolver, check_address, resolve
from fhir_adapters.access.outbound_policy import OutboundPolicy
from fhir_adapters.access.outbound_url import is_loopback_name


class PinnedBackend(httpcore.NetworkBackend):
    """Connects to judged addresses only (rule 4)."""

    def __init__(self, policy: OutboundPolicy, resolver: Resolver) -> None:
        self._policy = policy
        self._resolver = resolver
        self._sockets = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Resolve once, judge every address, connect to the first that answers."""
        deadline = _deadline(timeout)
        addresses = resolve(
            host, port, resolver=self._resolver, seconds=deadline - time.monotonic()
        )
        # Under this policy a loopback URL has passed the check, so its name decides.
        loopback = self._policy.loopback and is_loopback_name(host)
        networks = self._policy.private_hosts.get(host)
        for address in addresses:
            check_address(address, loopback_host=loopback, networks=networks)
        error: httpcore.ConnectError | httpcore.ConnectTimeout | None = None
        for position, address in enumerate(addresses):
            # A silent first address must not eat the time of the second.
            share = (deadline - time.monotonic()) / (len(addresses) - position)
            if share <= 0:
                break
            try:
                stream = self._sockets.connect_tcp(str(address), port, share)
                return _DeadlineStream(stream)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as refused:
                error = refused
        raise error or httpcore.ConnectTimeout()


class _DeadlineStream(httpcore.NetworkStream):
    """A socket whose timeouts are points in time (rule 8)."""

    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Read within what is left until the deadline ``timeout``."""
        left = _deadline(timeout) - time.monotonic()
        if left <= 0:
            raise httpcore.ReadTimeout()
        return self._stream.read(max_bytes, left)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Write in pieces, each within what is left until the deadline."""
        for start in range(0, len(buffer), 65536):
            left = _deadline(timeout) - time.monotonic()
            if left <= 0:
                raise httpcore.WriteTimeout()
            self._stream.write(buffer[start : start + 65536], left)

    def close(self) -> None:
        """Close the socket."""
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        """Shake hands under the URL's name, not the pinned address."""
        left = max(_deadline(timeout) - time.monotonic(), 0.001)
        return _DeadlineStream(
            self._stream.start_tls(ssl_context, server_hostname, left)
        )

    def get_extra_info(self, info: str) -> object:
        """Pass on, so that the pool can see a closed socket."""
        return self._stream.get_extra_info(info)


def _deadline(timeout: float | None) -> float:
    """The deadline that the door put into the request's timeouts."""
    return time.monotonic() if timeout is None else timeout
