"""The auditors' console, against a real log in SQLite."""

from __future__ import annotations

import re
from pathlib import Path

import pyotp
import pytest

from audit.console.app import COOKIE, create_app
from audit.console.sessions import IDLE_SECONDS, LONGEST_SECONDS, Sessions
from audit.event import (
    Action,
    Agent,
    AuditEvent,
    EventType,
    Outcome,
    Phase,
    Subject,
    new_correlation_id,
)
from audit.key_store import open_key_store
from audit.log import AuditLog
from audit.provision import initialise
from audit.settings import AuditSettings, read_settings
from audit.stream import StreamKind
from audit.users import Role, UserStore

PASSWORD = "correct horse battery staple"
ORIGIN = {"Origin": "http://localhost"}
SYSTEM = "https://ehr.example/fhir"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> AuditSettings:
    folder: Path = tmp_path_factory.mktemp("console")
    names = {
        "TRIVIUM_AUDIT_URL": f"sqlite:///{folder}/evidence.sqlite3",
        "TRIVIUM_AUDIT_KEYS_URL": f"sqlite:///{folder}/keys.sqlite3",
        "TRIVIUM_AUDIT_KEK_FILE": str(folder / "kek.key"),
        "TRIVIUM_AUDIT_INDEX_KEY_FILE": str(folder / "index.key"),
        "TRIVIUM_AUDIT_NODE_KEY_FILE": str(folder / "node.key"),
        "TRIVIUM_AUDIT_JOURNAL": str(folder / "journal"),
        "TRIVIUM_AUDIT_CHECKPOINTS": str(folder / "checkpoints"),
        "TRIVIUM_AUDIT_DEADLINE_MS": "5000",
    }
    made = read_settings(names)
    initialise(made)
    return made


@pytest.fixture(scope="module")
def secret(settings: AuditSettings) -> str:
    with open_key_store(settings) as store:
        return UserStore(store).add("ada", Role.AUDITOR, PASSWORD)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log(settings: AuditSettings):
    opened = AuditLog.open(settings, StreamKind.CONSOLE)
    yield opened
    opened.close()


@pytest.fixture
def client(settings: AuditSettings, log: AuditLog, clock: Clock):
    app = create_app(settings, log=log, sessions=Sessions(clock))
    return app.test_client()


@pytest.fixture(autouse=True)
def fresh_codes(settings: AuditSettings, secret: str):
    """Each test may use the current code again: the half minute is not waited for."""
    from sqlalchemy import update

    from audit.key_tables import console_user

    with open_key_store(settings) as store:
        with store.engine.begin() as connection:
            changed = {"totp_last_step": 0, "failures": 0, "locked_until_us": 0}
            connection.execute(update(console_user).values(changed))


def enter(client, secret: str, **changes: str):
    form = {"name": "ada", "password": PASSWORD, "code": pyotp.TOTP(secret).now()}
    return client.post("/login", data={**form, **changes}, headers=ORIGIN)


def csrf(client) -> str:
    found = re.search(r'name="csrf" value="([^"]+)"', client.get("/").text)
    assert found
    return found.group(1)


def prediction(patient: str) -> AuditEvent:
    return AuditEvent(
        EventType.FHIR_READ,
        Action.READ,
        Outcome.OK,
        Phase.SINGLE,
        agent=Agent("human", SYSTEM, "Practitioner/7"),
        subject=Subject(SYSTEM, patient),
        purpose="TREAT",
        correlation_id=new_correlation_id(),
        evidence={"note": "<script>alert(1)</script>"},
    )


def events(client, **query: str) -> str:
    answer = client.get("/", query_string=query)
    assert answer.status_code == 200
    return str(answer.text)


def test_without_a_session_there_is_only_the_login(client) -> None:
    assert client.get("/").headers["Location"] == "/login"
    client.set_cookie(COOKIE, "made-up")
    assert client.get("/").status_code == 401
    assert client.post("/verify", headers=ORIGIN).status_code == 401


def test_password_and_code_open_a_session_and_are_recorded(client, secret) -> None:
    answer = enter(client, secret)
    assert answer.status_code == 302
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie
    assert "auth.ok" in events(client, event_type="auth.ok")


@pytest.mark.parametrize(
    "wrong", [{"password": "wrong"}, {"code": "000000"}, {"name": "nobody"}]
)
def test_a_wrong_part_says_nothing_and_is_recorded(client, secret, wrong) -> None:
    answer = enter(client, secret, **wrong)
    assert answer.status_code == 401
    assert "did not match" in answer.text and "Set-Cookie" not in answer.headers
    enter(client, secret)
    assert "auth.fail" in events(client, event_type="auth.fail")


def test_a_code_works_once(client, secret) -> None:
    code = pyotp.TOTP(secret).now()
    assert enter(client, secret, code=code).status_code == 302
    assert enter(client, secret, code=code).status_code == 401


def test_a_session_ends_when_idle_and_after_its_longest_time(
    client, secret, clock: Clock
) -> None:
    enter(client, secret)
    clock.now += IDLE_SECONDS - 1
    assert client.get("/").status_code == 200
    clock.now += IDLE_SECONDS + 1
    assert client.get("/").status_code == 401
    sessions = Sessions(clock)
    handle = sessions.begin("ada", Role.AUDITOR)
    for _ in range(int(LONGEST_SECONDS // 600)):
        clock.now += 600
        sessions.get(handle)
    assert sessions.get(handle) is None


def test_a_cookie_is_dead_after_logoff(client, secret) -> None:
    enter(client, secret)
    token, kept = csrf(client), client.get_cookie(COOKIE).value
    assert client.post("/logoff", data={"csrf": token}, headers=ORIGIN).status_code
    client.set_cookie(COOKIE, kept)
    assert client.get("/").status_code == 401


def test_a_login_that_is_closed_loses_its_session(client, settings, secret) -> None:
    with open_key_store(settings) as store:
        users = UserStore(store)
        other = users.add("eve", Role.AUDITOR, PASSWORD)
        enter(client, other, name="eve")
        assert client.get("/").status_code == 200
        users.disable("eve")
    assert client.get("/").status_code == 401


def test_forms_of_other_sites_and_without_token_are_refused(client, secret) -> None:
    foreign = {"Origin": "https://evil.example"}
    assert client.post("/login", data={}, headers=foreign).status_code == 403
    assert client.post("/login", data={}).status_code == 403
    enter(client, secret)
    assert client.post("/verify", data={}, headers=ORIGIN).status_code == 403
    wrong = {"csrf": "guess"}
    assert client.post("/verify", data=wrong, headers=ORIGIN).status_code == 403


def test_search_finds_a_patient_and_is_itself_recorded(client, secret, log) -> None:
    log.append(prediction("patient-42"))
    log.append(prediction("patient-43"))
    enter(client, secret)
    text = events(client, patient="patient-42", patient_system=SYSTEM)
    assert "patient-42" in text and "patient-43" not in text
    assert "<script>alert(1)</script>" not in text
    asked = events(client, event_type="audit.query")
    assert "audit.query" in asked and "ada" in asked


def test_a_field_that_cannot_be_read_is_named(client, secret) -> None:
    enter(client, secret)
    assert "assigned it" in events(client, patient="patient-42")
    assert "date" in events(client, since="yesterday")
    assert "hex digits" in events(client, model_sha256="xyz")
    assert "not a valid EventType" in events(client, event_type="made.up")


def test_older_records_are_a_page_away(client, secret, log) -> None:
    log.append_many([prediction("patient-many") for _ in range(60)])
    enter(client, secret)
    first = events(client, patient="patient-many", patient_system=SYSTEM)
    assert "50 records" in first
    mark = re.search(r"after=([0-9a-f]{48})", first)
    assert mark
    query = {"patient": "patient-many", "patient_system": SYSTEM}
    rest = events(client, **query, after=mark.group(1))
    # The first look at this patient is itself the newest record about them.
    assert "11 records" in rest and "Older records" not in rest


def test_verification_says_intact_and_what_was_not_checked(client, secret) -> None:
    enter(client, secret)
    answer = client.post("/verify", data={"csrf": csrf(client)}, headers=ORIGIN)
    assert "Intact" in answer.text and "Not checked" in answer.text


def test_nothing_foreign_may_load_frame_or_keep_a_page(client) -> None:
    headers = client.get("/login").headers
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert headers["Cache-Control"] == "no-store"


def test_a_log_that_cannot_record_shows_nothing(settings, secret, clock) -> None:
    closed = AuditLog.open(settings, StreamKind.CONSOLE)
    app = create_app(settings, log=closed, sessions=Sessions(clock))
    closed.close()
    answer = enter(app.test_client(), secret)
    assert answer.status_code == 503 and "nothing is shown" in answer.text
