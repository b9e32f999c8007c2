"""The sandbox EHR as one Flask application, and the server that runs it.

Rules:

- loopback only: the application answers nobody who names it by another host than a
  loopback one (DNS rebinding), and :func:`serve` binds to nothing else. There is no
  login in front of these patients, who are synthetic or published cases;
- one process: launch contexts and codes live in memory;
- a Content-Security-Policy without inline scripts, inline styles or foreign origins.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

from flask import Flask, Response, render_template, request
from gunicorn.app.base import BaseApplication  # type: ignore[import-untyped]
from werkzeug.exceptions import HTTPException, SecurityError

from deploy.sandbox.chart import chart_blueprint
from deploy.sandbox.dicomweb_api import dicomweb_blueprint
from deploy.sandbox.ehr import Ehr, open_ehr
from deploy.sandbox.errors import RequestError, SandboxError
from deploy.sandbox.fhir_api import fhir_blueprint, fhir_json, operation_outcome
from deploy.sandbox.smart_api import smart_blueprint

LOOPBACK = ("127.0.0.1", "localhost")
CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
MAX_REQUEST_BYTES = 1_000_000

_MACHINE_PATHS = ("/fhir", "/dicomweb", "/authorize", "/token", "/jwks.json")


def create_app(store: Path | str, base_url: str, service_url: str) -> Flask:
    """The application over a store folder.

    Args:
        base_url: this EHR's own address, for example http://127.0.0.1:8100.
        service_url: the CDS Hooks and SMART server it calls.

    Raises:
        SandboxError: an address that is not on this machine.
    """
    for url in (base_url, service_url):
        if urlsplit(url).hostname not in LOOPBACK:
            raise SandboxError("the sandbox EHR works on loopback addresses only")
    return application(open_ehr(store, base_url, service_url))


def application(ehr: Ehr) -> Flask:
    """The application over an opened EHR."""
    app = Flask(__name__)
    app.config["TRUSTED_HOSTS"] = list(LOOPBACK)
    app.config["MAX_CONTENT_LENGTH"] = MAX_REQUEST_BYTES
    app.extensions["ehr"] = ehr
    for blueprint in (
        fhir_blueprint(ehr),
        dicomweb_blueprint(ehr),
        smart_blueprint(ehr),
        chart_blueprint(ehr),
    ):
        app.register_blueprint(blueprint)
    app.jinja_env.filters["when"] = _when
    app.register_error_handler(RequestError, _refused)
    app.register_error_handler(HTTPException, _http_error)
    app.after_request(_secure)
    return app


def serve(app: Flask, host: str, port: int) -> None:
    """Run until stopped: one process, a pool of threads.

    Raises:
        SandboxError: ``host`` is not loopback.
    """
    if host not in LOOPBACK:
        raise SandboxError("the sandbox EHR listens on 127.0.0.1 only")
    _Server(app, f"127.0.0.1:{port}").run()


class _Server(BaseApplication):  # type: ignore[misc]
    """Gunicorn, started from Python."""

    def __init__(self, app: Flask, bind: str) -> None:
        self._app = app
        self._bind = bind
        super().__init__()

    def load_config(self) -> None:
        settings = {
            "bind": self._bind,
            "workers": 1,
            "threads": 16,
            "worker_class": "gthread",
            "proc_name": "trivium-sandbox",
            "loglevel": "warning",
            "keepalive": 30,
            "control_socket_disable": True,
        }
        for name, value in settings.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        return self._app


def _when(at: datetime | None, form: str = "") -> str:
    """Date and time; no time where the source gave only a day (midnight)."""
    if at is None:
        return "no date"
    whole_day = at.hour == at.minute == at.second == 0
    return at.strftime(form or ("%d %b %Y" if whole_day else "%d %b %Y, %H:%M"))


def _refused(error: RequestError) -> Response:
    if request.path.startswith(_MACHINE_PATHS) or request.is_json:
        response = fhir_json(operation_outcome(error.code, str(error)), error.status)
    else:
        page = render_template("refused.html", status=error.status, text=str(error))
        response = Response(page, error.status, content_type="text/html")
    if error.status == 401:
        response.headers["WWW-Authenticate"] = 'Bearer realm="sandbox"'
    return response


def _http_error(error: HTTPException) -> Response:
    """Routing errors (404, 405, 413 ...) in the form of the path they are on."""
    if isinstance(error, SecurityError):
        # No page for a host that is not ours: there is nothing to build links with.
        return Response("unknown host", 400, content_type="text/plain")
    status = error.code or 500
    code = {404: "not-found", 405: "not-supported", 413: "too-long"}
    response = _refused(RequestError(status, code.get(status, "invalid"), error.name))
    if error.get_response().headers.get("Allow"):
        response.headers["Allow"] = error.get_response().headers["Allow"]
    return response


def _secure(response: Response) -> Response:
    response.headers.setdefault("Content-Security-Policy", CONTENT_POLICY)
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("Referrer-Policy", "no-referrer")
    response.headers.setdefault("Cache-Control", "no-store")
    return response
