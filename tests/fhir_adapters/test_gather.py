"""Gathering: parallel, under a deadline, and honest about what is missing."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from fhir_adapters.access.fhir_client import FhirClient
from fhir_adapters.access.film_choice import choose_frontal
from fhir_adapters.access.gather import (
    STEPS,
    Gather,
    GatherContext,
    Gathered,
    GatherPolicy,
    Pending,
)
from fhir_adapters.assemble import assemble
from fhir_adapters.errors import ImageUnreadableError
from fhir_adapters.patient_record import Modality, ModalityStatus
from fhir_adapters.prefetched import PrefetchedKey, PrefetchState
from tests.fhir_adapters.fhir_samples import (
    CUTOFF,
    SERIES_UID,
    SOP_UID,
    STUDY_UID,
    bundle,
    chest_image,
    document,
    endpoint,
    imaging_study,
    observation,
    patient,
    report,
    series,
)
from tests.fhir_adapters.fhir_server import answer, drip

TOKEN = "secret-token"
EXTENSION = (
    "http://fhir.org/argonaut/smart-imaging/StructureDefinition/requires-access-token"
)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as made:
        yield made


class Decoder:
    """Stands where the decoding child stands: bytes in, image or refusal out."""

    def __init__(self, image=None, error=None):
        self.image = image or chest_image()
        self.error = error
        self.calls = []

    def __call__(self, data, *, expected, reference, origin, deadline=None):
        self.calls.append((data, expected, reference, origin))
        if self.error is not None:
            raise self.error
        return self.image


def present(resource):
    return PrefetchedKey(PrefetchState.PRESENT, resource)


NULL = PrefetchedKey(PrefetchState.NULL)
NOTHING = dict.fromkeys(
    ("observations", "reports", "documents", "imaging", "endpoints"), NULL
)
QUIET = {**NOTHING, "patient": present(patient())}


def gather(server, door, pool, prefetched=None, *, decode=None, **more):
    fhir = more.pop("fhir", FhirClient(server.base, door, TOKEN))
    policy = GatherPolicy(**{"max_seconds": 10.0, **more.pop("policy", {})})
    context = GatherContext(
        patient_id="p1",
        prefetched=prefetched or {},
        fhir=fhir,
        door=door,
        policy=policy,
        dicomweb_bases=more.pop("bases", (f"{server.origin}/dw",)),
        access_token=TOKEN,
        **more,
    )
    return Gather(context, pool, decode=decode or Decoder())


def finished(made, seconds=10.0) -> Gathered:
    outcome = made.run(time.monotonic() + seconds)
    assert isinstance(outcome, Gathered)
    return outcome


def serve_chart(server):
    server.json("/Patient/p1", patient())
    server.json("/Observation", bundle(observation()))
    server.json("/DiagnosticReport", bundle(report()))
    server.json("/DocumentReference", bundle(document()))
    server.json("/ImagingStudy", bundle(imaging_study()))
    server.json("/Endpoint/e1", endpoint(f"{server.origin}/dw"))
    serve_instance(server)


def serve_instance(server, data=b"DICM", status=200):
    body = b"--b\r\nContent-Type: application/dicom\r\n\r\n" + data + b"\r\n--b--\r\n"
    path = f"/dw/studies/{STUDY_UID}/series/{SERIES_UID}/instances/{SOP_UID}"
    server.routes[path] = answer(
        body,
        status,
        Content_Type='multipart/related; type="application/dicom"; boundary=b',
    )


def test_everything_is_fetched_and_becomes_a_full_record(server, door, pool):
    serve_chart(server)
    decode = Decoder()
    found = finished(gather(server, door, pool, decode=decode))
    assert found.failures == ()
    assert found.missing == ()
    record = assemble(found.patient, found.received, found.images, cutoff=CUTOFF)
    assert record.presence() == dict.fromkeys(Modality, True)
    ((data, expected, reference, origin),) = decode.calls
    assert (data, reference, origin) == (b"DICM", "ImagingStudy/s1", "dicomweb")
    assert (expected.study_uid, expected.sop_uid) == (STUDY_UID, SOP_UID)
    assert expected.patient_ids == {"p1", "MRN-1"}
    assert "/fhir/Observation?patient=p1&_sort=-date&_count=200" in server.paths()


def test_what_was_prefetched_is_not_fetched(server, door, pool):
    prefetched = {
        "patient": present(patient()),
        "observations": present(bundle(observation())),
        "reports": NULL,
        "documents": PrefetchedKey(PrefetchState.FAILED, reason="prefetch_failed"),
        "imaging": present(bundle(imaging_study())),
        "endpoints": present(bundle(endpoint(f"{server.origin}/dw"))),
    }
    serve_instance(server)
    found = finished(gather(server, door, pool, prefetched))
    # The archive is asked; the FHIR server is not.
    assert {path.split("/")[1] for path in server.paths()} == {"dw"}
    assert {item.origin for item in found.received} == {"prefetch"}
    assert found.unavailable == {Modality.TEXT: "prefetch_failed"}
    assert len(found.images) == 1


def test_without_a_server_absent_keys_are_missing(server, door, pool):
    found = finished(gather(server, door, pool, fhir=None))
    assert found.patient is None
    assert set(found.missing) == set(STEPS) - {"image"}
    assert server.requests == []


def test_a_deadline_names_what_is_still_running_and_can_be_waited_on(
    server, door, pool
):
    serve_chart(server)
    go = threading.Event()
    answered = server.routes["/fhir/Observation"]

    def late(handler):
        go.wait(5)
        answered(handler)

    server.routes["/fhir/Observation"] = late
    made = gather(server, door, pool)
    start = time.monotonic()
    outcome = made.run(start + 0.6)
    assert time.monotonic() - start < 2.0
    assert outcome == Pending(("observations",))
    called = []
    made.add_done_callback(lambda g: called.append(g.run(0)))
    go.set()
    found = finished(made)
    assert [type(item) for item in called] == [Gathered] or _soon(called)
    assert any(i.resource["resourceType"] == "Observation" for i in found.received)
    made.add_done_callback(called.append)
    assert called[-1] is made


def _soon(called):
    end = time.monotonic() + 2
    while not called and time.monotonic() < end:
        time.sleep(0.01)
    return [type(item) for item in called] == [Gathered]


def test_a_server_that_hangs_ends_at_the_hard_end(server, door, pool, stop):
    serve_chart(server)
    server.routes["/fhir/Observation"] = drip(stop)
    made = gather(server, door, pool, policy={"max_seconds": 0.5})
    found = finished(made, 5.0)
    assert found.unavailable == {Modality.VALUES: "upstream_timeout"}
    record = assemble(
        found.patient,
        found.received,
        found.images,
        cutoff=CUTOFF,
        unavailable=found.unavailable,
    )
    assert record.states[Modality.VALUES].status is ModalityStatus.UNREADABLE


def test_one_thread_is_enough(server, door):
    serve_chart(server)
    with ThreadPoolExecutor(1) as narrow:
        made = [gather(server, door, narrow) for _ in range(3)]
        assert all(len(finished(one).images) == 1 for one in made)


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        (present(patient(id="p2")), "wrong_patient"),
        (present({"resourceType": "Group", "id": "p1"}), "not_a_patient"),
        (NULL, "patient_not_found"),
        (PrefetchedKey(PrefetchState.FAILED, reason="prefetch_failed"), ""),
    ],
)
def test_without_the_patient_no_image_is_fetched(server, door, pool, key, reason):
    prefetched = {**NOTHING, "imaging": present(imaging_study()), "patient": key}
    found = finished(gather(server, door, pool, prefetched))
    assert found.patient is None
    assert found.failures[0].step == "patient"
    assert found.failures[0].reason == (reason or "prefetch_failed")
    assert (found.images, server.requests) == ((), [])


def test_an_error_keeps_its_status(server, door, pool):
    serve_chart(server)
    server.json("/DiagnosticReport", {}, 403)
    found = finished(gather(server, door, pool))
    (failure,) = found.failures
    assert (failure.step, failure.reason, failure.status) == (
        "reports",
        "forbidden",
        403,
    )


def test_an_empty_answer_is_asked_for_in_the_other_form(server, door, pool):
    def picky(handler):
        found = bundle(observation()) if "Patient%2Fp1" in handler.path else bundle()
        server.json("/_", found)
        server.routes["/fhir/_"](handler)

    server.routes["/fhir/Observation"] = picky
    only = {**QUIET, "observations": PrefetchedKey(PrefetchState.ABSENT)}
    assert len(finished(gather(server, door, pool, only)).received) == 1
    assert len(server.requests) == 2
    server.requests.clear()
    found = finished(
        gather(server, door, pool, only, policy={"patient_parameter": "reference"})
    )
    assert len(found.received) == len(server.requests) == 1


def test_a_rejected_second_form_leaves_the_first_answer(server, door, pool):
    def picky(handler):
        answer(b"{}", 400)(handler) if "%2F" in handler.path else empty(handler)

    server.json("/_", bundle())
    empty = server.routes["/fhir/_"]
    server.routes["/fhir/Observation"] = picky
    only = {**QUIET, "observations": PrefetchedKey(PrefetchState.ABSENT)}
    found = finished(gather(server, door, pool, only))
    assert (found.received, found.failures) == ((), ())


@pytest.mark.parametrize("status", [401, 500, 503])
def test_a_failing_second_form_is_not_taken_for_nothing(server, door, pool, status):
    def failing(handler):
        answer(b"{}", status)(handler) if "%2F" in handler.path else empty(handler)

    server.json("/_", bundle())
    empty = server.routes["/fhir/_"]
    server.routes["/fhir/Observation"] = failing
    only = {**QUIET, "observations": PrefetchedKey(PrefetchState.ABSENT)}
    found = finished(gather(server, door, pool, only))
    assert [(f.step, f.status) for f in found.failures] == [("observations", status)]
    assert set(found.unavailable) == {Modality.VALUES}


def test_a_second_form_that_hangs_is_not_taken_for_nothing(server, door, pool, stop):
    hang = drip(stop)

    def hanging(handler):
        hang(handler) if "%2F" in handler.path else empty(handler)

    server.json("/_", bundle())
    empty = server.routes["/fhir/_"]
    server.routes["/fhir/Observation"] = hanging
    only = {**QUIET, "observations": PrefetchedKey(PrefetchState.ABSENT)}
    made = gather(server, door, pool, only, policy={"max_seconds": 0.5})
    assert finished(made, 5.0).unavailable == {Modality.VALUES: "upstream_timeout"}


def test_a_prefetch_cut_short_is_paged_on(server, door, pool):
    server.json("/more", bundle(observation(id="o2")))
    short = bundle(observation(), link=f"{server.base}/more")
    keys = {**QUIET, "observations": present(short)}
    found = finished(gather(server, door, pool, keys))
    assert [item.origin for item in found.received] == ["prefetch", "fhir"]
    found = finished(gather(server, door, pool, keys, fhir=None))
    assert found.failures[0].reason == "prefetch_paged"
    assert found.unavailable == {}
    server.routes.clear()
    found = finished(gather(server, door, pool, keys))
    assert (found.failures[0].reason, found.failures[0].partial) == ("not_found", True)


def test_a_page_cap_is_said_and_does_not_make_values_unavailable(server, door, pool):
    server.json("/Observation", bundle(observation(), link=f"{server.base}/more"))
    only = {**QUIET, "observations": PrefetchedKey(PrefetchState.ABSENT)}
    found = finished(gather(server, door, pool, only, policy={"observation_pages": 1}))
    assert (found.failures[0].reason, found.failures[0].partial) == ("page_cap", True)
    assert found.unavailable == {}


@pytest.mark.smart("S33")
@pytest.mark.ssrf("X4")
def test_texts_behind_urls_are_fetched_within_the_base_only(server, door, pool):
    server.routes["/fhir/Binary/1"] = answer(b"Clear lungs.", Content_Type="text/plain")
    near = {"contentType": "text/plain", "url": "Binary/1"}
    away = {"contentType": "text/html", "url": "https://evil.example/1"}
    scan = {"contentType": "image/png", "url": "Binary/2"}
    keys = {
        **QUIET,
        "reports": present(bundle(report(presentedForm=[scan, away, near, "x"]))),
        "documents": present(
            bundle(document(content=[{"attachment": near}, "x"], docStatus="final"))
        ),
    }
    found = finished(gather(server, door, pool, keys))
    assert server.paths() == ["/fhir/Binary/1"] * 2
    assert [f.reason for f in found.failures] == ["outside_base"]
    record = assemble(found.patient, found.received, (), cutoff=CUTOFF)
    assert record.notes[0].text == "Clear lungs."
    server.requests.clear()
    gathered = finished(gather(server, door, pool, keys, policy={"attachments": 0}))
    assert (server.requests, len(gathered.received)) == ([], 2)


def test_a_bug_in_a_step_is_raised_not_swallowed(server, door, pool):
    serve_chart(server)
    made = gather(server, door, pool, decode=Decoder(error=ZeroDivisionError("bug")))
    with pytest.raises(ZeroDivisionError):
        made.run(time.monotonic() + 10)


def test_an_unreadable_image_is_a_typed_outcome(server, door, pool):
    serve_chart(server)
    decode = Decoder(error=ImageUnreadableError("decode_timeout"))
    found = finished(gather(server, door, pool, decode=decode))
    assert [(i.reference, i.reason) for i in found.images] == [
        ("ImagingStudy/s1", "decode_timeout")
    ]


def image_of(server, door, pool, *studies, endpoints=(), **more):
    keys = {
        **QUIET,
        "imaging": present(bundle(*studies)),
        "endpoints": present(bundle(*endpoints)),
    }
    return finished(gather(server, door, pool, keys, **more))


def test_a_study_without_endpoint_uses_the_sites_archive(server, door, pool):
    serve_instance(server)
    bare = imaging_study(endpoint=None)
    found = image_of(server, door, pool, bare)
    assert found.images[0].image is not None
    assert server.requests[0][1] is None
    found = image_of(server, door, pool, bare, bases=())
    assert found.images == ()
    assert [f.reason for f in found.failures] == ["no_endpoint"]


@pytest.mark.smart("S33")
@pytest.mark.ssrf("X3")
def test_the_token_goes_only_where_it_is_asked_for_and_allowed(server, door, pool):
    serve_instance(server)
    extension = [{"url": EXTENSION, "valueBoolean": True}]
    asks = endpoint(f"{server.origin}/dw/", extension=extension)
    image_of(server, door, pool, imaging_study(), endpoints=[asks])
    assert {token for _, token in server.requests} == {f"Bearer {TOKEN}"}
    assert all(path.startswith("/dw/") for path in server.paths())
    server.requests.clear()
    for address in ("https://evil.example/dw", f"{server.origin}/other", "nonsense"):
        away = endpoint(address, extension=extension)
        found = image_of(server, door, pool, imaging_study(), endpoints=[away])
        assert found.images[0].reason in ("endpoint_not_allowed", "url_malformed")
    assert server.requests == []


def test_an_endpoint_that_cannot_be_read_is_said(server, door, pool):
    serve_instance(server)
    found = image_of(server, door, pool, imaging_study())
    assert [(f.reason, f.partial) for f in found.failures] == [("not_found", True)]
    assert found.images[0].image is not None


def test_without_a_fhir_server_endpoints_are_not_looked_up(server, door, pool):
    serve_instance(server)
    found = image_of(server, door, pool, imaging_study(), fhir=None)
    assert found.failures == ()
    assert len(found.images) == 1


def test_a_failing_archive_is_unreadable_and_no_older_study_steps_in(
    server, door, pool
):
    serve_instance(server, status=500)
    older = imaging_study(
        id="s0",
        started="2025-01-01T00:00:00Z",
        identifier=[{"system": "urn:dicom:uid", "value": "urn:oid:1.2.3"}],
    )
    found = image_of(server, door, pool, older, imaging_study(endpoint=None))
    assert [(i.reference, i.reason) for i in found.images] == [
        ("ImagingStudy/s1", "dicomweb_status")
    ]
    assert len(server.requests) == 1


@pytest.mark.loader("R11")
def test_a_lateral_lets_the_next_older_study_be_tried(server, door, pool):
    serve_instance(server)
    newer = imaging_study(id="s9", started="2026-03-01T09:00:00Z", endpoint=None)
    found = image_of(
        server,
        door,
        pool,
        newer,
        imaging_study(endpoint=None),
        decode=Decoder(chest_image("LATERAL")),
    )
    assert (found.images, len(server.requests)) == ((), 2)


@pytest.mark.parametrize(
    "study",
    [
        imaging_study(status="cancelled"),
        imaging_study(subject={"reference": "Patient/p2"}),
        imaging_study(series=[series(modality={"code": "CT"})]),
        imaging_study(started="2001-01-01T00:00:00Z"),
        imaging_study(started="2026-03-01T13:00:00Z"),
        {**imaging_study(), "id": "bad id"},
    ],
)
def test_studies_that_are_not_asked_for(server, door, pool, study):
    found = image_of(server, door, pool, study, not_after=CUTOFF, fhir=None)
    assert (found.images, server.requests) == ((), [])


def test_images_may_be_left_alone(server, door, pool):
    found = image_of(server, door, pool, imaging_study(), policy={"fetch_image": False})
    assert (found.images, server.requests) == ((), [])


def test_configured_identifier_systems_are_the_only_ones(server, door, pool):
    serve_instance(server)
    decode = Decoder()
    image_of(
        server,
        door,
        pool,
        imaging_study(endpoint=None),
        decode=decode,
        patient_identifier_systems=("urn:mrn",),
    )
    assert decode.calls[0][1].patient_ids == {"MRN-1"}


def metadata(view="PA", **more):
    tags = {
        "00080018": ["1.2.9"],
        "0020000E": ["1.2.8"],
        "00080060": ["DX"],
        "00185101": [view] if view else [],
        "00280010": [1000],
        "00280011": [1000],
        **more,
    }
    return {tag: {"vr": "XX", "Value": value} for tag, value in tags.items()}


def test_the_frontal_instance_is_chosen_by_metadata(server, door, pool):
    many = imaging_study(
        endpoint=None, started=None, series=[series(instance=[{"uid": "1"}] * 2)]
    )
    body = [
        metadata("LL"),
        metadata("AP", **{"00080018": [SOP_UID], "0020000E": [SERIES_UID]}),
    ]
    path = f"/dw/studies/{STUDY_UID}/series/{SERIES_UID}/metadata"
    server.routes[path] = answer(
        json.dumps(body).encode(), Content_Type="application/dicom+json"
    )
    serve_instance(server)
    found = image_of(server, door, pool, many)
    assert found.images[0].image is not None
    lateral = json.dumps([metadata("LL")]).encode()
    server.routes[path] = answer(lateral, Content_Type="application/dicom+json")
    assert image_of(server, door, pool, many).images == ()


@pytest.mark.parametrize(
    ("items", "chosen"),
    [
        ([metadata("AP"), metadata("PA", **{"00080018": ["1.2.7"]})], "1.2.7"),
        ([metadata("", **{"00080018": ["1.2.6"]}), metadata("AP")], "1.2.9"),
        (
            [metadata(), metadata(**{"00080018": ["1.2.5"], "00280010": [3000]})],
            "1.2.5",
        ),
        ([metadata("LL")], None),
        ([metadata("", **{"0008103E": ["CHEST LAT"]})], None),
        ([metadata(**{"00080060": ["SR"]})], None),
        ([metadata(**{"00180015": ["HAND"]})], None),
        ([metadata(**{"00180015": ["CHEST"], "00280010": ["x"]})], "1.2.9"),
        ([metadata(**{"00080018": ["../x"]})], None),
        ([{"00080060": []}, {}], None),
    ],
)
@pytest.mark.loader("R14")
def test_which_instance_counts_as_frontal(items, chosen):
    found = choose_frontal(items)
    assert (found.sop_uid if found else None) == chosen


class ClosedPool(Executor):
    """A pool that is shutting down: one task is cancelled, the others are refused."""

    def __init__(self):
        self.submitted = 0

    def submit(self, fn, /, *args, **kwargs):
        self.submitted += 1
        if self.submitted > 1:
            raise RuntimeError("cannot schedule new futures after shutdown")
        future: Future = Future()
        future.cancel()
        future.set_running_or_notify_cancel()
        return future


def test_a_pool_that_shuts_down_ends_the_gathering(server, door):
    found = finished(gather(server, door, ClosedPool()), 1.0)
    assert {f.reason for f in found.failures} == {"shutting_down"}
    assert len(found.failures) == 5


@pytest.mark.ssrf("X28")
def test_a_token_is_not_in_a_context_printed(server, door):
    context = GatherContext("p1", {}, None, door, access_token=TOKEN)
    assert TOKEN not in repr(context)
    assert context.not_after is None or context.not_after < datetime.now(UTC)
