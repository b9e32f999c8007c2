"""The one guarded door: every byte that leaves or enters by HTTP passes here.

URLs come from others (fhirServer, Endpoint.address, next links, token endpoints), so
the door trusts none of them. Rules, each with its attack:

1. The URL is read once and strictly (:mod:`.outbound_url`): look-alike hosts.
2. Its origin equals one of the policy's, exactly: server-side request forgery.
3. https; http only for a loopback host under a loopback policy: eavesdropping.
4. Every resolved address is judged and the connection goes to a judged address
   (:mod:`.outbound_address`); TLS still verifies the name: DNS rebinding.
5. A redirect is refused: a hop that nobody checked.
6. The answer is not compressed: 48 kB of gzip can hold 50 MB.
7. The body stops at the byte cap: memory exhaustion.
8. One monotonic deadline holds for lookup, connect, TLS, send and every read, so a
   server that drips a byte per second gains nothing.
9. Nothing is read from the environment: no proxies, no certificate paths, no netrc.
   No cookies are kept: one patient's session never meets another's.
10. A token exists only in the headers of the call; no error text holds a header, a
    query or a body.

    door = OutboundDoor(OutboundPolicy(frozenset({"https://ehr.example"})))
    answer = door.get("https://ehr.example/fhir/metadata", deadline=monotonic() + 0.3)
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType, TracebackType
from urllib.parse import urlencode

import httpcore

from fhir_adapters.access.outbound_address import Resolver, system_resolver
from fhir_adapters.access.outbound_pin import PinnedBackend
from fhir_adapters.access.outbound_policy import OutboundPolicy, ssl_context
from fhir_adapters.access.outbound_pool import ConnectionPool
from fhir_adapters.access.outbound_url import OutboundUrl, parse_url
from fhir_adapters.errors import (
    AdapterError,
    OutboundRefusedError,
    UpstreamError,
    UpstreamTimeoutError,
)

__all__ = ["OutboundDoor", "OutboundPolicy", "Response"]

_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_VALUE = re.compile(r"[\x20-\x7e]*")
_OURS = frozenset(
    "accept-encoding connection content-length host transfer-encoding upgrade".split()
)


@dataclass(frozen=True, slots=True, repr=False)
class Response:
    """An answer; header names are in lower case. ``repr`` shows the status only."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def __repr__(self) -> str:
        """No header and no body: both can hold PHI."""
        return f"Response({self.status}, {len(self.body)} bytes)"

    @property
    def content_type(self) -> str:
        """The media type without parameters, in lower case."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


class OutboundDoor:
    """A pool of checked connections under one policy; safe to share by threads.

    Args:
        policy: Where it may go.
        resolver: How a name becomes addresses; tests pass a fake one.
    """

    def __init__(
        self, policy: OutboundPolicy, *, resolver: Resolver = system_resolver
    ) -> None:
        self.policy = policy
        self._pool = ConnectionPool(
            policy.max_connections,
            ssl_context(policy.ca_file),
            PinnedBackend(policy, resolver),
        )

    def __enter__(self) -> OutboundDoor:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection."""
        self._pool.close()

    def check(self, url: str) -> OutboundUrl:
        """Judge a URL without opening a socket.

        Raises:
            OutboundRefusedError: The URL breaks rule 1, 2 or 3.
        """
        parsed = parse_url(url)
        self.policy.check(parsed)
        return parsed

    def get(
        self,
        url: str,
        headers: Mapping[str, str] | None = None,
        deadline: float | None = None,
        *,
        max_bytes: int | None = None,
    ) -> Response:
        """GET ``url``.

        Args:
            url: Absolute URL on an allowed origin.
            headers: The caller's headers, the token among them.
            deadline: ``time.monotonic()`` value; the policy's cap holds as well.
            max_bytes: A cap on the body below the policy's.

        Returns:
            Any answer that is no redirect; the status is the caller's to judge.

        Raises:
            OutboundRefusedError: A rule of this module refused the URL or the answer.
            UpstreamTimeoutError: Not everything arrived before the deadline.
            UpstreamError: No connection, broken TLS or broken HTTP.
        """
        return self._send("GET", url, headers, None, deadline, max_bytes)

    def post_form(
        self,
        url: str,
        form: Mapping[str, str] | Sequence[tuple[str, str]],
        headers: Mapping[str, str] | None = None,
        deadline: float | None = None,
        *,
        max_bytes: int | None = None,
    ) -> Response:
        """POST ``form`` url-encoded; never sent twice. Otherwise as :meth:`get`."""
        body = urlencode(form).encode("ascii")
        typed = {
            **(headers or {}),
            "Content-Type": "application/x-www-form-urlencoded",
        }
        return self._send("POST", url, typed, body, deadline, max_bytes)

    def _send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None,
        body: bytes | None,
        deadline: float | None,
        max_bytes: int | None,
    ) -> Response:
        parsed = self.check(url)
        limit = time.monotonic() + self.policy.max_seconds
        limit = limit if deadline is None else min(limit, deadline)
        cap = self.policy.max_bytes
        cap = cap if max_bytes is None else min(cap, max_bytes)
        request = httpcore.Request(
            method,
            httpcore.URL(
                scheme=parsed.scheme,
                host=parsed.host,
                port=parsed.port,
                target=parsed.target,
            ),
            headers=_headers(parsed, headers or {}, body),
            content=body,
        )
        failure = _Failure()
        answer = self._attempt(request, limit, cap, failure)
        if answer is None and failure.stale and method == "GET":
            # The server closed an idle connection as we reused it. A GET may repeat.
            failure = _Failure()
            answer = self._attempt(request, limit, cap, failure)
        if answer is None:
            # Raised here, outside the handler: the library's exception, which may
            # quote a header, is not even kept as context (rule 10).
            raise failure.error
        return answer

    def _attempt(
        self, request: httpcore.Request, limit: float, cap: int, failure: _Failure
    ) -> Response | None:
        """One exchange; None with ``failure`` filled in when it did not succeed."""
        # The stream below reads these three as deadlines, not as durations (rule 8).
        timeouts = {"connect": limit, "read": limit, "write": limit}
        request.extensions = {"timeout": timeouts}
        try:
            with self._pool.connection(request.url.origin, limit) as connection:
                answer = connection.handle_request(request)
                failure.stale = False
                try:
                    return _read(answer, cap)
                finally:
                    answer.close()
        except AdapterError as error:
            failure.error, failure.stale = error, False
        except httpcore.TimeoutException:
            failure.error, failure.stale = UpstreamTimeoutError(), False
        except httpcore.ConnectError:
            failure.error, failure.stale = UpstreamError("connection_failed"), False
        except (httpcore.NetworkError, httpcore.ProtocolError):
            failure.error = UpstreamError("connection_broken")
        return None


@dataclass(slots=True)
class _Failure:
    """Why an attempt failed; ``stale``: before any byte of the answer."""

    error: AdapterError = field(default_factory=UpstreamError)
    stale: bool = True


def _headers(
    url: OutboundUrl, given: Mapping[str, str], body: bytes | None
) -> list[tuple[str, str]]:
    """Our headers and the caller's; no caller overrides framing or Host."""
    headers = [
        ("Host", url.netloc),
        ("User-Agent", "trivium"),
        # Rule 6: asked for here, held to in _read.
        ("Accept-Encoding", "identity"),
    ]
    if body is not None:
        headers.append(("Content-Length", str(len(body))))
    for name, value in given.items():
        if not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(value):
            raise OutboundRefusedError("header_malformed")
        if name.lower() in _OURS:
            raise OutboundRefusedError("header_not_allowed")
        headers.append((name, value))
    return headers


def _read(answer: httpcore.Response, cap: int) -> Response:
    """Judge the head of an answer, then take its body up to ``cap`` bytes."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in answer.headers:
        name, value = raw_name.decode("ascii").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    # 304 leads nowhere: it answers If-None-Match and has no body.
    if 300 <= answer.status < 400 and answer.status != 304:
        raise OutboundRefusedError("redirect")
    if headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise OutboundRefusedError("content_encoding")
    announced = headers.get("content-length", "0")
    if not announced.isdecimal() or int(announced) > cap:
        raise OutboundRefusedError("answer_too_large")
    body = bytearray()
    for chunk in answer.iter_stream():
        body += chunk
        if len(body) > cap:
            raise OutboundRefusedError("answer_too_large")
    return Response(answer.status, MappingProxyType(headers), bytes(body))
