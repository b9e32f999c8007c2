"""Key sets: fetched rarely, kept for a while, and only keys that can sign."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import pytest
from joserfc.jwk import ECKey, OctKey, RSAKey

from cds_hooks.errors import KeySetError, UnauthenticatedError
from cds_hooks.key_sets import KeySets, public_keys
from cds_hooks.tenants import Issuer, Tenant
from fhir_adapters.access.outbound import Response
from fhir_adapters.errors import UpstreamTimeoutError

ISSUER = Issuer("https://ehr.example", "https://ehr.example/jwks.json")
TENANT = Tenant("t", "T", (ISSUER,))


def key(kid: str) -> dict[str, Any]:
    return ECKey.generate_key("P-384", {"kid": kid, "use": "sig"}).as_dict(
        private=False
    )


class FakeDoor:
    """Answers with ``body``; can be slow, fail, or answer nonsense."""

    def __init__(self) -> None:
        self.body: Any = {"keys": [key("a")]}
        self.status = 200
        self.fails = False
        self.calls = 0
        self.may_answer = threading.Event()
        self.may_answer.set()

    def get(
        self, url: str, headers: Any = None, deadline: float | None = None
    ) -> Response:
        self.calls += 1
        self.may_answer.wait(5)
        if self.fails:
            raise UpstreamTimeoutError()
        body = self.body if isinstance(self.body, bytes) else json.dumps(self.body)
        data = body if isinstance(body, bytes) else body.encode()
        return Response(self.status, {}, data)


class Clock:
    """Monotonic seconds that a test moves."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def parts() -> Any:
    door, clock = FakeDoor(), Clock()
    sets = KeySets(lambda tenant: door, clock)
    yield sets, door, clock
    door.may_answer.set()
    sets.close()


def ask(sets: KeySets, kid: str, wait_s: float = 2.0) -> bool:
    try:
        sets.key(TENANT, ISSUER, kid, time.monotonic() + wait_s)
    except (UnauthenticatedError, KeySetError):
        return False
    return True


def test_one_fetch_serves_many_calls(parts: Any) -> None:
    sets, door, _ = parts
    assert all(ask(sets, "a") for _ in range(5))
    assert door.calls == 1


def test_unknown_kids_cause_at_most_one_fetch_in_half_a_minute(parts: Any) -> None:
    sets, door, clock = parts
    assert not any(ask(sets, f"unknown-{n}") for n in range(20))
    assert door.calls == 1
    door.body = {"keys": [key("b")]}
    clock.now += 31
    assert ask(sets, "b")
    assert door.calls == 2


def test_old_keys_are_renewed_and_survive_an_outage_for_an_hour(parts: Any) -> None:
    sets, door, clock = parts
    assert ask(sets, "a")
    door.fails = True
    clock.now += 700
    assert ask(sets, "a") and door.calls == 2
    clock.now += 3600
    with pytest.raises(KeySetError):
        sets.key(TENANT, ISSUER, "a", time.monotonic() + 1)


def test_a_failed_fetch_is_repeated_soon_but_not_at_once(parts: Any) -> None:
    sets, door, clock = parts
    door.fails = True
    assert not any(ask(sets, "a") for _ in range(5))
    assert door.calls == 1
    door.fails = False
    clock.now += 2.5
    assert ask(sets, "a") and door.calls == 2


def test_warming_fetches_what_has_an_address(parts: Any) -> None:
    sets, door, _ = parts
    agreed = Issuer("https://other.example", jwks={"keys": [key("z")]})
    sets.warm([TENANT, Tenant("u", "U", (agreed,))])
    assert ask(sets, "a")
    assert door.calls == 1


@pytest.mark.parametrize("body", [b"no json", b"[]", b"[" * 5000])
def test_nonsense_does_not_replace_good_keys(parts: Any, body: bytes) -> None:
    sets, door, clock = parts
    assert ask(sets, "a")
    door.body = body
    clock.now += 700
    assert ask(sets, "a")
    door.status = 500
    clock.now += 40
    assert ask(sets, "a")


def test_a_slow_key_set_is_there_for_the_next_call(parts: Any) -> None:
    sets, door, _ = parts
    door.may_answer.clear()
    start = time.monotonic()
    assert not ask(sets, "a", wait_s=0.05)
    assert time.monotonic() - start < 1.0
    door.may_answer.set()
    assert ask(sets, "a")
    assert door.calls == 1


@pytest.mark.filterwarnings("ignore::joserfc.errors.SecurityWarning")
def test_keys_that_cannot_verify_signatures_are_left_out() -> None:
    weak = RSAKey.generate_key(1024, {"kid": "weak"}).as_dict(private=False)
    usable = public_keys(
        {
            "keys": [
                key("good"),
                OctKey.import_key("secret-secret-secret", {"kid": "oct"}).as_dict(),
                {**key("enc"), "use": "enc"},
                {"kty": "EC", "kid": "broken", "crv": "P-384", "x": "!", "y": "!"},
                {"kty": "unheard-of", "kid": "x"},
                {k: v for k, v in key("nameless").items() if k != "kid"},
                weak,
                "text",
            ]
        }
    )
    assert set(usable) == {"good"}
    assert public_keys({"keys": "none"}) == {}
    assert public_keys({}) == {}
