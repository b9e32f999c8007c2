"""The SMART launch against the sandbox: the whole flow, and each way to bend it."""

from __future__ import annotations

import hashlib
import secrets
from base64 import urlsafe_b64encode
from urllib.parse import parse_qs, urlsplit

import pytest
from joserfc import jwt
from joserfc.jwk import KeySet

from deploy.sandbox.launches import CODE_LIFE_S, LaunchBook, LaunchContext

CALLBACK = "http://127.0.0.1:8000/smart/callback"
VERIFIER = secrets.token_urlsafe(48)


def challenge(verifier: str = VERIFIER) -> str:
    """S256 of a verifier."""
    digest = hashlib.sha256(verifier.encode()).digest()
    return urlsafe_b64encode(digest).rstrip(b"=").decode()


def asked(ehr, **changes) -> dict[str, str]:
    """A correct authorisation request with a fresh launch."""
    context = LaunchContext("a", "visit-a", "prediction-77")
    request = {
        "response_type": "code",
        "client_id": "trivium",
        "redirect_uri": CALLBACK,
        "scope": "launch openid fhirUser patient/Patient.r patient/Observation.rs",
        "state": "st-1",
        "nonce": "no-1",
        "aud": ehr.fhir_base,
        "launch": ehr.launches.open_launch(context),
        "code_challenge": challenge(),
        "code_challenge_method": "S256",
    }
    request.update(changes)
    return {key: value for key, value in request.items() if value is not None}


def authorize(client, request) -> dict[str, str]:
    """Query parameters of the redirect back to the app."""
    answer = client.get("/authorize", query_string=request)
    assert answer.status_code == 302
    target = urlsplit(answer.headers["Location"])
    assert f"{target.scheme}://{target.netloc}{target.path}" == CALLBACK
    return {key: values[0] for key, values in parse_qs(target.query).items()}


def trade(client, code: str, **changes):
    """The answer of /token for a code."""
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": CALLBACK,
        "client_id": "trivium",
        "code_verifier": VERIFIER,
    }
    return client.post("/token", data={**form, **changes})


def test_configuration_offers_s256_only(client) -> None:
    body = client.get("/fhir/.well-known/smart-configuration").json
    assert body["code_challenge_methods_supported"] == ["S256"]
    assert body["issuer"] == "http://127.0.0.1:8100/fhir"
    assert {"launch-ehr", "permission-v2", "authorize-post"} <= set(
        body["capabilities"]
    )


def test_the_whole_launch(client, ehr) -> None:
    back = authorize(client, asked(ehr))
    assert back["state"] == "st-1"
    answer = trade(client, back["code"])
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    tokens = answer.json
    assert (tokens["patient"], tokens["encounter"]) == ("a", "visit-a")
    assert tokens["appContext"] == "prediction-77"
    assert tokens["need_patient_banner"] is True
    assert tokens["token_type"] == "Bearer"
    headers = {"Authorization": f"Bearer {tokens['access_token']}"}
    assert client.get("/fhir/Patient/a", headers=headers).status_code == 200
    assert client.get("/fhir/Patient/b", headers=headers).status_code == 403
    assert client.get("/fhir/ImagingStudy/film-a", headers=headers).status_code == 403
    keys = KeySet.import_key_set(client.get("/jwks.json").json)
    id_token = jwt.decode(tokens["id_token"], keys, algorithms=["ES384"])
    assert id_token.header["kid"] == ehr.keys.kid
    claims = id_token.claims
    assert (claims["iss"], claims["aud"]) == (ehr.fhir_base, "trivium")
    assert claims["nonce"] == "no-1"
    assert claims["fhirUser"] == f"{ehr.fhir_base}/Practitioner/sandbox-clinician"
    assert 0 < claims["exp"] - claims["iat"] <= 300


def test_authorize_by_post_and_without_openid(client, ehr) -> None:
    request = asked(ehr, scope="launch patient/Patient.r system/*.rs", nonce=None)
    answer = client.post("/authorize", data=request)
    code = parse_qs(urlsplit(answer.headers["Location"]).query)["code"][0]
    tokens = trade(client, code).json
    assert "id_token" not in tokens
    assert tokens["scope"] == "launch patient/Patient.r"


@pytest.mark.parametrize(
    "changes",
    [
        {"redirect_uri": CALLBACK + "/"},
        {"redirect_uri": CALLBACK + "?next=x"},
        {"redirect_uri": "https://evil.example/smart/callback"},
        {"redirect_uri": None},
        {"client_id": "somebody"},
    ],
)
def test_nothing_is_redirected_to_an_unregistered_address(client, ehr, changes) -> None:
    answer = client.get("/authorize", query_string=asked(ehr, **changes))
    assert answer.status_code == 400
    assert "Location" not in answer.headers


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"aud": "http://127.0.0.1:8100/other"}, "invalid_request"),
        ({"aud": None}, "invalid_request"),
        ({"launch": "guessed"}, "invalid_request"),
        ({"launch": None}, "invalid_request"),
        ({"scope": "openid patient/*.rs"}, "invalid_scope"),
    ],
)
def test_a_wrong_request_gets_an_error_and_no_code(client, ehr, changes, error) -> None:
    back = authorize(client, asked(ehr, **changes))
    assert back["error"] == error
    assert back["state"] == "st-1" and "code" not in back


def test_a_request_without_state_gets_no_code(client, ehr) -> None:
    back = authorize(client, asked(ehr, state=None))
    assert back["error"] == "invalid_request" and "state" not in back


def test_a_launch_is_good_once(client, ehr) -> None:
    request = asked(ehr)
    assert "code" in authorize(client, request)
    assert authorize(client, request)["error"] == "invalid_request"


@pytest.mark.parametrize(
    "changes",
    [
        {"code_verifier": secrets.token_urlsafe(48)},
        {"code_verifier": ""},
        {"code_verifier": challenge()},
        {"redirect_uri": "http://127.0.0.1:8000/other"},
        {"client_id": "somebody"},
    ],
)
def test_a_code_is_worth_nothing_without_the_rest(client, ehr, changes) -> None:
    code = authorize(client, asked(ehr))["code"]
    answer = trade(client, code, **changes)
    assert (answer.status_code, answer.json["error"]) == (400, "invalid_grant")
    assert trade(client, code).json["error"] == "invalid_grant"


def test_a_code_used_twice_takes_its_token_along(client, ehr) -> None:
    code = authorize(client, asked(ehr))["code"]
    token = trade(client, code).json["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    assert client.get("/fhir/Patient/a", headers=headers).status_code == 200
    assert trade(client, code).json["error"] == "invalid_grant"
    assert client.get("/fhir/Patient/a", headers=headers).status_code == 401
    assert trade(client, code).status_code == 400


def test_a_replay_after_the_token_ended_changes_nothing(client, ehr) -> None:
    code = authorize(client, asked(ehr))["code"]
    ehr.tokens.revoke(trade(client, code).json["access_token"])
    assert trade(client, code).json["error"] == "invalid_grant"


def test_only_the_code_grant_exists(client) -> None:
    answer = client.post("/token", data={"grant_type": "password"})
    assert answer.json["error"] == "unsupported_grant_type"


def test_codes_and_launches_end() -> None:
    now = [0.0]
    book = LaunchBook(clock=lambda: now[0])
    launch = book.open_launch(LaunchContext("a"))
    now[0] += 600
    assert book.take_launch(launch) is None
    assert CODE_LIFE_S <= 60


def test_a_flood_of_launches_forgets_the_oldest() -> None:
    book = LaunchBook()
    first = book.open_launch(LaunchContext("a"))
    last = [book.open_launch(LaunchContext("b")) for _ in range(1000)][-1]
    assert book.take_launch(first) is None
    assert book.take_launch(last) == LaunchContext("b")


def test_a_context_holds_only_what_is_known(client, ehr) -> None:
    launch = ehr.launches.open_launch(LaunchContext("c"))
    request = asked(ehr, launch=launch, scope="launch openid", nonce=None)
    tokens = trade(client, authorize(client, request)["code"]).json
    assert "encounter" not in tokens and "appContext" not in tokens
    keys = KeySet.import_key_set(ehr.keys.jwks())
    claims = jwt.decode(tokens["id_token"], keys, algorithms=["ES384"]).claims
    assert "fhirUser" not in claims and "nonce" not in claims
