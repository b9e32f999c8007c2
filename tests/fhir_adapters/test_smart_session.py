"""Refresh, introspection, revocation, confidential client: on a strict server."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from fhir_adapters.access.bearer import FixedBearer, as_bearer
from fhir_adapters.access.fhir_client import FhirClient
from fhir_adapters.access.outbound import OutboundDoor, OutboundPolicy
from fhir_adapters.access.smart_oauth import Registration, SmartClient, TokenSet
from fhir_adapters.access.smart_style import fetch_style
from fhir_adapters.errors import OutboundRefusedError, SmartError, UpstreamError
from tests.fhir_adapters.auth_server import RING, AuthServer, auth_server

CALLBACK = "https://trivium.example/smart/callback"
SCOPES = "launch openid fhirUser patient/Patient.r patient/Observation.rs"


class Site:
    """The server, a client of it, and a clock that a test can move."""

    def __init__(self, ehr: AuthServer, door: OutboundDoor) -> None:
        self.ehr, self.door = ehr, door
        self.ahead = 0.0
        ehr.clock = self.clock
        self.client = self.made(keys=RING)

    def clock(self) -> float:
        return time.time() + self.ahead

    def made(self, **registration: Any) -> SmartClient:
        given = Registration(self.ehr.issuer, "trivium", CALLBACK, **registration)
        return SmartClient(self.door, [given], clock=self.clock)

    def launched(self) -> TokenSet:
        url, pending = self.client.begin(self.ehr.issuer, "l", SCOPES)
        return self.client.complete(pending, self.ehr.authorize(url))

    def asked(self, path: str) -> list[dict[str, str]]:
        return [form for where, form in self.ehr.forms if where == path]


@pytest.fixture
def site() -> Iterator[Site]:
    with auth_server() as (ehr, server):
        policy = OutboundPolicy(frozenset({server.origin}), loopback=True)
        with OutboundDoor(policy) as door:
            yield Site(ehr, door)


def reason(call: Any, *arguments: Any) -> str:
    with pytest.raises(SmartError) as refused:
        call(*arguments)
    return refused.value.reason


# --- who we are


@pytest.mark.smart("S16", "S29")
def test_a_signed_assertion_goes_before_the_secret(site: Site) -> None:
    site.client = site.made(keys=RING, client_secret="hush")
    site.launched()
    (form,) = site.asked("/token")
    assert form["redirect_uri"] == CALLBACK and len(form["code_verifier"]) >= 43
    assert "client_secret" not in form and "client_id" not in form
    header, claims = site.ehr.assertions[0]
    assert (header["alg"], claims["sub"]) == ("ES384", "trivium")


@pytest.mark.smart("S29")
def test_every_request_has_an_assertion_of_its_own(site: Site) -> None:
    tokens = site.client.refresh(site.client.refresh(site.launched()))
    assert tokens.access_token == "at-3"
    assert len({claims["jti"] for _, claims in site.ehr.assertions}) == 3


@pytest.mark.smart("S4", "S16")
def test_keys_alone_need_a_server_that_takes_them(site: Site) -> None:
    site.ehr.configuration = {"capabilities": ["launch-ehr", "permission-v2"]}
    url, pending = site.client.begin(site.ehr.issuer, "l", SCOPES)
    params = site.ehr.authorize(url)
    assert reason(site.client.complete, pending, params) == "capability_missing"
    assert site.asked("/token") == []


# --- S13


@pytest.mark.smart("S13")
def test_a_browser_can_be_sent_by_post_where_that_is_offered(site: Site) -> None:
    begin = site.client.begin_by_post
    assert reason(begin, site.ehr.issuer, "l", SCOPES) == "capability_missing"
    capabilities = ["launch-ehr", "permission-v2", "authorize-post"]
    site.ehr.configuration = {"capabilities": capabilities}
    site.ahead = 301
    action, fields, pending = begin(site.ehr.issuer, "a&b=c", SCOPES)
    assert action == f"{site.ehr.origin}/authorize"
    assert fields["launch"] == "a&b=c" and fields["scope"] == SCOPES
    assert fields["state"] == pending.state and fields["aud"] == site.ehr.issuer
    assert fields["code_challenge_method"] == "S256"
    url, _ = site.client.begin(site.ehr.issuer, "a&b=c", SCOPES)
    assert set(parse_qs(urlsplit(url).query)) == set(fields)


@pytest.mark.smart("S23")
def test_max_age_is_neither_sent_nor_its_answer_needed(site: Site) -> None:
    url, pending = site.client.begin(site.ehr.issuer, "l", SCOPES)
    assert "max_age" not in url and "prompt" not in url
    assert (
        "auth_time"
        not in site.client.complete(pending, site.ehr.authorize(url)).id_token_claims
    )
    site.ehr.claims = {"auth_time": 1}
    assert site.launched().id_token_claims["auth_time"] == 1


# --- S25


@pytest.mark.smart("S25")
def test_the_new_refresh_token_replaces_the_old(site: Site) -> None:
    first = site.launched()
    second = site.client.refresh(first)
    assert (first.refresh_token, second.refresh_token) == ("rt-1", "rt-2")
    assert second.access_token == "at-2" and second.patient == "p1"
    assert second.fhir_user == first.fhir_user
    site.ehr.answer = {"refresh_token": None}
    assert site.client.refresh(second).refresh_token == "rt-2"


@pytest.mark.smart("S25")
def test_invalid_grant_ends_the_session_and_its_text_stays_out(site: Site) -> None:
    first = site.launched()
    site.client.refresh(first)
    with pytest.raises(SmartError) as refused:
        site.client.refresh(first)
    assert str(refused.value) == "session_ended"


@pytest.mark.smart("S25")
@pytest.mark.parametrize(
    "answer, wanted",
    [
        ({"scope": SCOPES + " patient/*.cruds"}, "scope_widened"),
        ({"scope": SCOPES + " user/Patient.r"}, "scope_widened"),
        ({"patient": "p2"}, "patient_changed"),
        ({"token_type": "mac"}, "token_type"),
        ({"refresh_token": "x" * 9000}, "token_malformed"),
    ],
)
def test_a_refresh_gives_no_more_than_before(
    site: Site, answer: dict[str, Any], wanted: str
) -> None:
    tokens = site.launched()
    site.ehr.answer = answer
    assert reason(site.client.refresh, tokens) == wanted


@pytest.mark.smart("S25")
def test_a_refresh_may_give_less_and_leave_the_patient_out(site: Site) -> None:
    tokens = site.launched()
    site.ehr.answer = {"scope": "launch patient/Patient.r", "patient": None}
    fresh = site.client.refresh(tokens)
    assert (fresh.scope, fresh.patient) == ("launch patient/Patient.r", "p1")


def test_without_a_refresh_token_there_is_no_refresh(site: Site) -> None:
    tokens = replace(site.launched(), refresh_token=None)
    assert reason(site.client.refresh, tokens) == "no_refresh_token"


@pytest.mark.parametrize(
    "body, status, wanted",
    [
        (b"<html>", 400, "token_refused"),
        (b"{}", 400, "token_refused"),
        (b"{}", 500, "token_refused"),
        (b"[]", 200, "token_malformed"),
    ],
)
def test_a_refresh_that_fails_is_typed(
    site: Site, body: bytes, status: int, wanted: str
) -> None:
    tokens = site.launched()
    site.ehr._token = lambda handler: body  # type: ignore[method-assign]
    site.ehr.status["/token"] = status
    assert reason(site.client.refresh, tokens) == wanted


# --- S27


@pytest.mark.smart("S27")
def test_an_active_token_says_what_it_is_good_for(site: Site) -> None:
    tokens = site.launched()
    found = site.client.introspect(site.ehr.issuer, tokens.access_token)
    assert found.active and found.client_id == "trivium" and found.scope == SCOPES
    assert (found.patient, found.subject) == ("p1", "u1")
    assert found.issuer == site.ehr.issuer and found.fhir_user is None
    assert 290 < found.expires_at - time.time() <= 300
    assert "p1" not in repr(found)


@pytest.mark.smart("S27")
def test_an_answer_is_kept_for_a_minute_and_not_beyond_the_token(site: Site) -> None:
    token = site.launched().access_token
    for _ in range(3):
        site.client.introspect(site.ehr.issuer, token)
    assert len(site.asked("/introspect")) == 1
    site.ahead = 61
    site.client.introspect(site.ehr.issuer, token)
    assert len(site.asked("/introspect")) == 2
    site.ehr.life_s = 20
    short = site.launched().access_token
    site.client.introspect(site.ehr.issuer, short)
    site.ahead += 21
    site.client.introspect(site.ehr.issuer, short)
    assert len(site.asked("/introspect")) == 4


@pytest.mark.smart("S27")
def test_an_unknown_or_ended_token_is_not_active(site: Site) -> None:
    assert site.client.introspect(site.ehr.issuer, "nobody's").active is False
    token = site.launched().access_token
    site.ehr.answer = {"exp": 1_000_000_000}
    assert site.client.introspect(site.ehr.issuer, token).active is False


@pytest.mark.smart("S27")
@pytest.mark.parametrize(
    "answer",
    [
        {"active": "true"},
        {"active": None},
        {"scope": None},
        {"client_id": None},
        {"exp": None},
        {"exp": "soon"},
        {"exp": True},
    ],
)
def test_an_active_token_without_its_members_does_not_count(
    site: Site, answer: dict[str, Any]
) -> None:
    token = site.launched().access_token
    site.ehr.answer = answer
    found = reason(site.client.introspect, site.ehr.issuer, token)
    assert found == "introspection_malformed"


def test_an_introspection_that_fails_is_typed(site: Site) -> None:
    site.ehr.status["/introspect"] = 500
    call = site.client.introspect
    assert reason(call, site.ehr.issuer, "x") == "introspection_refused"
    site.ehr.configuration = {"introspection_endpoint": ""}
    site.ahead = 301
    assert reason(call, site.ehr.issuer, "x") == "capability_missing"


# --- S28


@pytest.mark.smart("S28")
def test_a_revoked_token_opens_nothing(site: Site) -> None:
    tokens = site.launched()
    fhir = FhirClient(site.ehr.issuer, site.door, tokens.access_token)
    assert fhir.read("Patient", "p1", time.monotonic() + 5)["id"] == "p1"
    site.client.introspect(site.ehr.issuer, tokens.access_token)
    assert site.client.revoke(tokens) is True
    hints = [form["token_type_hint"] for form in site.asked("/revoke")]
    assert hints == ["refresh_token", "access_token"]
    with pytest.raises(UpstreamError) as failed:
        fhir.read("Patient", "p1", time.monotonic() + 5)
    assert failed.value.reason == "unauthorized"
    assert reason(site.client.refresh, tokens) == "session_ended"
    # What was remembered of it is forgotten at once.
    assert not site.client.introspect(site.ehr.issuer, tokens.access_token).active


@pytest.mark.smart("S28")
def test_an_unknown_token_is_revoked_like_any_other(site: Site) -> None:
    tokens = replace(site.launched(), access_token="nobody", refresh_token=None)
    assert site.client.revoke(tokens) is True
    assert len(site.asked("/revoke")) == 1


@pytest.mark.smart("S28")
def test_a_server_without_revocation_is_not_asked(site: Site) -> None:
    site.ehr.configuration = {"revocation_endpoint": ""}
    assert site.client.revoke(site.launched()) is False
    assert site.asked("/revoke") == []


def test_a_revocation_that_fails_is_typed(site: Site) -> None:
    tokens = site.launched()
    site.ehr.status["/revoke"] = 503
    assert reason(site.client.revoke, tokens) == "revocation_refused"


@pytest.mark.smart("S26")
def test_no_token_shows_in_a_repr_or_leaves_in_a_url(site: Site) -> None:
    tokens = site.client.refresh(site.launched())
    site.client.introspect(site.ehr.issuer, tokens.access_token)
    site.client.revoke(tokens)
    shown = repr(tokens) + repr(FixedBearer("at-secret")) + repr(as_bearer("at-x"))
    assert not {"at-2", "rt-2", "at-secret", "at-x"} & set(
        shown.replace("'", " ").split()
    )
    for secret in ("at-1", "at-2", "rt-1", "rt-2"):
        assert secret not in shown


# --- S18: the EHR's look


@pytest.mark.smart("S18")
def test_a_style_is_colours_and_sizes_and_nothing_else(site: Site) -> None:
    site.ehr.resources["/style.json"] = {
        "color_background": "#edeae3",
        "color_error": "red;background:url(//evil.example)",
        "color_text": "#12",
        "dim_font_size": "13px",
        "dim_spacing_size": "expression(alert(1))",
        "font_family_body": "Georgia",
        "body{display:none}": "#fff",
    }
    site.ehr.live[""] = {"scope": "*", "exp": time.time() + 60}
    site.ehr.answer = {"smart_style_url": f"{site.ehr.origin}/style.json"}
    tokens = site.launched()
    assert tokens.style_url is not None
    found = fetch_style(site.door, site.ehr.issuer, tokens.style_url)
    assert found == {"color_background": "#edeae3", "dim_font_size": "13px"}
    site.ehr.resources["/style.json"] = []  # type: ignore[assignment]
    assert reason(fetch_style, site.door, site.ehr.issuer, tokens.style_url) == (
        "style_malformed"
    )
    site.ehr.live.clear()
    assert reason(fetch_style, site.door, site.ehr.issuer, tokens.style_url) == (
        "style_malformed"
    )


@pytest.mark.smart("S18")
@pytest.mark.ssrf("X9")
def test_a_style_of_another_origin_is_not_fetched(site: Site) -> None:
    other = "https://style.example"
    policy = OutboundPolicy(
        frozenset({site.ehr.origin, other}), loopback=True, max_seconds=0.05
    )

    def looked_up(host: str, port: int) -> list[str]:
        raise AssertionError("looked up")

    with OutboundDoor(policy, resolver=looked_up) as door:
        with pytest.raises(OutboundRefusedError) as refused:
            fetch_style(door, site.ehr.issuer, f"{other}/style.json")
        assert refused.value.reason == "style_origin"
        with pytest.raises(OutboundRefusedError):
            fetch_style(door, site.ehr.issuer, "http://169.254.169.254/style.json")
    with OutboundDoor(policy, resolver=lambda *_: []) as door:
        with pytest.raises(UpstreamError):
            fetch_style(
                door, site.ehr.issuer, f"{other}/style.json", allowed_origins={other}
            )


@pytest.mark.smart("S18")
def test_context_of_unknown_roles_does_not_stop_a_launch(site: Site) -> None:
    site.ehr.answer = {
        "fhirContext": [
            {"reference": "ImagingStudy/1", "role": "https://x.example/unheard-of"},
            {"canonical": "Questionnaire/2"},
            7,
        ],
        "encounter": None,
        "need_patient_banner": True,
    }
    tokens = site.launched()
    assert (tokens.patient, tokens.encounter) == ("p1", None)
    assert tokens.need_patient_banner is True
    site.ehr.answer["need_patient_banner"] = False
    assert site.launched().need_patient_banner is False
