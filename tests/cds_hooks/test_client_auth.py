"""The attack table of the EHR's token: what is refused, and that the rest is not."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey

from cds_hooks.client_auth import ClientAuthenticator
from cds_hooks.doors import TenantDoors
from cds_hooks.errors import UnauthenticatedError
from cds_hooks.key_sets import KeySets
from cds_hooks.replay import ReplayStore
from cds_hooks.tenants import parse_tenants
from tests.cds_hooks.ehr import Ehr, running_ehr

URL = "https://cds.example/cds-services/trivium-chest"


@pytest.fixture(scope="module")
def ehr() -> Iterator[Ehr]:
    with running_ehr() as running:
        yield running


class Door:
    """The authenticator of one test and what it opened."""

    def __init__(self, ehr: Ehr, folder: Path, tenants: list[dict[str, Any]]) -> None:
        self.ehr = ehr
        parsed = parse_tenants({"tenants": tenants})
        self.doors = TenantDoors(parsed, 2.0)
        self.keys = KeySets(self.doors.door_for)
        self.replay = ReplayStore(folder / "replay.db")
        self.authenticator = ClientAuthenticator(parsed, self.keys, self.replay)

    def call(self, token: str | None, audience: tuple[str, ...] = (URL,)) -> Any:
        header = None if token is None else f"Bearer {token}"
        return self.authenticator.authenticate(header, audience, time.monotonic() + 2)

    def close(self) -> None:
        self.keys.close()
        self.doors.close()
        self.replay.close()


@pytest.fixture
def door(ehr: Ehr, tmp_path: Path) -> Iterator[Door]:
    ehr.requests.clear()
    made = Door(ehr, tmp_path, [ehr.tenant()])
    yield made
    made.close()


def b64(value: Any) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unsigned(ehr: Ehr) -> str:
    header = {"alg": "none", "typ": "JWT", "kid": "ec-1"}
    return f"{b64(header)}.{b64(ehr.claims(URL))}."


def hmac_with_public_key(ehr: Ehr) -> str:
    header = {"alg": "HS256", "typ": "JWT", "kid": "ec-1"}
    signed = f"{b64(header)}.{b64(ehr.claims(URL))}"
    secret = ehr.key.as_pem(private=False)
    mac = hmac.new(secret, signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{b64(mac)}"


def other_key(ehr: Ehr) -> str:
    key = ECKey.generate_key("P-384", {"kid": "ec-1"})
    header = {"alg": "ES384", "typ": "JWT", "kid": "ec-1"}
    return jwt.encode(header, ehr.claims(URL), key, algorithms=["ES384"])


def own_key_in_header(ehr: Ehr) -> str:
    key = ECKey.generate_key("P-384", {"kid": "mine"})
    header = {
        "alg": "ES384",
        "typ": "JWT",
        "kid": "mine",
        "jwk": key.as_dict(private=False),
    }
    return jwt.encode(header, ehr.claims(URL), key, algorithms=["ES384"])


def changed_claims(ehr: Ehr) -> str:
    head, _, signature = ehr.token(URL).split(".")
    return f"{head}.{b64(ehr.claims(URL))}.{signature}"


NOW = time.time()
ATTACKS: list[tuple[str, Callable[[Ehr], str], str]] = [
    ("none", unsigned, "bad_algorithm"),
    ("hmac", hmac_with_public_key, "bad_algorithm"),
    ("other key", other_key, "bad_signature"),
    ("own key", own_key_in_header, "unknown_key"),
    ("changed claims", changed_claims, "bad_signature"),
    ("rs key as es", lambda e: e.token(URL, header={"kid": "rsa-1"}), "bad_signature"),
    ("unknown kid", lambda e: e.token(URL, header={"kid": "no"}), "unknown_key"),
    ("no kid", lambda e: e.token(URL, header={"kid": None}), "missing_claim"),
    ("no typ", lambda e: e.token(URL, header={"typ": None}), "bad_type"),
    ("other typ", lambda e: e.token(URL, header={"typ": "at+jwt"}), "bad_type"),
    ("wrong aud", lambda e: e.token("https://evil.example"), "wrong_audience"),
    ("aud prefix", lambda e: e.token(URL + "/"), "wrong_audience"),
    ("aud list", lambda e: e.token([1, None, "x"]), "wrong_audience"),
    ("no aud", lambda e: e.token(None), "wrong_audience"),
    (
        "expired",
        lambda e: e.token(URL, exp=int(NOW) - 60, iat=int(NOW) - 90),
        "expired",
    ),
    (
        "future",
        lambda e: e.token(URL, iat=time.time() + 900, exp=time.time() + 950),
        "issued_in_future",
    ),
    ("long life", lambda e: e.token(URL, exp=int(NOW) + 3600), "lives_too_long"),
    (
        "backwards",
        lambda e: e.token(URL, iat=time.time() + 20, exp=time.time() + 10),
        "lives_too_long",
    ),
    ("no exp", lambda e: e.token(URL, exp=None), "missing_claim"),
    ("no iat", lambda e: e.token(URL, iat=None), "missing_claim"),
    ("no jti", lambda e: e.token(URL, jti=None), "missing_claim"),
    ("long jti", lambda e: e.token(URL, jti="x" * 600), "missing_claim"),
    ("no iss", lambda e: e.token(URL, iss=None), "missing_claim"),
    ("other iss", lambda e: e.token(URL, iss="https://evil.example"), "unknown_issuer"),
    ("other tenant", lambda e: e.token(URL, tenant="x"), "unknown_issuer"),
    ("two parts", lambda e: "a.b", "malformed_token"),
    ("no base64", lambda e: "\xe4.b.c", "malformed_token"),
    ("no object", lambda e: f"{b64([1])}.{b64({})}.x", "malformed_token"),
    ("deep", lambda e: f"{b64(b'[' * 5000)}.{b64({})}.x", "malformed_token"),
    ("too long", lambda e: "x" * 9000, "no_token"),
]


@pytest.mark.ssrf("X6", "X23", "X24", "X27")
@pytest.mark.parametrize(
    ("attack", "reason"),
    [(attack, reason) for _, attack, reason in ATTACKS],
    ids=[name for name, _, _ in ATTACKS],
)
def test_each_attack_is_refused(door: Door, attack: Any, reason: str) -> None:
    with pytest.raises(UnauthenticatedError) as caught:
        door.call(attack(door.ehr))
    assert caught.value.reason == reason
    assert caught.value.status == 401


@pytest.mark.parametrize("text", ["true", '"1e99"', "NaN", "1e999"])
def test_times_that_are_no_numbers_are_refused(door: Door, text: str) -> None:
    claims = json.dumps({**door.ehr.claims(URL), "exp": "@"}).replace('"@"', text)
    header = b64({"alg": "ES384", "typ": "JWT", "kid": "ec-1"})
    with pytest.raises(UnauthenticatedError):
        door.call(f"{header}.{b64(claims.encode())}.{b64(b'0' * 96)}")


@pytest.mark.parametrize(
    "header", [None, "", "Basic eA==", "Bearer", "Bearer ", "bearer"]
)
def test_a_missing_token_is_refused(door: Door, header: str | None) -> None:
    with pytest.raises(UnauthenticatedError) as caught:
        door.authenticator.authenticate(header, (URL,), time.monotonic() + 1)
    assert caught.value.reason == "no_token"


@pytest.mark.ssrf("X6")
def test_an_unlisted_key_set_is_never_fetched(door: Door) -> None:
    token = door.ehr.token(URL, header={"jku": f"{door.ehr.base}/other.json"})
    with pytest.raises(UnauthenticatedError) as caught:
        door.call(token)
    assert caught.value.reason == "foreign_jku"
    assert door.ehr.requests == []


@pytest.mark.parametrize("algorithm", ["ES384", "RS384"])
def test_good_tokens_of_both_algorithms_pass(door: Door, algorithm: str) -> None:
    kid = {"ES384": "ec-1", "RS384": "rsa-1"}[algorithm]
    caller = door.call(door.ehr.token(URL, header={"alg": algorithm, "kid": kid}))
    assert caller.tenant.id == "sandbox"
    assert caller.iss == door.ehr.base


def test_optional_parts_may_be_left_out_or_added(door: Door) -> None:
    door.call(door.ehr.token(URL, header={"jku": None}))
    door.call(door.ehr.token([URL, "https://other.example"], tenant="sandbox"))
    door.call(door.ehr.token(URL, sub="anybody", extra={"a": 1}))
    assert door.ehr.count("/jwks.json") == 1


@pytest.mark.ssrf("X26")
def test_a_second_use_of_one_token_is_refused(door: Door) -> None:
    token = door.ehr.token(URL)
    door.call(token)
    with pytest.raises(UnauthenticatedError) as caught:
        door.call(token)
    assert caught.value.reason == "replayed"


def test_a_bad_token_does_not_burn_the_identifier_of_a_good_one(door: Door) -> None:
    with pytest.raises(UnauthenticatedError):
        door.call(door.ehr.token("https://evil.example", jti="same"))
    assert door.call(door.ehr.token(URL, jti="same")).jti == "same"


def test_keys_agreed_beforehand_need_no_fetch(ehr: Ehr, tmp_path: Path) -> None:
    ehr.requests.clear()
    issuers = [{"iss": ehr.base, "jwks": ehr.jwks()}]
    door = Door(ehr, tmp_path, [ehr.tenant(issuers=issuers)])
    try:
        door.call(ehr.token(URL, header={"jku": None}))
        with pytest.raises(UnauthenticatedError) as caught:
            door.call(ehr.token(URL))
        assert caught.value.reason == "foreign_jku"
        assert ehr.requests == []
    finally:
        door.close()


def test_one_issuer_of_two_tenants_must_name_its_tenant(
    ehr: Ehr, tmp_path: Path
) -> None:
    door = Door(ehr, tmp_path, [ehr.tenant(), ehr.tenant(id="second")])
    try:
        assert door.call(ehr.token(URL, tenant="second")).tenant.id == "second"
        with pytest.raises(UnauthenticatedError):
            door.call(ehr.token(URL))
    finally:
        door.close()
