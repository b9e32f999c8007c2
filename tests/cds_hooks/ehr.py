"""An EHR on loopback: signs tokens, publishes its keys, serves FHIR, and misbehaves.

Misbehaviour is switched on by attribute: a test says in one line what goes wrong.
Every request that reaches it is counted: a test can prove that none was made.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from joserfc import jws
from joserfc.jwk import ECKey, RSAKey

PATIENT_ID = "pat-1"
TOKEN = "canary-token-7Q"


class Ehr:
    """State of the simulated EHR."""

    def __init__(self) -> None:
        self.key = ECKey.generate_key("P-384", {"kid": "ec-1", "use": "sig"})
        self.rsa = RSAKey.generate_key(2048, {"kid": "rsa-1", "use": "sig"})
        self.resources: dict[str, list[dict[str, Any]]] = {
            "Patient": [patient()],
            "Observation": [observation("obs-1", "8310-5", "38.4", "Cel")],
            "DiagnosticReport": [],
            "DocumentReference": [document("doc-1", "Cough and fever for two days.")],
            "ImagingStudy": [],
        }
        self.requests: list[str] = []
        self.tokens: list[str] = []
        self.delay_s: dict[str, float] = {}
        self.status: dict[str, int] = {}
        self.page_size = 0
        self.jwks_status = 200
        self.port = 0

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def fhir(self) -> str:
        return f"{self.base}/fhir"

    @property
    def jku(self) -> str:
        return f"{self.base}/jwks.json"

    def tenant(self, **more: Any) -> dict[str, Any]:
        """This EHR as an entry of the tenants file."""
        return {
            "id": "sandbox",
            "name": "Sandbox",
            "issuers": [{"iss": self.base, "jku": self.jku}],
            "fhir_servers": [self.fhir],
            "dicomweb": [f"{self.base}/dicomweb"],
            "loopback": True,
            "cors_origins": [self.base],
            **more,
        }

    def jwks(self) -> dict[str, Any]:
        return {
            "keys": [self.key.as_dict(private=False), self.rsa.as_dict(private=False)]
        }

    def claims(self, audience: Any, **changes: Any) -> dict[str, Any]:
        now = int(time.time())
        made = {
            "iss": self.base,
            "aud": audience,
            "iat": now,
            "exp": now + 240,
            "jti": uuid.uuid4().hex,
            **changes,
        }
        return {name: value for name, value in made.items() if value is not None}

    def token(
        self, audience: Any, *, header: dict[str, Any] | None = None, **changes: Any
    ) -> str:
        """A signed token; ``None`` in header or claims leaves a field out."""
        made = {
            "alg": "ES384",
            "typ": "JWT",
            "kid": "ec-1",
            "jku": self.jku,
            **(header or {}),
        }
        made = {name: value for name, value in made.items() if value is not None}
        key = self.rsa if made.get("alg") == "RS384" else self.key
        payload = json.dumps(self.claims(audience, **changes))
        return jws.serialize_compact(made, payload, key, ["ES384", "RS384"])

    def count(self, path: str) -> int:
        """Requests whose path starts with ``path``."""
        return sum(seen.startswith(path) for seen in self.requests)


def patient(**more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Patient",
        "id": PATIENT_ID,
        "name": [{"family": "<img src=x onerror=alert(1)>"}],
        "gender": "female",
        "birthDate": "1960-01-01",
        **more,
    }


def observation(number: str, loinc: str, value: str, unit: str) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": number,
        "status": "final",
        "subject": {"reference": f"Patient/{PATIENT_ID}"},
        "code": {"coding": [{"system": "http://loinc.org", "code": loinc}]},
        "effectiveDateTime": "2026-01-10T08:00:00Z",
        "valueQuantity": {
            "value": float(value),
            "unit": unit,
            "system": "http://unitsofmeasure.org",
            "code": unit,
        },
    }


def document(number: str, text: str) -> dict[str, Any]:
    import base64

    data = base64.b64encode(text.encode()).decode()
    return {
        "resourceType": "DocumentReference",
        "id": number,
        "status": "current",
        "subject": {"reference": f"Patient/{PATIENT_ID}"},
        "date": "2026-01-10T08:00:00Z",
        "type": {"coding": [{"system": "http://loinc.org", "code": "11506-3"}]},
        "content": [{"attachment": {"contentType": "text/plain", "data": data}}],
    }


def bundle(resources: list[dict[str, Any]], next_url: str = "") -> dict[str, Any]:
    made: dict[str, Any] = {
        "resourceType": "Bundle",
        "type": "searchset",
        "entry": [{"resource": r, "search": {"mode": "match"}} for r in resources],
    }
    if not resources:
        del made["entry"]
    if next_url:
        made["link"] = [{"relation": "next", "url": next_url}]
    return made


class _Handler(BaseHTTPRequestHandler):
    """One request to the EHR."""

    protocol_version = "HTTP/1.1"
    ehr: Ehr

    def do_GET(self) -> None:  # noqa: N802  (the library's name)
        ehr = self.ehr
        ehr.requests.append(self.path)
        ehr.tokens.append(self.headers.get("Authorization", ""))
        parts = urlsplit(self.path)
        if parts.path == "/jwks.json":
            self._answer(ehr.jwks_status, ehr.jwks())
            return
        kind, _, wanted = parts.path.removeprefix("/fhir/").partition("/")
        time.sleep(ehr.delay_s.get(kind, 0.0))
        if kind in ehr.status:
            self._answer(ehr.status[kind], {"resourceType": "OperationOutcome"})
        elif kind not in ehr.resources:
            self._answer(404, {"resourceType": "OperationOutcome"})
        elif wanted:
            found = [r for r in ehr.resources[kind] if r["id"] == wanted]
            self._answer(200 if found else 404, found[0] if found else {})
        else:
            self._answer(200, self._page(kind, parse_qs(parts.query)))

    def _page(self, kind: str, query: dict[str, list[str]]) -> dict[str, Any]:
        found = self.ehr.resources[kind]
        size = self.ehr.page_size
        if not size:
            return bundle(found)
        start = int(query.get("start", ["0"])[0])
        more = start + size < len(found)
        link = f"{self.ehr.fhir}/{kind}?start={start + size}" if more else ""
        return bundle(found[start : start + size], link)

    def _answer(self, status: int, value: Any) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/fhir+json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        try:
            self.wfile.write(body)
        except OSError:
            self.close_connection = True

    def log_message(self, format: str, *arguments: Any) -> None:
        """Keep the test output clean."""


@contextmanager
def running_ehr() -> Iterator[Ehr]:
    """An EHR that listens on a free loopback port."""
    ehr = Ehr()
    handler = type("Handler", (_Handler,), {"ehr": ehr})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    ehr.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield ehr
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
