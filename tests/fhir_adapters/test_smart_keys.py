"""Our own keys at an EHR: what we sign, what we publish, how a key is changed."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, OctKey, RSAKey

from fhir_adapters.access.smart_keys import ASSERTION_SECONDS, KeyRing, new_key
from fhir_adapters.errors import SmartError
from tests.fhir_adapters.auth_server import EC_KEY, RSA_KEY

URL = "https://ehr.example/token"
PRIVATE = {"d", "p", "q", "dp", "dq", "qi", "oth", "k"}


def opened(token: str, ring: KeyRing) -> Any:
    """The assertion as a server reads it: with our public keys only."""
    kinds = {"EC": ECKey, "RSA": RSAKey}
    keys = [kinds[key["kty"]].import_key(key) for key in ring.public_jwks()["keys"]]
    return jwt.decode(token, KeySet(keys), algorithms=["RS384", "ES384"])


@pytest.mark.smart("S29")
@pytest.mark.parametrize("key, algorithm", [(EC_KEY, "ES384"), (RSA_KEY, "RS384")])
def test_an_assertion_says_who_to_whom_and_not_for_long(
    key: dict[str, Any], algorithm: str
) -> None:
    ring, now = KeyRing([key]), time.time()
    token = opened(ring.assertion("trivium", URL, now), ring)
    assert token.header == {"alg": algorithm, "kid": key["kid"], "typ": "JWT"}
    claims = token.claims
    assert claims["iss"] == claims["sub"] == "trivium" and claims["aud"] == URL
    assert claims["iat"] == int(now)
    assert 0 < claims["exp"] - now <= ASSERTION_SECONDS <= 300


@pytest.mark.smart("S29")
def test_no_two_assertions_share_a_jti() -> None:
    ring = KeyRing([EC_KEY])
    seen = {
        opened(ring.assertion("c", URL, 1e9), ring).claims["jti"] for _ in range(20)
    }
    assert len(seen) == 20 and min(map(len, seen)) >= 22


@pytest.mark.smart("S31")
def test_what_is_published_is_public() -> None:
    text = json.dumps(KeyRing([EC_KEY, RSA_KEY]).public_jwks())
    keys = json.loads(text)["keys"]
    assert [key["kid"] for key in keys] == ["ec-ours", "rsa-ours"]
    assert all(key["use"] == "sig" and not PRIVATE & key.keys() for key in keys)
    assert EC_KEY["d"] not in text and RSA_KEY["d"] not in text
    assert RSA_KEY["d"] not in repr(KeyRing([RSA_KEY]))


@pytest.mark.smart("S31")
def test_a_rotation_never_leaves_a_moment_without_a_published_key() -> None:
    old, new = EC_KEY, new_key("ES384", "ec-new")
    steps = [KeyRing(k) for k in ([old], [old, new], [new, old], [new])]
    signed = [ring.assertion("c", URL, time.time()) for ring in steps]
    assert [len(ring.kids) for ring in steps] == [1, 2, 2, 1]
    assert [ring.kids[0] for ring in steps] == ["ec-ours"] * 2 + ["ec-new"] * 2
    # An EHR may hold the key set of one step before or after ours.
    for place, token in enumerate(signed):
        for ring in steps[max(place - 1, 0) : place + 2]:
            assert opened(token, ring).claims["iss"] == "c"


def test_new_keys_are_strong() -> None:
    assert KeyRing([new_key("RS384", "r"), new_key("ES384", "e")]).kids == ("r", "e")


@pytest.mark.parametrize(
    "documents",
    [
        [],
        [EC_KEY, EC_KEY],
        [{**EC_KEY, "kid": "a/b"}],
        [{name: value for name, value in EC_KEY.items() if name != "d"}],
        [{**OctKey.generate_key(256).as_dict(), "kid": "o", "d": "x"}],
        [{**ECKey.generate_key("P-256").as_dict(private=True), "kid": "weak"}],
        [{**EC_KEY, "x": "AA"}],
        [{**RSA_KEY, "n": RSA_KEY["n"][:100]}],
        [{**EC_KEY, "kid": f"k{number}"} for number in range(9)],
    ],
)
def test_what_is_no_ring_is_refused(documents: list[dict[str, Any]]) -> None:
    with pytest.raises(SmartError) as refused:
        KeyRing(documents)
    assert refused.value.reason == "signing_keys"


def test_a_ring_is_read_from_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({"keys": [EC_KEY]}))
    path.chmod(0o600)
    assert KeyRing.read(path).kids == ("ec-ours",)
    path.chmod(0o640)
    with pytest.raises(SmartError, match="0600"):
        KeyRing.read(path)


@pytest.mark.parametrize("text", ["", "[]", '{"keys": 7}', '{"keys": [7]}', None])
def test_a_file_that_holds_no_ring(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "keys.json"
    if text is not None:
        path.write_text(text)
        path.chmod(0o600)
    with pytest.raises(SmartError):
        KeyRing.read(path)
