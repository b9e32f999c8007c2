"""The FHIR client against servers that hang, lie, loop and point elsewhere."""

from __future__ import annotations

import base64
import json
import time
from decimal import Decimal

import pytest

from fhir_adapters.access.fhir_client import FhirClient, next_link, retry_after
from fhir_adapters.access.outbound import OutboundDoor, Response
from fhir_adapters.access.outbound_policy import OutboundPolicy
from fhir_adapters.errors import (
    AdapterError,
    MalformedResourceError,
    OutboundRefusedError,
    ResourceTooLargeError,
    UpstreamError,
    UpstreamTimeoutError,
)
from tests.fhir_adapters.fhir_samples import bundle, observation, patient
from tests.fhir_adapters.fhir_server import answer, drip

TOKEN = "secret-token"


@pytest.fixture
def client(server, door):
    return FhirClient(server.base, door, TOKEN)


def soon(seconds=5.0):
    return time.monotonic() + seconds


def failure(client, kind=AdapterError):
    with pytest.raises(kind) as raised:
        client.read("Patient", "p1", soon())
    return raised.value


def test_a_read_is_exact_and_carries_the_token(client, server):
    server.json("/Patient/p1", b'{"resourceType":"Patient","id":"p1","x":1.10}')
    assert client.read("Patient", "p1", soon())["x"] == Decimal("1.10")
    assert server.requests == [("/fhir/Patient/p1", f"Bearer {TOKEN}")]


def test_an_open_server_gets_no_token(server, door):
    server.json("/Patient/p1", patient())
    FhirClient(server.base + "/", door, None).read("Patient", "p1", soon())
    assert server.requests[0][1] is None


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (400, "bad_request"),
        (401, "unauthorized"),
        (403, "forbidden"),
        (404, "not_found"),
        (410, "gone"),
        (418, "unexpected_status"),
        (429, "rate_limited"),
        (500, "upstream_failed"),
        (503, "upstream_failed"),
    ],
)
def test_an_http_error_is_typed_and_keeps_its_status(client, server, status, reason):
    server.json("/Patient/p1", {"resourceType": "OperationOutcome"}, status)
    error = failure(client, UpstreamError)
    assert (error.reason, error.status) == (reason, status)
    assert len(server.requests) == 1


def test_an_outcome_with_status_200_is_an_error_and_its_text_stays_out(client, server):
    issue = [{"severity": "error", "diagnostics": "Mrs Smith"}]
    server.json("/Patient/p1", {"resourceType": "OperationOutcome", "issue": issue})
    error = failure(client, UpstreamError)
    assert (error.reason, "Smith" in str(error)) == ("operation_outcome", False)


def test_a_busy_server_is_asked_once_more_when_it_says_when(client, server):
    server.json("/Patient/p1", {}, 503, Retry_After="0")
    assert failure(client).status == 503
    assert len(server.requests) == 2


@pytest.mark.parametrize("stated", ["", "60", "-1", "soon", "1.5"])
def test_other_waits_are_not_waited_for(stated):
    assert retry_after(Response(503, {"retry-after": stated}, b"")) is None
    assert retry_after(Response(500, {"retry-after": "1"}, b"")) is None


def test_a_wait_beyond_the_deadline_is_not_begun(client, server):
    server.json("/Patient/p1", {}, 429, Retry_After="2")
    start = time.monotonic()
    with pytest.raises(UpstreamError):
        client.read("Patient", "p1", soon(0.5))
    assert time.monotonic() - start < 1.5
    assert len(server.requests) == 1


def test_a_slow_drip_ends_at_the_deadline(client, server, stop):
    server.routes["/fhir/Patient/p1"] = drip(stop)
    start = time.monotonic()
    with pytest.raises(UpstreamTimeoutError):
        client.read("Patient", "p1", soon(0.3))
    assert time.monotonic() - start < 2.0


def test_a_huge_body_is_refused(client, server):
    server.json("/Patient/p1", b" " * 300_000)
    assert isinstance(failure(client), OutboundRefusedError | ResourceTooLargeError)


@pytest.mark.parametrize(
    ("body", "kind", "reason"),
    [
        (b"[" * 50_000, ResourceTooLargeError, "too_deep"),
        (b'{"x": NaN}', MalformedResourceError, "not_finite"),
        (b"{", MalformedResourceError, "not_json"),
        (b"[1]", MalformedResourceError, "unexpected_resource"),
        (b'{"resourceType": "Patient"}', MalformedResourceError, "unexpected_resource"),
        (
            b'{"resourceType": "Patient", "id": "p2"}',
            MalformedResourceError,
            "unexpected_resource",
        ),
        (
            b'{"resourceType": "Group", "id": "p1"}',
            MalformedResourceError,
            "unexpected_resource",
        ),
    ],
)
def test_a_body_that_is_not_the_resource_is_refused(client, server, body, kind, reason):
    server.json("/Patient/p1", body)
    assert failure(client, kind).reason == reason


def test_html_with_status_200_is_no_resource(client, server):
    server.routes["/fhir/Patient/p1"] = answer(b"<html>", Content_Type="text/html")
    assert failure(client, MalformedResourceError).reason == "content_type"


def test_a_dead_server_is_an_upstream_error():
    policy = OutboundPolicy(frozenset({"http://127.0.0.1:9"}), loopback=True)
    with OutboundDoor(policy) as door:
        error = failure(FhirClient("http://127.0.0.1:9/fhir", door, None))
    assert isinstance(error, UpstreamError)


@pytest.mark.parametrize(
    ("kind", "logical_id"),
    [("patient", "p1"), ("Patient", "p/1"), ("Patient", ".."), ("Patient", "a?b")],
)
def test_ids_that_could_change_a_url_open_no_socket(client, server, kind, logical_id):
    with pytest.raises(OutboundRefusedError):
        client.read(kind, logical_id, soon())
    assert server.requests == []


def test_a_base_outside_the_policy_is_refused_at_once(door):
    for base in ("https://elsewhere.example/fhir", "ftp://x", "nonsense"):
        with pytest.raises(OutboundRefusedError):
            FhirClient(base, door, TOKEN)


def test_a_base_with_a_query_is_refused(server, door):
    with pytest.raises(OutboundRefusedError):
        FhirClient(server.base + "?x=1", door, TOKEN)


def test_a_token_is_never_printed(client):
    assert TOKEN not in repr(client)


def test_pages_are_followed_as_given(client, server):
    server.json(
        "/Observation",
        bundle(observation(), patient(), link=f"{server.base}/page2?opaque=1"),
    )
    second = bundle(observation(id="o2"), observation(id="o3"))
    second["entry"][1]["search"] = {"mode": "include"}
    server.json("/page2", second)
    found = client.search("Observation", {"patient": "p1", "_count": "2"}, soon())
    assert [resource["id"] for resource in found] == ["o1", "o2"]
    assert server.paths() == [
        "/fhir/Observation?patient=p1&_count=2",
        "/fhir/page2?opaque=1",
    ]


def test_a_next_that_loops_ends(client, server):
    server.json("/Observation", bundle(observation(), link=f"{server.base}/again"))
    server.json("/again", bundle(link=f"{server.base}/again"))
    pages = client.search_pages("Observation", {}, soon())
    assert (len(pages.bundles), pages.incomplete) == (2, "next_loop")
    with pytest.raises(UpstreamError) as raised:
        client.search("Observation", {}, soon())
    assert raised.value.reason == "next_loop"


def test_an_endless_next_ends_at_the_page_cap(client, server):
    def endless(handler):
        link = f"{server.base}/Observation?n={len(server.requests)}"
        body = json.dumps(bundle(link=link)).encode()
        answer(body, Content_Type="application/json+fhir")(handler)

    server.routes["/fhir/Observation"] = endless
    pages = client.search_pages("Observation", {}, soon(), max_pages=3)
    assert (len(pages.bundles), pages.incomplete) == (3, "page_cap")
    assert client.search("Observation", {}, soon(), max_pages=1) == []


@pytest.mark.parametrize(
    "link",
    [
        "http://127.0.0.1:1/fhir/x",
        "https://evil.example/fhir/x",
        "/other/x",
        "/fhirx/y",
        "//evil.example/fhir/x",
        "/fhir/../admin",
        "/fhir/%2e%2e/admin",
        "http://user@127.0.0.1/fhir",
    ],
)
def test_a_next_elsewhere_is_not_followed_and_said(client, server, link):
    server.json("/Observation", bundle(observation(), link=link))
    pages = client.search_pages("Observation", {}, soon())
    assert len(pages.bundles) == 1
    assert pages.incomplete
    assert len(server.requests) == 1


def test_a_relative_next_stays_below_the_base(client, server):
    assert client.absolute("page?x=1") == f"{server.base}/page?x=1"
    assert client.absolute(server.base) == server.base


def test_a_later_page_that_fails_leaves_the_first(client, server):
    server.json("/Observation", bundle(observation(), link=f"{server.base}/gone"))
    pages = client.search_pages("Observation", {}, soon())
    assert (len(pages.bundles), pages.incomplete) == (1, "not_found")


def test_a_first_page_that_fails_is_an_error(client, server):
    with pytest.raises(UpstreamError):
        client.search_pages("Observation", {}, soon())
    server.json("/Observation", patient())
    with pytest.raises(MalformedResourceError):
        client.search("Observation", {}, soon())
    with pytest.raises(OutboundRefusedError):
        client.search("../x", {}, soon())


def test_millions_of_entries_end_at_the_entry_cap(server, client):
    body = bundle(link=f"{server.base}/more")
    body["entry"] = [{}] * 2000
    for path in ("/Observation", *(f"/more{n}" for n in range(9))):
        server.json(path, body)
    links = iter(range(9))

    def many(handler):
        made = {
            **body,
            "link": [{"relation": "next", "url": f"/fhir/more{next(links)}"}],
        }
        answer(json.dumps(made).encode(), Content_Type="application/json")(handler)

    server.routes["/fhir/Observation"] = many
    for n in range(9):
        server.routes[f"/fhir/more{n}"] = many
    pages = client.search_pages("Observation", {}, soon(), max_pages=50)
    assert (len(pages.bundles), pages.incomplete) == (5, "entry_cap")


def test_a_prefetched_bundle_is_continued(client, server):
    server.json("/page2", bundle(observation(id="o2")))
    first = bundle(observation(), link=f"{server.base}/page2")
    pages = client.more_pages(first, soon())
    assert len(pages.bundles) == 1
    assert client.more_pages(bundle(), soon()).bundles == ()
    away = bundle(link="https://evil.example/x")
    assert client.more_pages(away, soon()).incomplete


def test_the_next_link_is_found_among_others():
    links = [{"relation": "self", "url": "a"}, "x", {"relation": "next", "url": "b"}]
    assert next_link({"link": links}) == "b"
    assert next_link({"link": {"relation": "next"}}) == ""


def test_an_attachment_comes_from_a_binary_or_as_it_is(client, server):
    data = base64.b64encode(b"hello").decode()
    server.json("/Binary/1", {"resourceType": "Binary", "data": data})
    server.routes["/fhir/Binary/2"] = answer(b"hello", Content_Type="text/plain")
    server.json("/Binary/3", {"resourceType": "Binary"})
    server.json("/Binary/4", b"[]")
    for path in ("Binary/1", f"{server.base}/Binary/2"):
        assert client.attachment_data(path, soon(), max_bytes=1000) == data
    for path in ("Binary/3", "Binary/4"):
        with pytest.raises(MalformedResourceError):
            client.attachment_data(path, soon(), max_bytes=1000)
    with pytest.raises(OutboundRefusedError):
        client.attachment_data("https://evil.example/x", soon(), max_bytes=1000)
