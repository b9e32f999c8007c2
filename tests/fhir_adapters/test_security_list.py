"""Attacks of the security list that have no home in another module's tests."""

from __future__ import annotations

import base64
import resource
import time
import zlib
from collections.abc import Iterator

import pytest

from fhir_adapters.access.outbound import OutboundDoor, OutboundPolicy
from fhir_adapters.access.smart_oauth import Registration, SmartClient
from fhir_adapters.errors import SmartError, ValueRejectedError
from fhir_adapters.policy import AdapterPolicy
from fhir_adapters.resources.attachment import attachment_text
from tests.fhir_adapters.smart_server import SmartServer, smart_server

SCOPES = "launch openid fhirUser patient/Patient.r"


@pytest.fixture
def site() -> Iterator[tuple[SmartServer, SmartClient, list[str]]]:
    with smart_server() as (ehr, server):
        policy = OutboundPolicy(frozenset({server.origin}), loopback=True)
        with OutboundDoor(policy) as door:
            given = Registration(ehr.issuer, "trivium", "https://t.example/cb")
            paths = server.requests
            yield ehr, SmartClient(door, [given]), paths  # type: ignore[misc]


@pytest.mark.smart("S22")
@pytest.mark.ssrf("X25")
@pytest.mark.parametrize(
    "kid",
    [
        "../../../../dev/null",
        "/proc/self/environ",
        "http://169.254.169.254/latest",
        "ec-1' OR '1'='1",
        "ec-1\x00",
        "x" * 5000,
    ],
)
def test_a_kid_is_compared_and_opens_nothing(site, kid: str) -> None:
    ehr, client, requests = site
    ehr.header = {"kid": kid}
    url, pending = client.begin(ehr.issuer, "l", SCOPES)
    with pytest.raises(SmartError) as refused:
        client.complete(pending, ehr.authorize(url))
    assert refused.value.reason == "id_token_signature"
    # Nothing but discovery, token and the one registered key set was asked for.
    assert [path for _, path, _ in requests] == [
        "/fhir/.well-known/smart-configuration",
        "/token",
        "/jwks.json",
    ]


def pdf_bomb() -> bytes:
    """One page whose content inflates to 100 MB."""
    packer, block = zlib.compressobj(9), b"BT (x) Tj ET\n" * 80_000
    content = b"".join(packer.compress(block) for _ in range(100)) + packer.flush()
    parts = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]/Contents 4 0 R>>",
        b"<</Length %d/Filter/FlateDecode>>stream\n%s\nendstream"
        % (len(content), content),
    ]
    body, places = b"%PDF-1.4\n", []
    for number, part in enumerate(parts, 1):
        places.append(len(body))
        body += b"%d 0 obj%s\nendobj\n" % (number, part)
    start = len(body)
    body += b"xref\n0 5\n0000000000 65535 f \n"
    body += b"".join(b"%010d 00000 n \n" % place for place in places)
    return body + b"trailer<</Size 5/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % start


@pytest.mark.ssrf("X42")
@pytest.mark.parametrize(
    ("kind", "made"),
    [
        ("application/pdf", pdf_bomb),
        ("text/rtf", lambda: rb"{\rtf1 " + b"{" * 1_000_000),
        ("text/rtf", lambda: rb"{\rtf1 " + rb"\bin9999999999 " * 60_000 + b"x}"),
    ],
)
def test_a_bomb_of_a_document_costs_little_and_ends_typed(kind: str, made) -> None:
    data = base64.b64encode(made()).decode()
    policy = AdapterPolicy(max_attachment_bytes=8_000_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.monotonic()
    try:
        text = attachment_text({"contentType": kind, "data": data}, policy)
    except ValueRejectedError as refused:
        text = refused.reason
    assert time.monotonic() - started < policy.pdf_seconds + 4.0
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert text and grown < 200_000  # KiB; the bomb itself is 100 MB
