"""How answers leave: JSON bodies, error bodies, and the headers that every answer has.

C1 CORS: a preflight is answered without authentication; the origin is echoed only if a
tenant lists it, and never with credentials. Attack: a web page of anybody's that calls
the service from a clinician's browser. The security headers are set unless a page set
its own: no sniffing, no referrer, no framing, no caching of anything about a patient.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import orjson
from flask import Request, Response
from werkzeug.exceptions import HTTPException

from cds_hooks.errors import (
    RETRY_AFTER_S,
    CallerError,
    UnauthenticatedError,
    UnavailableError,
    WebError,
    operation_outcome,
)

JSON = "application/json"
CORS_PATH = "/cds-services"


def json_response(value: Any, status: int = 200) -> Response:
    """``value`` as a JSON answer."""
    return Response(orjson.dumps(value, default=str), status, mimetype=JSON)


def error_response(error: WebError) -> Response:
    """K14: an OperationOutcome, with nothing of our insides; 401 is empty (J10)."""
    if isinstance(error, UnauthenticatedError):
        response = Response(b"", 401)
        response.headers["WWW-Authenticate"] = "Bearer"
        return response
    response = json_response(operation_outcome(error), error.status)
    if isinstance(error, UnavailableError):
        response.headers["Retry-After"] = str(RETRY_AFTER_S)
    return response


class RouteError(CallerError):
    """A path or method that we do not have."""

    issue = "not-found"
    text = "There is nothing here."
    reason = "route"

    def __init__(self, status: int) -> None:
        super().__init__()
        self.status = status


def from_http_exception(error: HTTPException) -> Response:
    """The framework's own refusals, in the same form as ours."""
    response = error_response(RouteError(error.code or 500))
    for name, value in error.get_headers():
        if name == "Allow":
            response.headers[name] = value
    return response


def add_headers(
    response: Response, request: Request, origins: Collection[str], https: bool
) -> Response:
    """Add CORS and security headers."""
    headers = response.headers
    headers.setdefault("X-Content-Type-Options", "nosniff")
    headers.setdefault("Referrer-Policy", "no-referrer")
    headers.setdefault("Cache-Control", "no-store")
    headers.setdefault(
        "Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"
    )
    if https:
        headers.setdefault("Strict-Transport-Security", "max-age=31536000")
    if request.path.startswith(CORS_PATH):
        headers.add("Vary", "Origin")
        origin = request.headers.get("Origin", "")
        if origin in origins:
            headers["Access-Control-Allow-Origin"] = origin
            headers["Access-Control-Allow-Methods"] = "GET, POST, OPTIONS"
            headers["Access-Control-Allow-Headers"] = (
                "authorization, content-type, accept"
            )
            headers["Access-Control-Max-Age"] = "600"
    return response
