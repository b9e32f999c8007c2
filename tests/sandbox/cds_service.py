"""A small CDS service that listens on loopback: checks the caller, keeps what it saw.

It verifies the JWT against the key set of ``jku`` the way a strict service does, so the
tests of the sandbox's client fail when the client signs wrongly.
"""

from __future__ import annotations

import base64
import json
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
from flask import Flask, jsonify, request
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from werkzeug.serving import WSGIRequestHandler, make_server

PREFETCH = {
    "patient": "Patient/{{context.patientId}}",
    "observations": "Observation?patient={{context.patientId}}&_sort=-date&_count=200",
    "documents": "DocumentReference?patient={{context.patientId}}&_sort=-date",
    "imaging": "ImagingStudy?patient={{context.patientId}}&_sort=-started",
    "visit": "Encounter/{{context.encounterId}}",
    "author": "Practitioner/{{userPractitionerId}}",
    "impossible": "Observation?patient={{context.patientId}}&_include=Observation:x",
}


def card(**changes: Any) -> dict[str, Any]:
    """A card with everything on it."""
    return {
        "uuid": str(uuid.uuid4()),
        "summary": "Lung consolidation estimated at 71 % (film, note, values)",
        "indicator": "warning",
        "detail": "**Estimate 71 %** (55 % to 83 %)\n\n"
        "| Evidence | Share |\n|---|---:|\n| Film | 48 % |\n| Note | 31 % |\n"
        "| Values | 21 % |\n\nMissing: *lactate*. Investigational; it informs and "
        "does not direct. <img src=x onerror=alert(1)> [model](https://example.org/m)",
        "source": {"label": "Trivium 0.1", "url": "https://example.org/model"},
        "links": [
            {
                "label": "See the evidence",
                "url": "http://127.0.0.1:8000/smart/launch",
                "type": "smart",
                "appContext": "prediction-77",
            },
            {"label": "Model card", "url": "https://example.org/m", "type": "absolute"},
        ],
        "overrideReasons": [
            {
                "code": "patient-ineligible",
                "system": "urn:r",
                "display": "Not eligible",
            },
            {"code": "need-more-info", "system": "urn:r", "display": "More needed"},
        ],
        **changes,
    }


@dataclass
class FakeService:
    """What the service answers and what it has seen."""

    cards: list[dict[str, Any]] = field(default_factory=lambda: [card()])
    status: int = 200
    prefetch: dict[str, str] = field(default_factory=lambda: dict(PREFETCH))
    hook: str = "patient-view"
    raw: bytes | None = None
    url: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)
    feedback: list[dict[str, Any]] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def application(self) -> Flask:
        """The service's routes."""
        app = Flask("fake-cds-service")

        @app.get("/cds-services")
        def discovery():
            self._check_caller()
            entry = {
                "id": "chest",
                "hook": self.hook,
                "title": "Chest assessment",
                "description": "Estimates conditions of the chest.",
                "prefetch": self.prefetch,
            }
            return jsonify({"services": [entry]})

        @app.post("/cds-services/chest")
        def call():
            self._check_caller()
            self.requests.append(request.get_json())
            if self.raw is not None:
                return self.raw, self.status
            if self.status != 200:
                issue = {"severity": "error", "code": "x", "diagnostics": "no store"}
                return jsonify({"issue": [issue]}), self.status
            return jsonify({"cards": self.cards})

        @app.post("/cds-services/chest/feedback")
        def feedback():
            self._check_caller()
            self.feedback += request.get_json()["feedback"]
            return jsonify({})

        return app

    def _check_caller(self) -> None:
        token = request.headers["Authorization"].removeprefix("Bearer ")
        self.tokens.append(token)
        try:
            jku = header_of(token)["jku"]
            keys = KeySet.import_key_set(httpx.get(jku, trust_env=False).json())
            claims = jwt.decode(token, keys, algorithms=["ES384"]).claims
        except (JoseError, ValueError, KeyError) as error:
            self.problems.append(repr(error))
            return
        if claims["aud"] != request.base_url:
            self.problems.append("wrong audience")
        if claims["exp"] - claims["iat"] > 300:
            self.problems.append("lives too long")


def header_of(token: str) -> dict[str, Any]:
    """The unverified header of a JWT."""
    head = token.split(".")[0]
    return json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))


class QuietHandler(WSGIRequestHandler):
    """Keeps connections and writes no request lines."""

    protocol_version = "HTTP/1.1"

    def log(self, type: str, message: str, *args: Any) -> None:
        """Nothing: request lines hold patient ids."""


@contextmanager
def serving(app: Flask, port: int = 0) -> Iterator[str]:
    """Serve an application on a free loopback port; yields its address."""
    server = make_server(
        "127.0.0.1", port, app, threaded=True, request_handler=QuietHandler
    )
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
    )
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join(timeout=5)
        server.server_close()
