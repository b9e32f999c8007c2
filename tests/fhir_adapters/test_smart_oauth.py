"""SMART launches against a real authorisation server that can turn hostile.

Names carry the number of the SMART checklist line that they hold us to.
"""

from __future__ import annotations

import base64
import hmac
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from joserfc.jwk import ECKey, RSAKey

from fhir_adapters.access.outbound import OutboundDoor, OutboundPolicy
from fhir_adapters.access.smart_id_token import IssuerKeys
from fhir_adapters.access.smart_oauth import Pending, Registration, SmartClient
from fhir_adapters.access.smart_scopes import (
    as_version_1,
    covers,
    missing_scopes,
    parse_scope,
)
from fhir_adapters.errors import (
    AdapterError,
    OutboundRefusedError,
    SmartError,
    UpstreamTimeoutError,
)
from tests.fhir_adapters.http_server import Server
from tests.fhir_adapters.smart_server import (
    EC,
    RSA,
    STRANGER,
    SmartServer,
    b64,
    public,
    smart_server,
    unsigned,
)

CALLBACK = "https://trivium.example/smart/callback"
SCOPES = "launch openid fhirUser patient/Patient.r patient/Observation.rs"


class Clock:
    """A clock that a test can move."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


class Site:
    """The server, its state, our client and its clock."""

    def __init__(self, ehr: SmartServer, server: Server, door: OutboundDoor) -> None:
        self.ehr, self.server, self.door = ehr, server, door
        self.clock = Clock()
        self.client = self.made()

    def made(self, **registration: Any) -> SmartClient:
        fields = {
            "issuer": self.ehr.issuer,
            "client_id": "trivium",
            "redirect_uri": CALLBACK,
            **registration,
        }
        return SmartClient(self.door, [Registration(**fields)], clock=self.clock)

    def launch(self, scopes: str = SCOPES) -> tuple[Pending, dict[str, str]]:
        url, pending = self.client.begin(self.ehr.issuer, "launch-1", scopes)
        return pending, self.ehr.authorize(url)

    def refusal(self, *launch: Any) -> str:
        pending, params = launch or self.launch()
        with pytest.raises(SmartError) as refused:
            self.client.complete(pending, params)
        return refused.value.reason

    def paths(self) -> list[str]:
        return [urlsplit(path).path for _, path, _ in self.server.requests]


@pytest.fixture
def site() -> Iterator[Site]:
    with smart_server() as (ehr, server):
        policy = OutboundPolicy(frozenset({server.origin}), loopback=True)
        with OutboundDoor(policy) as door:
            yield Site(ehr, server, door)


# --- the way it should go


@pytest.mark.smart("S1", "S16", "S17", "S18", "S19", "S21")
@pytest.mark.parametrize(
    "key, algorithm", [(EC, "ES384"), (RSA, "RS256"), (RSA, "RS384")]
)
def test_ehr_launch_gives_token_and_context(
    site: Site, key: Any, algorithm: str
) -> None:
    site.ehr.key, site.ehr.algorithm = key, algorithm
    site.ehr.answer = {
        "encounter": "e1",
        "need_patient_banner": False,
        "appContext": "opaque-7",
        "fhirContext": [{"reference": "ImagingStudy/1", "role": "launch"}],
    }
    tokens = site.client.complete(*site.launch())
    assert (tokens.access_token, tokens.patient, tokens.encounter) == (
        "at-1",
        "p1",
        "e1",
    )
    assert tokens.fhir_user == f"{site.ehr.issuer}/Practitioner/dr1"
    assert tokens.need_patient_banner is False
    assert tokens.app_context == "opaque-7"
    assert tokens.missing_scopes == ()
    assert 295 < tokens.expires_at - time.time() <= 300
    assert tokens.id_token_claims["sub"] == "u1"
    assert site.paths() == [
        "/fhir/.well-known/smart-configuration",
        "/token",
        "/jwks.json",
    ]


@pytest.mark.smart("S6", "S7", "S9", "S10", "S11", "S12")
def test_s6_s7_s9_s10_s11_what_the_browser_carries(site: Site) -> None:
    url, pending = site.client.begin(site.ehr.issuer, "xyz/+=~", SCOPES)
    assert url.startswith(f"{site.ehr.origin}/authorize?")
    asked = {k: v[0] for k, v in parse_qs(urlsplit(url).query).items()}
    assert asked["response_type"] == "code" and asked["client_id"] == "trivium"
    assert asked["launch"] == "xyz/+=~"
    assert asked["aud"] == site.ehr.issuer
    assert asked["redirect_uri"] == CALLBACK
    assert asked["code_challenge_method"] == "S256"
    assert len(asked["code_challenge"]) == 43
    assert pending.code_verifier not in url
    assert 43 <= len(pending.code_verifier) <= 128
    assert len(asked["state"]) >= 22 and asked["nonce"] == pending.nonce
    _, again = site.client.begin(site.ehr.issuer, "xyz", SCOPES)
    assert {again.state, again.nonce, again.code_verifier}.isdisjoint(
        {pending.state, pending.nonce, pending.code_verifier}
    )


@pytest.mark.smart("S8")
def test_s8_standalone_launch_sends_no_launch_parameter(site: Site) -> None:
    url, _ = site.client.begin(site.ehr.issuer, None, "launch/patient patient/*.rs")
    assert "launch=" not in urlsplit(url).query
    with pytest.raises(SmartError) as refused:
        site.client.begin(site.ehr.issuer, None, "patient/*.rs")
    assert refused.value.reason == "scope_launch_missing"


@pytest.mark.smart("S16", "S12")
def test_s16_public_client_sends_its_id_and_no_secret(site: Site) -> None:
    site.client.complete(*site.launch())
    (sent,) = site.ehr.exchanges
    assert sent["client_id"] == "trivium" and sent["authorization"] == ""
    assert sent["redirect_uri"] == CALLBACK


@pytest.mark.smart("S16")
def test_s16_confidential_client_uses_basic_with_encoded_halves(site: Site) -> None:
    site.client = site.made(client_id="tri:vium", client_secret="p@ss:w%rd")
    site.ehr.client_id = "tri:vium"
    site.client.complete(*site.launch())
    (sent,) = site.ehr.exchanges
    # tri%3Avium:p%40ss%3Aw%25rd
    assert sent["authorization"] == "Basic dHJpJTNBdml1bTpwJTQwc3MlM0F3JTI1cmQ="
    assert "client_id" not in sent


def test_pending_survives_a_session_as_plain_values(site: Site) -> None:
    pending, params = site.launch()
    kept = Pending(**asdict(pending))
    assert site.client.complete(kept, params).patient == "p1"


@pytest.mark.smart("S26")
@pytest.mark.ssrf("X28")
def test_no_secret_shows_in_repr(site: Site) -> None:
    pending, params = site.launch()
    tokens = site.client.complete(pending, params)
    secret = Registration("x", "y", "z", "hush")
    shown = repr(pending) + repr(tokens) + repr(secret)
    for hidden in (pending.code_verifier, pending.nonce, "at-1", "p1", "hush"):
        assert hidden not in shown


def test_without_openid_no_keys_are_fetched(site: Site) -> None:
    tokens = site.client.complete(*site.launch("launch patient/Patient.r"))
    assert tokens.fhir_user is None and tokens.id_token_claims == {}
    assert "/jwks.json" not in site.paths()


# --- discovery and issuer


@pytest.mark.smart("S1")
def test_s1_configuration_is_kept_for_a_bounded_time(site: Site) -> None:
    for _ in range(3):
        site.client.discover(site.ehr.issuer)
    assert len(site.server.requests) == 1
    site.clock.ahead = 301
    site.client.discover(site.ehr.issuer)
    assert len(site.server.requests) == 2


@pytest.mark.smart("S2")
def test_s2_relative_endpoint_is_resolved_against_the_base(site: Site) -> None:
    found = site.client.discover(site.ehr.issuer)
    assert found.token_endpoint == f"{site.ehr.origin}/token"


@pytest.mark.smart("S3")
@pytest.mark.parametrize(
    "methods", [None, [], ["plain"], ["plain", "S256"], "S256", ["s256"]]
)
def test_s3_without_s256_alone_there_is_no_launch(site: Site, methods: Any) -> None:
    site.ehr.configuration = {"code_challenge_methods_supported": methods}
    with pytest.raises(SmartError) as refused:
        site.client.begin(site.ehr.issuer, "l", SCOPES)
    assert refused.value.reason == "pkce_not_supported"


@pytest.mark.smart("S4")
@pytest.mark.parametrize(
    "capabilities, launch, wanted",
    [
        (["permission-v2"], "l", "capability_missing"),
        (["launch-ehr"], "l", "capability_missing"),
        (["launch-ehr", "permission-v2"], None, "capability_missing"),
        (None, "l", "configuration_malformed"),
    ],
)
def test_s4_capability_before_its_use(
    site: Site, capabilities: Any, launch: str | None, wanted: str
) -> None:
    site.ehr.configuration = {"capabilities": capabilities}
    with pytest.raises(SmartError) as refused:
        site.client.begin(site.ehr.issuer, launch, "launch launch/patient")
    assert refused.value.reason == wanted


@pytest.mark.smart("S4", "S24")
def test_s4_version_1_server_is_asked_in_version_1(site: Site) -> None:
    site.ehr.configuration = {"capabilities": ["launch-ehr", "permission-v1"]}
    pending, params = site.launch("launch patient/Patient.r patient/Observation.rs")
    assert pending.scopes == "launch patient/Patient.read patient/Observation.read"
    assert site.client.complete(pending, params).missing_scopes == ()


@pytest.mark.smart("S5")
@pytest.mark.ssrf("X1", "X20")
@pytest.mark.parametrize(
    "issuer",
    [
        "https://evil.example/fhir",
        "{origin}",
        "{origin}/fhir/other",
        "{origin}/fhir?x=1",
        "{origin}/FHIR",
        "{origin}/fhir/../fhir",
        "{origin}@evil.example/fhir",
        "http://localhost:1/fhir",
        "not a url",
        "",
    ],
)
def test_s5_unregistered_issuer_opens_no_socket(site: Site, issuer: str) -> None:
    with pytest.raises((SmartError, OutboundRefusedError)):
        site.client.begin(issuer.replace("{origin}", site.ehr.origin), "l", SCOPES)
    assert site.server.requests == [] and site.server.connections == 0


@pytest.mark.smart("S5")
def test_s5_issuer_is_compared_in_canonical_form(site: Site) -> None:
    spelled = site.ehr.issuer.replace("http:", "HTTP:") + "/"
    _, pending = site.client.begin(spelled, "l", SCOPES)
    assert pending.issuer == site.ehr.issuer


@pytest.mark.smart("S6")
@pytest.mark.parametrize("launch", ["", "a b", "a\r\nb", "\u00e9", "x" * 3000])
def test_s6_launch_that_could_not_be_a_parameter(site: Site, launch: str) -> None:
    with pytest.raises(SmartError) as refused:
        site.client.begin(site.ehr.issuer, launch, SCOPES)
    assert refused.value.reason == "launch_malformed"


@pytest.mark.smart("S6")
def test_s6_ehr_launch_needs_the_launch_scope(site: Site) -> None:
    with pytest.raises(SmartError) as refused:
        site.client.begin(site.ehr.issuer, "l", "openid patient/*.rs")
    assert refused.value.reason == "scope_launch_missing"


@pytest.mark.smart("S12")
@pytest.mark.ssrf("X21")
@pytest.mark.parametrize(
    "uri, allowed",
    [
        ("http://127.0.0.1:8000/cb", True),
        ("https://a.example/cb", True),
        ("http://a.example/cb", False),
        ("https://a.example/cb#x", False),
    ],
)
def test_s12_redirect_uri_is_https_or_loopback(
    site: Site, uri: str, allowed: bool
) -> None:
    if allowed:
        assert site.made(redirect_uri=uri) is not None
        return
    with pytest.raises(AdapterError):
        site.made(redirect_uri=uri)


@pytest.mark.smart("S2")
@pytest.mark.ssrf("X5", "X7", "X8")
@pytest.mark.parametrize(
    "name", ["token_endpoint", "jwks_uri", "authorization_endpoint"]
)
@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/x",
        "http://169.254.169.254/latest",
        "http://127.0.0.1:1/x",
        "javascript:alert(1)",
        "//evil.example/x",
    ],
)
def test_endpoints_stay_inside_the_policy(site: Site, name: str, url: str) -> None:
    site.ehr.configuration = {name: url}
    with pytest.raises(OutboundRefusedError):
        site.client.begin(site.ehr.issuer, "l", SCOPES)
    assert len(site.server.requests) == 1


@pytest.mark.smart("S1")
@pytest.mark.parametrize(
    "change, status, reason",
    [
        ({"token_endpoint": None}, 200, "configuration_malformed"),
        ({"authorization_endpoint": 7}, 200, "configuration_malformed"),
        ({}, 404, "configuration_status"),
        ({}, 500, "configuration_status"),
    ],
)
def test_broken_configuration_is_a_typed_error(
    site: Site, change: dict[str, Any], status: int, reason: str
) -> None:
    site.ehr.configuration = change
    site.ehr.status["/fhir/.well-known/smart-configuration"] = status
    with pytest.raises(SmartError) as refused:
        site.client.discover(site.ehr.issuer)
    assert refused.value.reason == reason


@pytest.mark.smart("S1")
@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{", b'{"a": NaN}', b"\xff"])
def test_configuration_that_is_no_json_object(site: Site, body: bytes) -> None:
    site.server.answer = lambda handler: handler.reply(body)
    with pytest.raises(SmartError) as refused:
        site.client.discover(site.ehr.issuer)
    assert refused.value.reason == "configuration_malformed"


def test_discovery_keeps_the_deadline(site: Site) -> None:
    site.server.answer = lambda handler: time.sleep(1)
    with pytest.raises(UpstreamTimeoutError):
        site.client.discover(site.ehr.issuer, time.monotonic() + 0.1)


# --- callback


@pytest.mark.smart("S14")
@pytest.mark.ssrf("X22")
@pytest.mark.parametrize("state", ["", "wrong", "\u00e9", None])
def test_s14_wrong_or_missing_state_exchanges_nothing(
    site: Site, state: str | None
) -> None:
    pending, params = site.launch()
    if state is None:
        del params["state"]
    else:
        params["state"] = state
    assert site.refusal(pending, params) == "state_mismatch"
    assert site.ehr.exchanges == []


@pytest.mark.smart("S14")
def test_s14_empty_pending_state_never_matches(site: Site) -> None:
    pending, params = site.launch()
    pending = replace(pending, state="")
    assert site.refusal(pending, {**params, "state": ""}) == "state_mismatch"


@pytest.mark.smart("S9", "S14")
def test_s14_state_is_used_once(site: Site) -> None:
    pending, params = site.launch()
    site.client.complete(pending, params)
    assert site.refusal(pending, params) == "state_reused"
    assert len(site.ehr.exchanges) == 1


@pytest.mark.smart("S9", "S14")
def test_s14_state_is_used_once_among_threads(site: Site) -> None:
    pending, params = site.launch()
    outcomes: list[str] = []

    def finish() -> None:
        try:
            site.client.complete(pending, params)
            outcomes.append("done")
        except SmartError as error:
            outcomes.append(error.reason)

    threads = [threading.Thread(target=finish) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["done"] + ["state_reused"] * 5


@pytest.mark.smart("S9")
@pytest.mark.parametrize("seconds", [601, -60])
def test_s9_state_lives_ten_minutes(site: Site, seconds: float) -> None:
    launch = site.launch()
    site.clock.ahead = seconds
    assert site.refusal(*launch) == "state_expired"
    assert site.ehr.exchanges == []


def test_used_states_are_forgotten_after_their_life(site: Site) -> None:
    site.client.complete(*site.launch())
    site.clock.ahead = 700
    site.ehr.claims = {"iat": int(site.clock()), "exp": int(site.clock()) + 60}
    site.client.complete(*site.launch())
    assert len(site.client._used) == 1


def test_full_store_of_states_lets_nobody_in(site: Site) -> None:
    registration = Registration(site.ehr.issuer, "trivium", CALLBACK)
    site.client = SmartClient(site.door, [registration], max_launches=1)
    site.client.complete(*site.launch())
    assert site.refusal() == "too_many_launches"


@pytest.mark.smart("S15")
def test_s15_error_parameter_is_not_repeated(site: Site) -> None:
    pending, params = site.launch()
    hostile = {
        "state": params["state"],
        "error": "<script>access_denied",
        "error_description": "Doe^John",
    }
    with pytest.raises(SmartError) as refused:
        site.client.complete(pending, hostile)
    assert str(refused.value) == "authorization_refused"
    assert site.ehr.exchanges == []


@pytest.mark.parametrize("code", ["", "x" * 5000, None])
def test_callback_without_a_code(site: Site, code: str | None) -> None:
    pending, params = site.launch()
    del params["code"]
    if code is not None:
        params["code"] = code
    assert site.refusal(pending, params) == "code_missing"


@pytest.mark.smart("S16", "S10")
def test_s16_code_of_another_launch_is_refused_by_pkce(site: Site) -> None:
    stolen = site.launch()[1]["code"]
    pending, params = site.launch()
    assert site.refusal(pending, {**params, "code": stolen}) == "token_refused"
    assert len(site.ehr.exchanges) == 1


@pytest.mark.smart("S17", "S18")
@pytest.mark.parametrize(
    "answer, reason",
    [
        ({"token_type": "mac"}, "token_type"),
        ({"token_type": None}, "token_type"),
        ({"access_token": None}, "token_malformed"),
        ({"access_token": "a\r\nX: 1"}, "token_malformed"),
        ({"access_token": 7}, "token_malformed"),
        ({"expires_in": "soon"}, "token_malformed"),
        ({"expires_in": -1}, "token_malformed"),
        ({"expires_in": True}, "token_malformed"),
        ({"patient": None}, "patient_missing"),
        ({"patient": "../Patient/2"}, "token_malformed"),
        ({"patient": 12}, "token_malformed"),
        ({"encounter": "e 1"}, "token_malformed"),
        ({"id_token": None}, "id_token_missing"),
        ({"id_token": 7}, "id_token_missing"),
    ],
)
def test_s17_s18_token_answers_that_are_not_good_enough(
    site: Site, answer: dict[str, Any], reason: str
) -> None:
    site.ehr.answer = answer
    assert site.refusal() == reason


@pytest.mark.smart("S17")
@pytest.mark.parametrize(
    "stated, seconds", [(None, 300), ("3600", 3600), (60, 60), (10**9, 86400)]
)
def test_s17_lifetime_is_as_stated_and_bounded(
    site: Site, stated: Any, seconds: int
) -> None:
    site.ehr.answer = {"expires_in": stated}
    tokens = site.client.complete(*site.launch())
    assert seconds - 5 < tokens.expires_at - time.time() <= seconds


@pytest.mark.smart("S17")
def test_s17_scopes_that_were_not_granted_are_named(site: Site) -> None:
    site.ehr.answer = {"scope": "launch openid patient/Patient.r"}
    tokens = site.client.complete(*site.launch())
    assert tokens.missing_scopes == ("fhirUser", "patient/Observation.rs")


@pytest.mark.smart("S17")
def test_s17_absent_scope_means_as_requested(site: Site) -> None:
    site.ehr.answer = {"scope": None}
    assert site.client.complete(*site.launch()).scope == SCOPES


@pytest.mark.smart("S18")
def test_s18_banner_is_needed_unless_said_otherwise(site: Site) -> None:
    site.ehr.answer = {"need_patient_banner": "false"}
    assert site.client.complete(*site.launch()).need_patient_banner is True


def test_token_endpoint_that_answers_no_json(site: Site) -> None:
    launch = site.launch()
    site.server.answer = lambda handler: handler.reply(b"<html>")
    assert site.refusal(*launch) == "token_malformed"


# --- id_token


@pytest.mark.smart("S20", "S21")
@pytest.mark.ssrf("X27")
@pytest.mark.parametrize(
    "claims, reason",
    [
        ({"iss": "https://evil.example"}, "id_token_issuer"),
        ({"iss": None}, "id_token_issuer"),
        ({"aud": "other"}, "id_token_audience"),
        ({"aud": None}, "id_token_audience"),
        ({"aud": ["trivium", "other"]}, "id_token_audience"),
        ({"aud": ["trivium", "other"], "azp": "other"}, "id_token_audience"),
        ({"azp": "other"}, "id_token_audience"),
        ({"exp": 1_000_000_000}, "id_token_expired"),
        ({"exp": None}, "id_token_expired"),
        ({"exp": "9999999999"}, "id_token_expired"),
        ({"exp": True}, "id_token_expired"),
        ({"iat": None}, "id_token_issued_at"),
        ({"iat": 9_999_999_999}, "id_token_issued_at"),
        ({"nonce": "another launch"}, "id_token_nonce"),
        ({"nonce": None}, "id_token_nonce"),
        ({"fhirUser": "https://evil.example/Practitioner/1"}, "fhir_user_malformed"),
        ({"fhirUser": "Device/1"}, "fhir_user_malformed"),
        ({"fhirUser": "../Practitioner/1"}, "fhir_user_malformed"),
    ],
)
def test_s20_s21_claims_that_do_not_hold(
    site: Site, claims: dict[str, Any], reason: str
) -> None:
    site.ehr.claims = claims
    assert site.refusal() == reason


@pytest.mark.smart("S20")
@pytest.mark.parametrize(
    "claims",
    [
        {"aud": ["trivium"]},
        {"aud": ["trivium", "other"], "azp": "trivium"},
        {"fhirUser": None},
    ],
)
def test_s20_claims_that_hold(site: Site, claims: dict[str, Any]) -> None:
    site.ehr.claims = claims
    assert site.client.complete(*site.launch()).id_token_claims["sub"] == "u1"


@pytest.mark.smart("S20")
@pytest.mark.parametrize("seconds, good", [(-50, True), (-70, False)])
def test_s20_clock_skew_is_sixty_seconds(site: Site, seconds: int, good: bool) -> None:
    site.ehr.claims = {"exp": int(time.time()) + seconds}
    if good:
        assert site.client.complete(*site.launch()).patient == "p1"
    else:
        assert site.refusal() == "id_token_expired"


@pytest.mark.smart("S20")
def test_s20_issuer_of_the_configuration_counts(site: Site) -> None:
    site.ehr.configuration = {"issuer": "https://login.example"}
    assert site.refusal() == "id_token_issuer"
    site.ehr.claims = {"iss": "https://login.example"}
    assert site.client.complete(*site.launch()).patient == "p1"


@pytest.mark.smart("S21")
def test_s21_absolute_user_on_the_issuer(site: Site) -> None:
    user = f"{site.ehr.issuer}/PractitionerRole/7"
    site.ehr.claims = {"fhirUser": user}
    assert site.client.complete(*site.launch()).fhir_user == user


@pytest.mark.smart("S19")
@pytest.mark.ssrf("X23")
def test_s19_alg_none_is_refused(site: Site) -> None:
    site.ehr.sign = unsigned
    assert site.refusal() == "id_token_algorithm"
    assert "/jwks.json" not in site.paths()


@pytest.mark.smart("S19")
@pytest.mark.ssrf("X23")
def test_s19_public_key_as_hmac_secret_is_refused(site: Site) -> None:
    def confused(header: dict[str, Any], claims: dict[str, Any]) -> str:
        signed = f"{b64({'alg': 'HS256', 'kid': 'rsa-1'})}.{b64(claims)}"
        secret = RSA.as_pem(private=False)
        digest = hmac.digest(secret, signed.encode(), "sha256")
        signature = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        return f"{signed}.{signature}"

    site.ehr.sign = confused
    assert site.refusal() == "id_token_algorithm"


@pytest.mark.smart("S19")
def test_s19_signature_of_a_stranger_with_a_known_kid(site: Site) -> None:
    site.ehr.key = STRANGER
    assert site.refusal() == "id_token_signature"


@pytest.mark.smart("S19")
@pytest.mark.ssrf("X24")
def test_s19_keys_that_the_token_brings_along_are_ignored(site: Site) -> None:
    site.ehr.key = STRANGER
    site.ehr.header = {"jwk": public(STRANGER), "jku": f"{site.ehr.origin}/evil.json"}
    assert site.refusal() == "id_token_signature"
    assert "/evil.json" not in site.paths()


@pytest.mark.smart("S19")
def test_s19_token_changed_after_signing(site: Site) -> None:
    def tampered(header: dict[str, Any], claims: dict[str, Any]) -> str:
        site.ehr.sign = None
        asked = {"nonce": claims["nonce"]}
        head, _, signature = site.ehr._id_token(asked).split(".")
        return f"{head}.{b64({**claims, 'sub': 'admin'})}.{signature}"

    site.ehr.sign = tampered
    assert site.refusal() == "id_token_signature"


@pytest.mark.parametrize(
    "token",
    [
        "x",
        "a.b.c",
        "....",
        "x" * 20_000,
        f"{b64([])}.{b64({})}.x",
        f"{b64({'alg': 'ES384', 'kid': 7})}.{b64({})}.x",
    ],
)
def test_id_token_that_is_no_token(site: Site, token: str) -> None:
    site.ehr.answer = {"id_token": token}
    assert site.refusal() == "id_token_malformed"


@pytest.mark.smart("S19")
@pytest.mark.ssrf("X23")
@pytest.mark.parametrize("header", [{}, {"alg": None}, {"alg": 7}, {"alg": "EdDSA"}])
def test_id_token_with_another_algorithm(site: Site, header: dict[str, Any]) -> None:
    site.ehr.answer = {"id_token": f"{b64(header)}.{b64({})}.x"}
    assert site.refusal() == "id_token_algorithm"


@pytest.mark.smart("S22")
def test_s22_token_without_kid_tries_all_keys_of_the_type(site: Site) -> None:
    other = ECKey.generate_key("P-384", {"kid": "ec-0"})
    site.ehr.keys = [public(RSA), public(other), public(EC)]
    site.ehr.header = {"kid": None}
    assert site.client.complete(*site.launch()).patient == "p1"


@pytest.mark.smart("S22")
def test_s22_key_without_kid_may_have_signed(site: Site) -> None:
    bare = public(EC)
    del bare["kid"]
    site.ehr.keys = [bare]
    assert site.client.complete(*site.launch()).patient == "p1"


@pytest.mark.smart("S22")
def test_s22_unknown_kid_fetches_keys_again_at_most_once_a_minute(site: Site) -> None:
    site.client.complete(*site.launch())
    rotated = ECKey.generate_key("P-384", {"kid": "ec-2"})
    site.ehr.key, site.ehr.keys = rotated, [public(rotated)]
    assert site.refusal() == "id_token_signature"
    assert site.paths().count("/jwks.json") == 1
    site.clock.ahead = 61
    assert site.client.complete(*site.launch()).patient == "p1"
    assert site.paths().count("/jwks.json") == 2


def test_keys_are_read_anew_after_an_hour() -> None:
    now = [0.0]
    fetched: list[float] = []

    def fetch(deadline: float | None) -> bytes:
        fetched.append(now[0])
        return b'{"keys": []}'

    keys = IssuerKeys(fetch, lambda: now[0])
    for moment in (0.0, 30.0, 3601.0):
        now[0] = moment
        keys.candidates({"alg": "RS256"}, None)
    assert fetched == [0.0, 3601.0]


@pytest.mark.parametrize("body", [b"[]", b"{}", b"no", b'{"keys": 7}'])
def test_jwks_that_is_none(body: bytes) -> None:
    keys = IssuerKeys(lambda _: body, lambda: 0.0)
    with pytest.raises(SmartError) as refused:
        keys.candidates({"alg": "RS256"}, None)
    assert refused.value.reason == "jwks_malformed"


def test_unusable_neighbours_do_not_spoil_a_jwks(site: Site) -> None:
    weak = public(RSAKey.generate_key(2048))
    weak["n"] = weak["n"][:100]
    site.ehr.keys = [
        7,  # type: ignore[list-item]
        {"kty": "oct", "k": "AAAA"},
        {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
        {"kty": "RSA", "n": 5, "e": "AQAB"},
        {"kty": "RSA"},
        {**public(EC), "use": "enc"},
        weak,
        public(EC),
    ]
    assert site.client.complete(*site.launch()).patient == "p1"


@pytest.mark.smart("S19")
def test_weak_rsa_key_does_not_count(site: Site) -> None:
    with pytest.warns(match="2048"):
        weak = RSAKey.generate_key(1024, {"kid": "weak"})
    site.ehr.key, site.ehr.algorithm, site.ehr.keys = weak, "RS256", [public(weak)]
    assert site.refusal() == "id_token_signature"


def test_openid_without_jwks_uri_is_a_configuration_error(site: Site) -> None:
    site.ehr.configuration = {"jwks_uri": None}
    assert site.refusal() == "configuration_malformed"


def test_jwks_that_cannot_be_had(site: Site) -> None:
    site.ehr.status["/jwks.json"] = 503
    assert site.refusal() == "jwks_status"


# --- scopes


@pytest.mark.smart("S24")
@pytest.mark.parametrize(
    "text, parsed",
    [
        ("patient/Observation.rs", True),
        ("user/*.cruds", True),
        ("system/Patient.r", True),
        ("patient/Observation.rs?category=laboratory", True),
        ("patient/Patient.read", True),
        ("patient/*.*", True),
        ("patient/Observation.", False),
        ("patient/Observation.sr", False),
        ("patient/observation.rs", False),
        ("clinic/Observation.rs", False),
        ("patient/Observation.rs?", False),
        ("openid", False),
        ("launch/patient", False),
    ],
)
def test_s24_scope_grammar(text: str, parsed: bool) -> None:
    assert (parse_scope(text) is not None) is parsed


@pytest.mark.smart("S24")
@pytest.mark.parametrize(
    "granted, requested, covered",
    [
        ("patient/Observation.rs", "patient/Observation.r", True),
        ("patient/*.cruds", "patient/Observation.rs", True),
        ("patient/*.read", "patient/Observation.rs", True),
        ("patient/Observation.r patient/*.s", "patient/Observation.rs", True),
        ("patient/Observation.r", "patient/Observation.rs", False),
        ("user/Observation.rs", "patient/Observation.rs", False),
        ("patient/Observation.rs?category=vital", "patient/Observation.rs", False),
        ("patient/Patient.rs", "patient/Observation.rs", False),
        ("openid launch", "openid", True),
        ("launch", "openid", False),
    ],
)
def test_s24_granted_covers_requested(
    granted: str, requested: str, covered: bool
) -> None:
    assert covers(granted, requested) is covered
    assert missing_scopes(granted, requested) == (() if covered else (requested,))


def test_version_1_form_asks_for_no_more_than_needed() -> None:
    asked = (
        "launch patient/Patient.rs patient/Task.cu patient/Flag.cr patient/Patient.r"
    )
    wanted = "launch patient/Patient.read patient/Task.write patient/Flag.*"
    assert as_version_1(asked) == wanted
