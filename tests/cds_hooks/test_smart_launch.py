"""A launch through the running service against a strict authorisation server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from werkzeug.test import TestResponse

from audit.vocabulary import EventType
from cds_hooks.errors import SettingsError
from cds_hooks.smart_app.evidence_page import COOKIE
from cds_hooks.smart_app.launch import LAUNCH_COOKIE
from cds_hooks.tenants import parse_tenants
from tests.cds_hooks.ehr import Ehr
from tests.cds_hooks.service import PUBLIC, Service
from tests.cds_hooks.test_service_call import by_type
from tests.fhir_adapters.auth_server import RING, AuthServer, auth_server
from tests.fhir_adapters.http_server import Server

SCOPES = "launch openid fhirUser patient/Patient.r"
ASSESSMENT = "a1b2" * 8


@dataclass
class Launcher:
    """The service, the authorisation server, and a browser's steps."""

    service: Service
    auth: AuthServer
    server: Server

    def begin(self, **more: str) -> TestResponse:
        query = {"iss": self.auth.issuer, "launch": "xyz", **more}
        return self.service.client.get("/smart/launch", query_string=query)

    def finish(self, **more: str) -> TestResponse:
        params = {**self.auth.authorize(self.begin().location), **more}
        return self.service.client.get("/smart/callback", query_string=params)

    def cookie(self, answer: TestResponse, name: str) -> str:
        (found,) = (
            c for c in answer.headers.getlist("Set-Cookie") if c.startswith(f"{name}=")
        )
        return found


def tenants_of(ehr: Ehr, auth: AuthServer, **smart: Any) -> Any:
    client = {
        "issuer": auth.issuer,
        "client_id": "trivium",
        "scopes": SCOPES,
        **smart,
    }
    framed = ["https://ehr.example"]
    return parse_tenants(
        {"tenants": [ehr.tenant(smart=client, frame_ancestors=framed)]}
    )


@pytest.fixture
def auth() -> Iterator[tuple[AuthServer, Server]]:
    with auth_server() as running:
        running[0].answer = {"appContext": ASSESSMENT}
        yield running


@pytest.fixture
def site(
    start: Callable[..., Service], ehr: Ehr, auth: tuple[AuthServer, Server]
) -> Launcher:
    return Launcher(start(tenants=tenants_of(ehr, auth[0])), *auth)


@pytest.mark.smart("S12", "S14", "S16")
@pytest.mark.ssrf("X21")
def test_a_launch_ends_at_the_page_of_its_assessment(site: Launcher) -> None:
    asked = parse_qs(urlsplit(site.begin().location).query)
    assert asked["redirect_uri"] == [f"{PUBLIC}/smart/callback"]
    answer = site.finish(next="https://evil.example", redirect_uri="//evil.example")
    assert answer.location == f"/smart/evidence/{ASSESSMENT}"
    (event,) = by_type(site.service, EventType.SMART_LAUNCH)
    assert "Practitioner/dr1" in str(event.agent)


@pytest.mark.smart("S26")
def test_the_browser_holds_opaque_ids_that_no_script_reads(
    start: Callable[..., Service], ehr: Ehr, auth: tuple[AuthServer, Server]
) -> None:
    service = start(
        tenants=tenants_of(ehr, auth[0]), public_url="https://trivium.example"
    )
    site = Launcher(service, *auth)
    begun = site.cookie(site.begin(), LAUNCH_COOKIE)
    assert "HttpOnly" in begun and "Secure" in begun and "SameSite=Lax" in begun
    # The test client keeps no secure cookie over http, so it is carried by hand.
    value = begun.partition("=")[2].partition(";")[0]
    service.client.set_cookie(LAUNCH_COOKIE, value, path="/smart/callback")
    params = auth[0].authorize(site.begin().location)
    again = site.cookie(site.begin(), LAUNCH_COOKIE)
    assert again != begun and "at-" not in begun and "p1" not in begun
    assert params["code"] not in begun


@pytest.mark.smart("S26")
@pytest.mark.ssrf("X32")
def test_the_sessions_cookie_is_for_one_assessment_only(site: Launcher) -> None:
    cookie = site.cookie(site.finish(), COOKIE)
    assert f"Path=/smart/evidence/{ASSESSMENT}" in cookie
    assert "HttpOnly" in cookie and "SameSite=Lax" in cookie
    assert "p1" not in cookie and "at-1" not in cookie
    assert site.service.client.get("/smart/evidence/other").status_code == 403


@pytest.mark.smart("S26", "S28")
@pytest.mark.ssrf("X30")
def test_the_token_is_revoked_and_kept_nowhere(site: Launcher) -> None:
    assert site.finish().status_code == 302
    assert [form["token"] for path, form in site.auth.forms if path == "/revoke"] == [
        "rt-1",
        "at-1",
    ]
    assert site.auth.live == {} and site.auth.refreshable == {}
    for path in site.service.folder.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert b"at-1" not in data and b"rt-1" not in data, path


@pytest.mark.smart("S28")
def test_a_revocation_that_fails_does_not_stop_the_clinician(site: Launcher) -> None:
    site.auth.status["/revoke"] = 500
    assert site.finish().status_code == 302


@pytest.mark.smart("S5")
@pytest.mark.ssrf("X1", "X20")
def test_a_strangers_launch_is_400_and_opens_no_socket(site: Launcher) -> None:
    for iss in (
        "https://evil.example/fhir",
        "http://169.254.169.254/latest",
        "{iss}@evil.example",
        "{iss}.",
        "{iss}/../fhir",
        "{iss}%2f",
        "",
    ):
        answer = site.begin(iss=iss.replace("{iss}", site.auth.issuer))
        assert answer.status_code == 400 and "Location" not in answer.headers, iss
        assert iss == "" or iss.encode() not in answer.data
    assert site.server.connections == 0


@pytest.mark.smart("S9", "S14")
@pytest.mark.ssrf("X22")
def test_a_callback_in_another_browser_exchanges_nothing(site: Launcher) -> None:
    params = site.auth.authorize(site.begin().location)
    stranger = site.service.app.test_client()
    answer = stranger.get("/smart/callback", query_string=params)
    assert answer.status_code == 400
    assert [path for path, _ in site.auth.forms] == []
    (event,) = by_type(site.service, EventType.AUTH_FAIL)
    assert event.evidence["reason"] == "no_launch"


@pytest.mark.smart("S14")
def test_a_wrong_state_is_400_and_spends_the_launch(site: Launcher) -> None:
    for state in ("", "wrong"):
        params = site.auth.authorize(site.begin().location)
        get = site.service.client.get
        wrong = get("/smart/callback", query_string={**params, "state": state})
        assert wrong.status_code == 400
        assert get("/smart/callback", query_string=params).status_code == 400
    assert site.auth.forms == []


@pytest.mark.smart("S15")
def test_the_servers_error_is_our_words_and_audited(site: Launcher) -> None:
    answer = site.finish(
        error="<script>alert(1)</script>", error_description="Doe^John"
    )
    assert answer.status_code == 400
    assert b"script" not in answer.data and b"Doe" not in answer.data
    assert b"could not be completed" in answer.data
    (event,) = by_type(site.service, EventType.AUTH_FAIL)
    assert event.evidence["reason"] == "authorization_refused"
    assert site.auth.forms == []


@pytest.mark.smart("S18")
def test_a_launch_without_a_patient_or_a_user_is_refused(site: Launcher) -> None:
    site.auth.answer["patient"] = None
    assert site.finish().status_code == 400


@pytest.mark.ssrf("X21")
def test_an_app_context_is_never_a_place(site: Launcher) -> None:
    for context in ("", "//evil.example", "../../x", "a" * 65):
        site.auth.answer["appContext"] = context
        answer = site.finish()
        assert answer.status_code == 200 and b"No assessment chosen" in answer.data


@pytest.mark.ssrf("X29", "X34")
def test_our_pages_send_no_referrer_and_stand_in_listed_frames_only(
    site: Launcher,
) -> None:
    for answer in (site.begin(iss="x"), site.service.client.get("/smart/evidence/x")):
        policy = answer.headers["Content-Security-Policy"]
        assert "frame-ancestors https://ehr.example" in policy.split("; ")
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.smart("S16", "S29", "S31")
def test_a_confidential_client_signs_with_the_keys_that_it_publishes(
    start: Callable[..., Service], ehr: Ehr, auth: tuple[AuthServer, Server]
) -> None:
    tenants = tenants_of(ehr, auth[0], client_auth="private_key_jwt")
    site = Launcher(start(tenants=tenants, smart_keys=RING), *auth)
    published = site.service.app.test_client().get("/smart/jwks.json")
    assert published.status_code == 200 and published.mimetype == "application/json"
    assert published.headers["Cache-Control"] == "public, max-age=300"
    keys = published.get_json()["keys"]
    assert len(keys) == 2 and not any("d" in key for key in keys)
    assert site.finish().location == f"/smart/evidence/{ASSESSMENT}"
    header, _ = auth[0].assertions[0]
    assert header["kid"] in {key["kid"] for key in keys}
    assert "client_id" not in auth[0].forms[0][1]


@pytest.mark.smart("S31")
def test_a_public_client_publishes_an_empty_key_set(site: Launcher) -> None:
    assert site.service.client.get("/smart/jwks.json").get_json() == {"keys": []}


def test_a_tenant_that_signs_needs_keys(
    start: Callable[..., Service], ehr: Ehr, auth: tuple[AuthServer, Server]
) -> None:
    with pytest.raises(SettingsError, match="TRIVIUM_SMART_KEYS_FILE"):
        start(tenants=tenants_of(ehr, auth[0], client_auth="private_key_jwt"))
    with pytest.raises(SettingsError, match="client_auth"):
        tenants_of(ehr, auth[0], client_auth="magic")
    with pytest.raises(SettingsError, match="post_search"):
        parse_tenants({"tenants": [ehr.tenant(post_search="yes")]})
