"""The FHIR client against servers that hang, lie, loop and point elsewhere."""

from __future__ import annotations

import base64
import json
import time
from decimal import Decimal

import pytest

from fhir_adapters.access.fhir_client import FhirClient, Versioned, next_link
from fhir_adapters.access.fhir_pages import (
    MAX_SEARCH_BYTES,
    Pages,
    SearchPages,
    found_in,
)
from fhir_adapters.access.fhir_retry import RetryPolicy
from fhir_adapters.access.outbound import OutboundDoor
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
from tests.fhir_adapters.http_server import serving

TOKEN = "secret-token"


@pytest.fixture
def client(server, door):
    return FhirClient(server.base, door, TOKEN, retry=RetryPolicy(first_wait_s=0.005))


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


@pytest.mark.smart("S34")
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
    assert len(server.requests) == (3 if status in (429, 503) else 1)


def test_an_outcome_with_status_200_is_an_error_and_its_text_stays_out(client, server):
    issue = [{"severity": "error", "diagnostics": "Mrs Smith"}]
    server.json("/Patient/p1", {"resourceType": "OperationOutcome", "issue": issue})
    error = failure(client, UpstreamError)
    assert (error.reason, "Smith" in str(error)) == ("operation_outcome", False)


@pytest.mark.smart("S34")
def test_a_wait_beyond_the_deadline_is_not_begun(client, server):
    server.json("/Patient/p1", {}, 429, Retry_After="2")
    start = time.monotonic()
    with pytest.raises(UpstreamError):
        client.read("Patient", "p1", soon(0.5))
    assert time.monotonic() - start < 1.5
    assert len(server.requests) == 1


@pytest.mark.ssrf("X38")
def test_a_slow_drip_ends_at_the_deadline(client, server, stop):
    server.routes["/fhir/Patient/p1"] = drip(stop)
    start = time.monotonic()
    with pytest.raises(UpstreamTimeoutError):
        client.read("Patient", "p1", soon(0.3))
    assert time.monotonic() - start < 2.0


@pytest.mark.ssrf("X17")
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


@pytest.mark.ssrf("X28")
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


@pytest.mark.ssrf("X39")
def test_a_next_that_loops_ends(client, server):
    server.json("/Observation", bundle(observation(), link=f"{server.base}/again"))
    server.json("/again", bundle(link=f"{server.base}/again"))
    pages = client.search_pages("Observation", {}, soon())
    assert (len(pages.bundles), pages.incomplete) == (2, "next_loop")
    with pytest.raises(UpstreamError) as raised:
        client.search("Observation", {}, soon())
    assert raised.value.reason == "next_loop"


@pytest.mark.ssrf("X39", "X40")
def test_an_endless_next_ends_at_the_page_cap(client, server):
    def endless(handler):
        link = f"{server.base}/Observation?n={len(server.requests)}"
        body = json.dumps(bundle(link=link)).encode()
        answer(body, Content_Type="application/json+fhir")(handler)

    server.routes["/fhir/Observation"] = endless
    pages = client.search_pages("Observation", {}, soon(), max_pages=3)
    assert (len(pages.bundles), pages.incomplete) == (3, "page_cap")
    assert client.search("Observation", {}, soon(), max_pages=1) == []


@pytest.mark.smart("S33")
@pytest.mark.ssrf("X10")
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


@pytest.mark.ssrf("X40")
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


@pytest.mark.smart("S33")
@pytest.mark.ssrf("X4")
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


# --- conditional reads, includes, POST searches, outcomes, caps


def test_a_resource_that_is_still_the_same_is_not_sent_again(client, server):
    body = json.dumps(patient()).encode()

    def versioned(handler):
        known = handler.headers["If-None-Match"]
        server.requests.append(("known", known))
        if known == 'W/"7"':
            answer(b"", 304, ETag='W/"7"')(handler)
        else:
            answer(body, Content_Type="application/fhir+json", ETag='W/"7"')(handler)

    server.routes["/fhir/Patient/p1"] = versioned
    first = client.read_versioned("Patient", "p1", soon())
    assert first.etag == 'W/"7"' and first.resource["id"] == "p1"
    assert client.read_versioned("Patient", "p1", soon(), first) is first
    old = Versioned(first.resource, 'W/"6"')
    assert client.read_versioned("Patient", "p1", soon(), old) == first
    asked = [known for name, known in server.requests if name == "known"]
    assert asked == [None, 'W/"7"', 'W/"6"']
    assert "Mrs" not in repr(first) and "resource" not in repr(first)


def test_an_etag_that_could_not_be_sent_back_is_not_kept(client, server):
    server.json("/Patient/p1", patient(), ETag="no quotes")
    first = client.read_versioned("Patient", "p1", soon())
    assert first.etag == ""
    client.read_versioned("Patient", "p1", soon(), first)


def test_not_modified_without_a_question_is_an_error(client, server):
    server.routes["/fhir/Patient/p1"] = answer(b"", 304)
    error = failure(client, UpstreamError)
    assert (error.reason, error.status) == ("unexpected_status", 304)


def test_includes_are_taken_by_reference_and_not_by_presence(client, server):
    study = {
        "resourceType": "ImagingStudy",
        "id": "s1",
        "endpoint": [
            {"reference": "Endpoint/e1"},
            {"reference": f"{server.base}/Endpoint/e2/_history/3"},
            {"reference": "https://evil.example/fhir/Endpoint/e3"},
        ],
    }
    body = bundle(study)
    names = ("Endpoint/e1", "Endpoint/e2", "Endpoint/e3", "Patient/p2")
    for kind, number in (name.split("/") for name in names):
        body["entry"].append(
            {
                "resource": {"resourceType": kind, "id": number},
                "search": {"mode": "include"},
            }
        )
    server.json("/ImagingStudy", body)
    found = client.search_with_includes(
        "ImagingStudy", {"patient": "p1"}, ["ImagingStudy:endpoint"], soon()
    )
    assert [match["id"] for match in found.matches] == ["s1"]
    assert sorted(found.included) == ["Endpoint/e1", "Endpoint/e2"]
    assert server.paths() == [
        "/fhir/ImagingStudy?patient=p1&_include=ImagingStudy%3Aendpoint"
    ]


@pytest.mark.ssrf("X31")
def test_a_search_by_post_keeps_identifiers_out_of_the_url():
    asked = []

    def searched(handler):
        asked.append((handler.command, handler.path, handler.body().decode()))
        more = f"{origin[0]}/fhir/page2" if len(asked) == 1 else ""
        page = bundle(observation(id=f"o{len(asked)}"), link=more)
        body = json.dumps(page, default=float)
        handler.reply(body.encode(), content_type="application/fhir+json")

    origin = []
    with serving(searched) as running:
        origin.append(running.origin)
        policy = OutboundPolicy(frozenset({running.origin}), loopback=True)
        with OutboundDoor(policy) as door:
            client = FhirClient(f"{running.origin}/fhir", door, None, post_search=True)
            found = client.search(
                "Observation", {"patient.identifier": "mrn|12345"}, soon()
            )
    assert [resource["id"] for resource in found] == ["o1", "o2"]
    assert asked == [
        ("POST", "/fhir/Observation/_search", "patient.identifier=mrn%7C12345"),
        ("GET", "/fhir/page2", ""),
    ]


@pytest.mark.smart("S34")
def test_a_lent_token_that_is_refused_is_not_tried_again(client, server):
    server.json("/Patient/p1", {}, 401)
    assert failure(client, UpstreamError).reason == "unauthorized"
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("issues", "detail"),
    [
        ([{"severity": "error", "code": "security"}], "error/security"),
        (
            [
                {"severity": "warning", "code": "invalid"},
                {"severity": "fatal", "code": "exception", "diagnostics": "Mrs Smith"},
            ],
            "fatal/exception",
        ),
        ([{"severity": "error", "code": "Mrs Smith"}], ""),
        ([{"severity": "Mrs Smith", "code": "invalid"}], ""),
        ([7], ""),
        ([], ""),
    ],
)
def test_an_outcome_tells_its_code_and_never_its_text(client, server, issues, detail):
    outcome = {"resourceType": "OperationOutcome", "issue": issues}
    server.json("/Patient/p1", outcome, 422)
    error = failure(client, UpstreamError)
    assert (error.reason, error.status, error.detail) == (
        "unexpected_status",
        422,
        detail,
    )
    server.json("/Patient/p1", outcome)
    assert failure(client, UpstreamError).detail == detail
    assert "Smith" not in str(error)


@pytest.mark.parametrize(
    "body", [b"<html>", b'{"resourceType": "Patient"}', b"[", b" " * 70_000]
)
def test_an_error_without_an_outcome_has_no_detail(client, server, body):
    server.json("/Patient/p1", body, 500)
    assert failure(client, UpstreamError).detail == ""


def test_the_bytes_of_a_search_are_capped():
    pages = Pages()
    pages.add("a", bundle(), "b", size=MAX_SEARCH_BYTES, max_pages=9)
    assert pages.incomplete == "byte_cap"
    last = Pages()
    last.add("a", bundle(), "", size=MAX_SEARCH_BYTES, max_pages=9)
    assert last.incomplete == ""


def test_references_deep_in_a_resource_are_not_followed_for_ever():
    deep = {"resourceType": "Observation", "id": "o1"}
    node = deep
    for _ in range(200):
        node["a"] = {}
        node = node["a"]
    node["reference"] = "Patient/p1"
    other = {"resource": patient(), "search": {"mode": "include"}}
    page = bundle(deep)
    page["entry"].append(other)
    found = found_in(SearchPages((page,)), "Observation", "https://e.example")
    assert found.included == {} and len(found.matches) == 1


@pytest.mark.ssrf("X43")
@pytest.mark.parametrize(
    "kind", ["application/xml", "application/fhir+xml", "text/xml"]
)
def test_xml_is_never_parsed(client, server, kind):
    bomb = (
        b'<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><Patient>&a;</Patient>'
    )
    server.routes["/fhir/Patient/p1"] = answer(bomb, Content_Type=kind)
    assert failure(client, MalformedResourceError).reason == "content_type"


@pytest.mark.smart("S33")
@pytest.mark.ssrf("X11")
def test_an_absolute_reference_to_another_server_is_not_read(client, server):
    for url in ("https://evil.example/fhir/Patient/p1", "http://169.254.169.254/x"):
        with pytest.raises(OutboundRefusedError) as refused:
            client.absolute(url)
        assert refused.value.reason == "outside_base"
    assert server.requests == []
