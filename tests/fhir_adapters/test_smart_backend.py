"""Backend services against a strict server: assertion, scopes, life, one at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from fhir_adapters.access.fhir_client import FhirClient
from fhir_adapters.access.outbound import OutboundDoor, OutboundPolicy
from fhir_adapters.access.outbound_policy import ssl_context
from fhir_adapters.access.smart_backend import BackendClient
from fhir_adapters.access.smart_keys import KeyRing
from fhir_adapters.access.smart_types import Registration
from fhir_adapters.errors import SmartError, UpstreamError
from tests.fhir_adapters.auth_server import (
    EC_KEY,
    RING,
    RSA_KEY,
    AuthServer,
    auth_server,
)

SCOPES = "system/Patient.r system/Observation.rs"


class Site:
    """The server, our backend client and a clock."""

    def __init__(self, ehr: AuthServer, door: OutboundDoor) -> None:
        self.ehr, self.door, self.ahead = ehr, door, 0.0
        ehr.clock = self.clock
        self.backend = self.made()

    def clock(self) -> float:
        return time.time() + self.ahead

    def made(self, **registration: Any) -> BackendClient:
        given = {"keys": RING, **registration}
        return BackendClient(
            self.door,
            Registration(self.ehr.issuer, "trivium", "", **given),
            clock=self.clock,
        )

    def token_forms(self) -> list[dict[str, str]]:
        return [form for path, form in self.ehr.forms if path == "/token"]


@pytest.fixture
def site() -> Iterator[Site]:
    with auth_server() as (ehr, server):
        policy = OutboundPolicy(frozenset({server.origin}), loopback=True)
        with OutboundDoor(policy) as door:
            yield Site(ehr, door)


def soon() -> float:
    return time.monotonic() + 5.0


@pytest.mark.smart("S29", "S30")
@pytest.mark.parametrize("keys", [[EC_KEY], [RSA_KEY]])
def test_client_credentials_by_signed_assertion(
    site: Site, keys: list[dict[str, Any]]
) -> None:
    tokens = site.made(keys=KeyRing(keys)).client_credentials(SCOPES)
    (form,) = site.token_forms()
    assert form["grant_type"] == "client_credentials" and form["scope"] == SCOPES
    assert form["client_assertion_type"] == (
        "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    )
    assert set(form) == {
        "grant_type",
        "scope",
        "client_assertion_type",
        "client_assertion",
    }
    assert tokens.access_token == "at-1" and tokens.missing_scopes == ()


@pytest.mark.smart("S30")
@pytest.mark.parametrize(
    "scopes",
    ["patient/Patient.r", "system/Patient.r user/Patient.r", "openid", "", "system/*"],
)
def test_only_system_scopes_are_asked_for(site: Site, scopes: str) -> None:
    with pytest.raises(SmartError) as refused:
        site.backend.client_credentials(scopes)
    assert refused.value.reason == "scope_not_system"
    assert site.ehr.forms == []


@pytest.mark.smart("S30")
def test_there_is_no_backend_without_keys_or_a_server_that_takes_them(
    site: Site,
) -> None:
    with pytest.raises(SmartError) as refused:
        site.made(keys=None, client_secret="hush")
    assert refused.value.reason == "signing_keys"
    site.ehr.configuration = {"capabilities": ["permission-v2"]}
    with pytest.raises(SmartError) as refused:
        site.made(client_secret="hush").client_credentials(SCOPES)
    assert refused.value.reason == "capability_missing"
    assert site.ehr.forms == []


@pytest.mark.smart("S32")
@pytest.mark.parametrize("stated, used", [(600, 300), (300, 300), (60, 60)])
def test_a_token_is_used_for_five_minutes_at_most(
    site: Site, stated: int, used: int
) -> None:
    site.ehr.answer = {"expires_in": stated, "refresh_token": "rt"}
    tokens = site.backend.client_credentials(SCOPES)
    assert used - 5 < tokens.expires_at - time.time() <= used
    assert tokens.refresh_token is None


@pytest.mark.smart("S32")
def test_a_new_token_is_asked_for_at_four_fifths_of_its_life(site: Site) -> None:
    bearer = site.backend.bearer(SCOPES)
    assert bearer.token() == bearer.token() == "at-1"
    site.ahead = 235
    assert bearer.token() == "at-1"
    site.ahead = 241
    assert bearer.token() == "at-2"
    assert "at-2" not in repr(bearer)


@pytest.mark.smart("S32")
def test_tls_is_1_2_or_later() -> None:
    import ssl

    assert ssl_context("").minimum_version >= ssl.TLSVersion.TLSv1_2


@pytest.mark.smart("S32")
def test_threads_share_one_request(site: Site) -> None:
    site.ehr.delay_s = 0.1
    bearer, found = site.backend.bearer(SCOPES), []
    threads = [
        threading.Thread(target=lambda: found.append(bearer.token())) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["at-1"] * 6 and len(site.token_forms()) == 1


@pytest.mark.smart("S34")
def test_a_refused_token_is_renewed_once(site: Site) -> None:
    client = FhirClient(site.ehr.issuer, site.door, site.backend.bearer(SCOPES))
    assert client.read("Patient", "p1", soon())["id"] == "p1"
    site.ehr.live.clear()
    # Brand new and refused: another would be refused too.
    with pytest.raises(UpstreamError) as failed:
        client.read("Patient", "p1", soon())
    assert failed.value.status == 401 and len(site.token_forms()) == 1
    site.ahead = 10
    assert client.read("Patient", "p1", soon())["id"] == "p1"
    assert len(site.token_forms()) == 2


@pytest.mark.smart("S34")
def test_a_server_that_refuses_every_token_is_asked_twice(site: Site) -> None:
    bearer = site.backend.bearer(SCOPES)
    bearer.token()
    site.ahead = 10
    site.ehr.status["/fhir/Patient/p1"] = 401
    with pytest.raises(UpstreamError) as failed:
        FhirClient(site.ehr.issuer, site.door, bearer).read("Patient", "p1", soon())
    assert failed.value.reason == "unauthorized"
    assert len(site.token_forms()) == 2


@pytest.mark.smart("S34")
def test_a_403_renews_nothing(site: Site) -> None:
    bearer = site.backend.bearer("system/Observation.rs")
    bearer.token()
    site.ahead = 10  # old enough to be renewed, if anybody asked
    with pytest.raises(UpstreamError) as failed:
        FhirClient(site.ehr.issuer, site.door, bearer).read("Patient", "p1", soon())
    assert failed.value.reason == "forbidden" and len(site.token_forms()) == 1


def test_somebody_elses_renewal_is_taken(site: Site) -> None:
    bearer = site.backend.bearer(SCOPES)
    assert bearer.token() == "at-1"
    assert bearer.renewed("an older one", soon()) == "at-1"


@pytest.mark.ssrf("X26")
@pytest.mark.smart("S29")
def test_an_assertion_is_good_once(site: Site) -> None:
    site.backend.client_credentials(SCOPES)
    (form,) = site.token_forms()
    again = site.door.post_form(f"{site.ehr.origin}/token", form)
    assert again.status == 401
