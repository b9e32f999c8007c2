"""One strict reading of a URL, so that what was checked is what is connected to.

Rules (fhir-smart security notes, "issuer look-alikes"; RFC 3986; CWE-918):

1. ASCII only, no spaces, control characters or backslashes: parsers disagree on them.
2. Scheme http or https; no userinfo ("https://ehr.example@evil"), no fragment.
3. Host in lower case, no trailing dot, no empty label; a host that looks like a number
   is a dotted quad or it is refused ("2130706433", "0x7f.1", "127.1").
4. Port without leading zeros, left out of the origin where it is the default.
5. Path without ".", "..", empty segments or percent-encoded dots, slashes, backslashes,
   percent signs and control characters: no second decoding can change its meaning.

Whoever compares origins compares :attr:`OutboundUrl.origin`; nothing else is safe.

    >>> parse_url("HTTPS://EHR.Example:443/fhir/Patient?_id=1").origin
    'https://ehr.example'
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from fhir_adapters.errors import OutboundRefusedError

_MAX_LENGTH = 4096
_DEFAULT_PORTS = {"http": 80, "https": 443}
_URL = re.compile(
    r"(?P<scheme>[A-Za-z]{4,5})://"
    r"(?P<host>[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])"
    r"(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*)?"
    r"(?:\?(?P<query>[A-Za-z0-9._~!$&'()*+,;=:@%/?|\[\]-]*))?"
)
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_NUMBER = re.compile(r"0x[0-9a-f]*|[0-9]+")
_ESCAPE = re.compile(r"%(..?)?")
_FORBIDDEN_IN_PATH = frozenset({0x25, 0x2E, 0x2F, 0x5C, 0x7F, *range(0x20)})


@dataclass(frozen=True, slots=True)
class OutboundUrl:
    """The parts of a URL that passed every rule above.

    ``host`` is in lower case, an IPv6 address without its brackets. ``repr`` leaves
    the query out, because FHIR queries hold identifiers.
    """

    scheme: str
    host: str
    port: int
    path: str
    query: str

    @property
    def origin(self) -> str:
        """Scheme, host and port (left out when default), for comparison."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        if self.port == _DEFAULT_PORTS[self.scheme]:
            return f"{self.scheme}://{host}"
        return f"{self.scheme}://{host}:{self.port}"

    @property
    def target(self) -> str:
        """The request target: path and query."""
        return f"{self.path}?{self.query}" if self.query else self.path

    @property
    def netloc(self) -> str:
        """What the Host header says."""
        return self.origin.partition("://")[2]

    @property
    def is_loopback_host(self) -> bool:
        """True for "localhost" and literal loopback addresses, before any lookup."""
        return is_loopback_name(self.host)

    def __repr__(self) -> str:
        """Origin and path only."""
        return f"OutboundUrl({self.origin}{self.path})"

    def __str__(self) -> str:
        """The whole URL, in canonical form."""
        return self.origin + self.target


def parse_url(url: str) -> OutboundUrl:
    """Read ``url`` by the rules of this module.

    Raises:
        OutboundRefusedError: With reason "url_malformed", "url_host" or "url_path".
    """
    match = _URL.fullmatch(url) if len(url) <= _MAX_LENGTH else None
    if match is None:
        # Rules 1 and 2: one expression that simply has no place for "@", "#", "\\",
        # blanks or letters beyond ASCII (homographs).
        raise OutboundRefusedError("url_malformed")
    scheme = match["scheme"].lower()
    if scheme not in _DEFAULT_PORTS:
        raise OutboundRefusedError("url_malformed", "scheme is not http or https")
    path, query = match["path"] or "/", match["query"] or ""
    _check_path(path)
    _check_escapes(query, forbidden=frozenset())
    port = _port(match["port"], _DEFAULT_PORTS[scheme])
    return OutboundUrl(scheme, _host(match["host"].lower()), port, path, query)


def canonical_origin(url: str) -> str:
    """The origin of ``url`` in the one form that may be compared."""
    return parse_url(url).origin


def is_loopback_name(host: str) -> bool:
    """True for "localhost" and literal loopback addresses, before any lookup."""
    literal = literal_address(host)
    return host == "localhost" or (literal is not None and literal.is_loopback)


def literal_address(
    host: str,
) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that ``host`` spells out, None when it is a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _host(host: str) -> str:
    """Check a host in lower case (rule 3) and take IPv6 brackets off."""
    if host.startswith("["):
        literal = literal_address(host[1:-1])
        if not isinstance(literal, ipaddress.IPv6Address):
            raise OutboundRefusedError("url_host")
        return str(literal)
    labels = host.split(".")
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise OutboundRefusedError("url_host")
    # inet_aton would read "127.1" or "0x7f000001" as an address; ipaddress does not,
    # and what it does not read is refused rather than looked up as a name.
    if _NUMBER.fullmatch(labels[-1]) and literal_address(host) is None:
        raise OutboundRefusedError("url_host")
    return host


def _port(text: str | None, default: int) -> int:
    """The port number (rule 4)."""
    if text is None:
        return default
    port = int(text)
    if not 0 < port < 65536 or str(port) != text:
        raise OutboundRefusedError("url_malformed", "port")
    return port


def _check_path(path: str) -> None:
    """Refuse what a second parser could resolve to another path (rule 5)."""
    segments = path.split("/")[1:]
    if any(segment in {".", ".."} for segment in segments) or "" in segments[:-1]:
        raise OutboundRefusedError("url_path")
    _check_escapes(path, forbidden=_FORBIDDEN_IN_PATH)


def _check_escapes(text: str, *, forbidden: frozenset[int]) -> None:
    """Every percent sign starts two hex digits of an allowed character."""
    for match in _ESCAPE.finditer(text):
        digits = match[1] or ""
        if not re.fullmatch(r"[0-9A-Fa-f]{2}", digits):
            raise OutboundRefusedError("url_malformed", "percent escape")
        if int(digits, 16) in forbidden:
            raise OutboundRefusedError("url_path")
