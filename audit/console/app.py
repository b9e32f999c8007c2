"""The auditors' console: log in, search, verify; every query is itself recorded.

Rules this module enforces (attack in brackets):

- Own process, own login: password and one-time code, no session of the clinicians'
  service is known here (separation of duties).
- A form counts only with its session's token and from this origin (cross-site request
  forgery, login CSRF).
- A failed login says the same whatever was wrong, and is recorded (guessing).
- Nothing is loaded from elsewhere, nothing may frame a page, nothing stores one (CSP,
  ``no-store``; clickjacking, shared workstation).
- No durable record, no answer: a search that cannot be recorded does not run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from flask import (
    Flask,
    Response,
    abort,
    current_app,
    redirect,
    render_template,
    request,
    url_for,
)

from audit.console.query_form import next_page, read_query
from audit.console.sessions import Session, Sessions
from audit.errors import AuditError, EventError
from audit.event import (
    Action,
    Agent,
    AuditEvent,
    EventType,
    LawfulBasis,
    Outcome,
    Phase,
    new_correlation_id,
)
from audit.key_store import open_key_store
from audit.log import AuditLog
from audit.search import Page, search
from audit.settings import AuditSettings, read_settings
from audit.stream import StreamKind
from audit.users import UserStore
from audit.verify import verify

COOKIE = "trivium_auditor"
SYSTEM = "urn:trivium:console"
PURPOSE = "HCOMPL"
CSP = (
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
MAX_FORM_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Console:
    """What the routes work with."""

    settings: AuditSettings
    log: AuditLog
    sessions: Sessions


def create_app(
    settings: AuditSettings | None = None,
    *,
    log: AuditLog | None = None,
    sessions: Sessions | None = None,
) -> Flask:
    """The WSGI application.

    Args:
        settings: read from the environment when left out.
        log: takes the console's own records; opened when left out.
        sessions: the session table; a new one when left out.

    Raises:
        AuditConfigurationError: settings, keys or databases will not do.
    """
    settings = settings or read_settings()
    log = log or AuditLog.open(settings, StreamKind.CONSOLE)
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = MAX_FORM_BYTES
    app.extensions["trivium.console"] = Console(settings, log, sessions or Sessions())
    app.add_url_rule("/login", view_func=login, methods=["GET", "POST"])
    app.add_url_rule("/logoff", view_func=logoff, methods=["POST"])
    app.add_url_rule("/", view_func=search_page, methods=["GET"])
    app.add_url_rule("/verify", view_func=verify_page, methods=["POST"])
    app.register_error_handler(AuditError, unavailable)
    app.before_request(refuse_foreign_forms)
    app.after_request(add_headers)
    return app


def login() -> Response | str | tuple[str, int]:
    """The login form, and what it posts."""
    if request.method == "GET":
        return render_template("login.html", failed=False)
    name = request.form.get("name", "")[:64]
    console = _console()
    with open_key_store(console.settings) as store:
        users = UserStore(store)
        # The code only after the password: a right code resets the count of failures.
        password = users.verify_password(name, request.form.get("password", "")[:256])
        right = password and users.verify_totp(name, request.form.get("code", "")[:8])
        user = users.find(name) if right else None
    if user is None:
        _record(EventType.AUTH_FAIL, _stranger(), Outcome.REFUSED)
        return render_template("login.html", failed=True), 401
    _record(EventType.AUTH_OK, _agent(user.name), Outcome.OK)
    handle = console.sessions.begin(user.name, user.role)
    response: Response = redirect(url_for("search_page"))  # type: ignore[assignment]
    response.set_cookie(
        COOKIE, handle, httponly=True, samesite="Strict", secure=not _on_loopback()
    )
    return response


def logoff() -> Response:
    """End the session, on the server too."""
    session = _session(form=True)
    _record(EventType.AUTH_LOGOFF, _agent(session.user), Outcome.OK)
    _console().sessions.end(request.cookies.get(COOKIE, ""))
    response: Response = redirect(url_for("login"))  # type: ignore[assignment]
    response.delete_cookie(COOKIE)
    return response


def search_page() -> Response | str:
    """The search form with its page of records, newest first."""
    handle = request.cookies.get(COOKIE, "")
    if not handle:
        return redirect(url_for("login"))  # type: ignore[return-value]
    session = _session()
    console = _console()
    page, fault = Page([], None), ""
    try:
        query = read_query(request.args, request.args.get("after") or None)
        page = search(
            console.settings, query, log=console.log, reader=_agent(session.user)
        )
    except (EventError, ValueError) as error:
        fault = str(error)
    older = next_page(request.args, page.next) if page.next else ""
    return _render(session, "search.html", page=page, fault=fault, older=older)


def verify_page() -> Response | str:
    """Verify the whole log and say what was found, and what was not checked."""
    session = _session(form=True)
    report = verify(_console().settings, progress=False)
    outcome = Outcome.OK if report.verified else Outcome.FAILED
    _record(EventType.AUDIT_VERIFY, _agent(session.user), outcome)
    return _render(session, "verify.html", report=report)


def unavailable(_error: AuditError) -> tuple[str, int]:
    """A log or key database that does not answer: 503, without insides."""
    return render_template("unavailable.html"), 503


def refuse_foreign_forms() -> None:
    """A form of another site, or none at all, changes nothing here."""
    if request.method != "POST":
        return
    origin = request.headers.get("Origin", "")
    if urlsplit(origin).netloc != request.host:
        abort(403)


def add_headers(response: Response) -> Response:
    """The headers of every answer."""
    response.headers["Content-Security-Policy"] = CSP
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "same-origin"
    response.headers["Cache-Control"] = "no-store"
    return response


def _console() -> Console:
    console = current_app.extensions["trivium.console"]
    assert isinstance(console, Console)
    return console


def _session(*, form: bool = False) -> Session:
    """The caller's session; 401 without one, 403 for a form without its token."""
    console, handle = _console(), request.cookies.get(COOKIE, "")
    session = console.sessions.get(handle)
    if session is None:
        abort(401)
    with open_key_store(console.settings) as store:
        user = UserStore(store).find(session.user)
    # A login closed while its session lives reads nothing more.
    if user is None or user.disabled:
        console.sessions.end(handle)
        abort(401)
    if form and not session.accepts(request.form.get("csrf", "")):
        abort(403)
    return session


def _on_loopback() -> bool:
    """Whether this is a trial on one machine, without TLS in front."""
    return urlsplit(f"//{request.host}").hostname in {"127.0.0.1", "localhost"}


def _agent(user: str) -> Agent:
    return Agent("human", SYSTEM, user, network=request.remote_addr)


def _stranger() -> Agent:
    """Who failed to log in: the address, since the name is only a claim."""
    remote = request.remote_addr or "unknown"
    return Agent("device", "urn:ietf:rfc:791", remote, network=remote)


def _record(event_type: EventType, agent: Agent, outcome: Outcome) -> None:
    _console().log.append(
        AuditEvent(
            event_type,
            Action.EXECUTE,
            outcome,
            Phase.SINGLE,
            agent=agent,
            subject=None,
            purpose=PURPOSE,
            correlation_id=new_correlation_id(),
            lawful_basis=LawfulBasis.LEGAL_OBLIGATION,
        )
    )


def _render(session: Session, template: str, **values: Any) -> str:
    return render_template(
        template,
        session=session,
        form=request.args,
        event_types=list(EventType),
        outcomes=list(Outcome),
        **values,
    )
