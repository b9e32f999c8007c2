"""Which network addresses the door may connect to, and how a name becomes one.

Rules (CWE-918, server-side request forgery; DNS rebinding):

1. A name is resolved once for a connection; **every** address of the answer must pass,
   and the connection goes to a checked address, never to the name again.
2. Link-local, cloud metadata, multicast, unspecified and reserved addresses: never,
   whatever the configuration says.
3. Loopback: only for a host that says loopback ("localhost", 127.0.0.1, ::1) and only
   under a policy for loopback. A public name that points home is an attack.
4. Private addresses: only for a host that the policy lists with its networks; a listed
   host must stay inside them.
5. IPv4 inside IPv6 (mapped, NAT64) is judged as the IPv4 that it is; 6to4 and Teredo
   are refused.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Callable, Sequence
from typing import TypeAlias

from fhir_adapters.access.outbound_url import literal_address
from fhir_adapters.errors import (
    OutboundRefusedError,
    UpstreamError,
    UpstreamTimeoutError,
)

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
Resolver: TypeAlias = Callable[[str, int], Sequence[str]]

# Metadata services that live outside the link-local ranges: Alibaba, Azure's host
# agent, Oracle (IETF protocol assignments), AWS over IPv6.
_METADATA: tuple[Network, ...] = (
    ipaddress.ip_network("100.100.100.200/32"),
    ipaddress.ip_network("168.63.129.16/32"),
    ipaddress.ip_network("192.0.0.0/24"),
    ipaddress.ip_network("fd00:ec2::254/128"),
)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_TUNNELS: tuple[Network, ...] = (
    ipaddress.ip_network("2002::/16"),
    ipaddress.ip_network("2001::/32"),
)
_MAX_ADDRESSES = 16
# Lookups that hang keep a thread each; past this many, new ones are refused at once.
_LOOKUPS = threading.BoundedSemaphore(16)


def check_address(
    address: Address, *, loopback_host: bool, networks: Sequence[Network] | None
) -> None:
    """Let ``address`` pass or refuse it.

    Args:
        address: One address of the answer.
        loopback_host: The URL names a loopback host and the policy is for loopback.
        networks: The networks that the policy lists for this host, None for none.

    Raises:
        OutboundRefusedError: With reason "address_forbidden".
    """
    judged = _embedded_ipv4(address)
    if judged.is_loopback or loopback_host:
        # Rule 3, both ways: loopback needs a loopback host, and a loopback host that
        # resolves elsewhere is as wrong.
        _require(judged.is_loopback and loopback_host)
        return
    _require(not any(judged in network for network in (*_METADATA, *_TUNNELS)))
    _require(not (judged.is_link_local or judged.is_multicast))
    _require(not (judged.is_unspecified or judged.is_reserved))
    if networks is not None:
        _require(any(judged in network for network in networks))
    else:
        _require(judged.is_global)


def resolve(
    host: str, port: int, *, resolver: Resolver, seconds: float
) -> tuple[Address, ...]:
    """The addresses of ``host``: itself, or one bounded lookup.

    ``getaddrinfo`` knows no timeout, so the lookup runs in a thread that is left behind
    when it is late.

    Raises:
        UpstreamTimeoutError: No answer within ``seconds``.
        UpstreamError: No such host, or an answer that is no address.
    """
    literal = literal_address(host)
    if literal is not None:
        return (literal,)
    if not _LOOKUPS.acquire(blocking=False):
        raise UpstreamError("name_lookups_busy")
    found: list[Sequence[str]] = []

    def look_up() -> None:
        try:
            found.append(resolver(host, port))
        except (OSError, UnicodeError):
            found.append(())
        finally:
            _LOOKUPS.release()

    thread = threading.Thread(target=look_up, name="outbound-lookup", daemon=True)
    thread.start()
    thread.join(max(seconds, 0.0))
    if not found:
        raise UpstreamTimeoutError("name_lookup_timeout")
    addresses = [literal_address(text) for text in found[0][:_MAX_ADDRESSES]]
    checked = tuple(address for address in addresses if address is not None)
    if not checked or len(checked) != len(addresses):
        raise UpstreamError("name_not_resolved")
    return checked


def system_resolver(host: str, port: int) -> Sequence[str]:
    """Ask the operating system; scoped IPv6 addresses keep their scope and so fail."""
    answer = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(item[4][0]) for item in answer))


def _embedded_ipv4(address: Address) -> Address:
    """The IPv4 address that an IPv6 form carries, else the address (rule 5)."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _require(allowed: bool) -> None:
    if not allowed:
        raise OutboundRefusedError("address_forbidden")
