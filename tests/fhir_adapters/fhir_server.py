"""A real HTTP server on loopback whose routes behave, or misbehave, as told."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

Json = dict[str, Any]
Route = Callable[[BaseHTTPRequestHandler], None]


class FhirServer:
    """Routes by path; ``requests`` keeps (path with query, Authorization)."""

    def __init__(self) -> None:
        self.routes: dict[str, Route] = {}
        self.requests: list[tuple[str, str | None]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer.requests.append((self.path, self.headers["Authorization"]))
                route = outer.routes.get(urlsplit(self.path).path, missing)
                try:
                    route(self)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True

            def log_message(self, format: str, *args: Any) -> None:
                """Keep the test output clean."""

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    @property
    def base(self) -> str:
        return f"{self.origin}/fhir"

    def paths(self) -> list[str]:
        return [path for path, _ in self.requests]

    def json(self, path: str, body: Any, status: int = 200, **headers: str) -> None:
        """Answer ``path`` below the base with JSON."""
        data = body if isinstance(body, bytes) else json.dumps(body, default=float)
        self.routes[f"/fhir{path}"] = answer(
            data.encode() if isinstance(data, str) else data,
            status,
            **{"Content_Type": "application/fhir+json", **headers},
        )

    @contextmanager
    def running(self) -> Iterator[FhirServer]:
        thread = threading.Thread(
            target=self._http.serve_forever, kwargs={"poll_interval": 0.02}
        )
        thread.start()
        try:
            yield self
        finally:
            self._http.shutdown()
            self._http.server_close()
            thread.join()


def answer(body: bytes, status: int = 200, **headers: str) -> Route:
    """A route that sends ``body``; underscores in header names become dashes."""

    def route(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return route


def drip(stop: threading.Event) -> Route:
    """A route that sends one byte now and then, and never ends."""

    def route(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "100000")
        handler.send_header("Content-Type", "application/fhir+json")
        handler.end_headers()
        while not stop.wait(0.02):
            handler.wfile.write(b" ")
            handler.wfile.flush()

    return route


missing = answer(b"{}", 404, Content_Type="application/fhir+json")
