"""What the guarded door is allowed: origins, networks, bytes and seconds."""

from __future__ import annotations

import functools
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import certifi

from fhir_adapters.access.outbound_address import Network
from fhir_adapters.access.outbound_url import OutboundUrl, canonical_origin, parse_url
from fhir_adapters.errors import OutboundRefusedError


@dataclass(frozen=True)
class OutboundPolicy:
    """Where the door may go and how much it may take.

    Attributes:
        allowed_origins: Exact origins; put into canonical form here.
        loopback: Development and tests: loopback hosts allowed, also over http.
        private_hosts: Host name to the networks its addresses must lie in.
        max_bytes: Cap on an answer's body, bytes.
        max_seconds: Cap on a whole exchange, seconds.
        ca_file: PEM file of a hospital's own authority, added to the public ones.
        max_connections: Connections open at a time.
    """

    allowed_origins: frozenset[str]
    loopback: bool = False
    private_hosts: Mapping[str, tuple[Network, ...]] = field(default_factory=dict)
    max_bytes: int = 8 * 1024 * 1024
    max_seconds: float = 10.0
    ca_file: str = ""
    max_connections: int = 32

    def __post_init__(self) -> None:
        """Refuse at start what could never be reached lawfully.

        Raises:
            OutboundRefusedError: An origin is malformed or http beyond loopback.
        """
        origins = frozenset(canonical_origin(text) for text in self.allowed_origins)
        object.__setattr__(self, "allowed_origins", origins)
        hosts = {host.lower(): tuple(nets) for host, nets in self.private_hosts.items()}
        object.__setattr__(self, "private_hosts", MappingProxyType(hosts))
        for origin in origins:
            self.check(parse_url(origin))

    def check(self, url: OutboundUrl) -> None:
        """Refuse a URL by origin and scheme, before any lookup (rules 2 and 3)."""
        if url.origin not in self.allowed_origins:
            raise OutboundRefusedError("origin_not_allowed")
        if url.is_loopback_host and not self.loopback:
            raise OutboundRefusedError("loopback_not_allowed")
        if url.scheme != "https" and not url.is_loopback_host:
            raise OutboundRefusedError("https_required")


@functools.cache
def ssl_context(ca_file: str) -> ssl.SSLContext:
    """Certificates from the package and the policy, never from the environment."""
    context = ssl.create_default_context(cafile=certifi.where())
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca_file:
        context.load_verify_locations(cafile=ca_file)
    return context
