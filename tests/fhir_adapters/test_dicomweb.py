"""DICOMweb against a server that misbehaves and against a real Orthanc."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from fhir_adapters.access.dicomweb import DicomWebClient
from fhir_adapters.access.multipart import parts_of
from fhir_adapters.access.outbound import OutboundDoor, OutboundPolicy
from fhir_adapters.dicom.image import load_image
from fhir_adapters.dicom.instance import ExpectedInstance
from fhir_adapters.errors import (
    AdapterError,
    MalformedResourceError,
    OutboundRefusedError,
    ResourceTooLargeError,
    UpstreamError,
)
from tests.fhir_adapters.dicom_files import (
    LOSSLESS,
    PATIENT,
    SERIES,
    SOP,
    STUDY,
    cr,
    dataset,
    film,
    in_syntax,
    jpeg_baseline,
)
from tests.fhir_adapters.http_server import Handler, Server, serving
from tests.fhir_adapters.orthanc import Orthanc, orthanc_server

RELATED = 'multipart/related; type="application/dicom"; boundary=XyZ'
FILM = cr()


def wrapped(*contents: bytes, boundary: bytes = b"XyZ") -> bytes:
    parts = b"".join(
        b"--" + boundary + b"\r\nContent-Type: application/dicom\r\n\r\n" + c + b"\r\n"
        for c in contents
    )
    return parts + b"--" + boundary + b"--\r\n"


@contextmanager
def client_of(server: Server, **arguments: object) -> Iterator[DicomWebClient]:
    policy = OutboundPolicy(frozenset({server.origin}), loopback=True)
    base = f"{server.origin}/dicomweb/"
    with OutboundDoor(policy) as door:
        yield DicomWebClient(base, door, **arguments)  # type: ignore[arg-type]


def replying(*arguments: object, **headers: object) -> Callable[[Handler], None]:
    return lambda handler: handler.reply(*arguments, **headers)  # type: ignore


def test_instance_is_the_one_part_of_the_answer() -> None:
    with serving(replying(wrapped(FILM), 200, RELATED)) as server:
        with client_of(server, token="t0k") as client:
            assert client.retrieve_instance(STUDY, SERIES, SOP) == FILM
    _, path, headers = server.requests[0]
    assert path == f"/dicomweb/studies/{STUDY}/series/{SERIES}/instances/{SOP}"
    assert headers["Authorization"] == "Bearer t0k"
    assert headers["Accept"].startswith('multipart/related; type="application/dicom"')


def test_no_token_means_no_authorization_header() -> None:
    with serving(replying(wrapped(FILM), 200, RELATED)) as server:
        with client_of(server) as client:
            client.retrieve_instance(STUDY, SERIES, SOP)
    assert "Authorization" not in server.requests[0][2]


@pytest.mark.parametrize("series", [None, SERIES])
def test_metadata_is_a_list_of_datasets(series: str | None) -> None:
    body = b'[{"00280010": {"vr": "US", "Value": [48]}}]'
    with serving(replying(body, 200, "application/dicom+json")) as server:
        with client_of(server) as client:
            found = client.instances(STUDY, series)
    assert found == [{"00280010": {"vr": "US", "Value": [48]}}]
    middle = f"/series/{SERIES}" if series else ""
    assert server.requests[0][1] == f"/dicomweb/studies/{STUDY}{middle}/metadata"


@pytest.mark.parametrize(
    "body, content_type, error, reason",
    [
        (b"<html>", "text/html", MalformedResourceError, "dicomweb_type"),
        (b"{}", "application/dicom+json", MalformedResourceError, "dicomweb_json"),
        (b"[1]", "application/json", MalformedResourceError, "dicomweb_json"),
        (b"[NaN]", "application/json", MalformedResourceError, "not_finite"),
        (b"[", "application/json", MalformedResourceError, "not_json"),
        (b"[" * 90_000, "application/json", ResourceTooLargeError, "too_deep"),
        (
            b"[" + b"{}," * 2000 + b"{}]",
            "application/json",
            ResourceTooLargeError,
            "dicomweb_instances",
        ),
    ],
)
def test_what_is_no_metadata_is_refused(
    body: bytes, content_type: str, error: type[AdapterError], reason: str
) -> None:
    with serving(replying(body, 200, content_type)) as server:
        with client_of(server) as client, pytest.raises(error) as refused:
            client.instances(STUDY)
    assert refused.value.reason == reason


@pytest.mark.parametrize("status", [204, 400, 401, 403, 404, 406, 500, 503])
def test_other_statuses_are_upstream_errors(status: int) -> None:
    with serving(replying(b"Doe^John not found", status)) as server:
        with client_of(server) as client, pytest.raises(UpstreamError) as failed:
            client.retrieve_instance(STUDY, SERIES, SOP)
    assert failed.value.status == status
    assert "Doe" not in str(failed.value)


@pytest.mark.parametrize(
    "uid", ["..", "1.2/../../x", "1.2?x=1", "", "1" * 65, "1.2%2f"]
)
def test_uid_that_is_none_builds_no_url(uid: str) -> None:
    with serving(replying(b"[]")) as server, client_of(server) as client:
        with pytest.raises(MalformedResourceError):
            client.instances(uid)
        with pytest.raises(MalformedResourceError):
            client.instances(STUDY, uid)
        with pytest.raises(MalformedResourceError):
            client.retrieve_instance(STUDY, SERIES, uid)
    assert server.requests == []


def test_base_outside_the_policy_is_refused_at_once() -> None:
    door = OutboundDoor(OutboundPolicy(frozenset({"https://pacs.example"})))
    with pytest.raises(OutboundRefusedError):
        DicomWebClient("https://evil.example/dicom-web", door)


# --- multipart ------------------------------------------------------------------------


def parts(content_type: str, body: bytes, max_parts: int = 1) -> list[bytes]:
    return parts_of(
        content_type, body, part_type="application/dicom", max_parts=max_parts
    )


@pytest.mark.parametrize(
    "content_type",
    [
        RELATED,
        "multipart/related; boundary=XyZ",
        'MULTIPART/Related;boundary="XyZ";type=application/dicom',
        'multipart/related; type="application/dicom"; boundary="XyZ"; start="<1>"',
    ],
)
def test_spellings_of_the_content_type(content_type: str) -> None:
    assert parts(content_type, wrapped(FILM)) == [FILM]


@pytest.mark.parametrize(
    "body",
    [
        wrapped(b"a", b"", b"c\r\n--Xy"),
        b"\r\n" + wrapped(b"a", b"", b"c\r\n--Xy"),
        wrapped(b"a", b"", b"c\r\n--Xy") + b"epilogue",
        wrapped(b"a", b"", b"c\r\n--Xy").replace(b"--XyZ\r\n", b"--XyZ \t\r\n"),
    ],
)
def test_parts_are_cut_at_the_whole_delimiter_only(body: bytes) -> None:
    assert parts(RELATED, body, 3) == [b"a", b"", b"c\r\n--Xy"]


def test_length_of_a_part_is_held_to() -> None:
    body = wrapped(b"abc").replace(b"\r\n\r\n", b"\r\nContent-Length: 3\r\n\r\n", 1)
    assert parts(RELATED, body) == [b"abc"]
    with pytest.raises(MalformedResourceError):
        parts(RELATED, body.replace(b"Length: 3", b"Length: 2"))


@pytest.mark.parametrize(
    "content_type, body, reason",
    [
        ("application/dicom", FILM, "multipart_type"),
        ("", wrapped(b"a"), "multipart_type"),
        ("multipart/related", wrapped(b"a"), "multipart_malformed"),
        ("multipart/related; boundary=", wrapped(b"a"), "multipart_malformed"),
        ('multipart/related; boundary="a', wrapped(b"a"), "multipart_malformed"),
        (RELATED + "; boundary=q", wrapped(b"a"), "multipart_malformed"),
        (f"multipart/related; boundary={'x' * 71}", b"", "multipart_malformed"),
        ('multipart/related; type="text/html"; boundary=XyZ', b"", "multipart_type"),
        (RELATED, b"", "multipart_malformed"),
        (RELATED, b"--XyZ--\r\n", "multipart_malformed"),
        (RELATED, b"preamble\r\n" + wrapped(b"a"), "multipart_malformed"),
        (RELATED, wrapped(b"a")[:-9], "multipart_malformed"),
        (RELATED, b"--XyZjunk\r\n\r\na\r\n--XyZ--", "multipart_malformed"),
        (RELATED, b"--XyZ" + b"x" * 400, "multipart_malformed"),
        (RELATED, b"--XyZ\r\nno headers\r\n--XyZ--", "multipart_malformed"),
        (RELATED, b"--XyZ\r\n\r\nuntyped\r\n--XyZ--", "multipart_type"),
        (RELATED, wrapped(b"a").replace(b"dicom\r", b"pdf\r"), "multipart_type"),
        (
            RELATED,
            wrapped(b"a").replace(
                b"dicom\r\n", b"dicom\r\nX: " + b"y" * 9000 + b"\r\n"
            ),
            "multipart_malformed",
        ),
        (RELATED, wrapped(b"a", b"b"), "multipart_too_many_parts"),
    ],
)
def test_what_is_no_multipart_is_refused(
    content_type: str, body: bytes, reason: str
) -> None:
    with pytest.raises(MalformedResourceError) as refused:
        parts(content_type, body)
    assert refused.value.reason == reason


# --- a real archive -------------------------------------------------------------------


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with orthanc_server(tmp_path_factory.mktemp("orthanc")) as running:
        yield running


@pytest.fixture(scope="module")
def pacs(archive: Orthanc) -> Iterator[DicomWebClient]:
    with OutboundDoor(
        OutboundPolicy(frozenset({archive.origin}), loopback=True)
    ) as door:
        yield DicomWebClient(archive.base, door, authorization=archive.authorization)


@pytest.mark.service("orthanc")
def test_films_come_back_from_orthanc_in_every_syntax(
    archive: Orthanc, pacs: DicomWebClient
) -> None:
    files = {}
    for number, syntax in enumerate([*LOSSLESS, "jpeg"]):
        sop = f"{SOP}.{number}"
        if syntax == "jpeg":
            made = jpeg_baseline(film(bits=8).astype(np.uint8))
            sop = SOP
        else:
            ds = dataset()
            ds.SOPInstanceUID = sop
            made = in_syntax(syntax, ds)
        files[sop] = made
    archive.store(files.values())
    found = {d["00080018"]["Value"][0] for d in pacs.instances(STUDY)}
    assert (
        found
        == set(files)
        == {d["00080018"]["Value"][0] for d in pacs.instances(STUDY, SERIES)}
    )
    for sop, stored in files.items():
        data = pacs.retrieve_instance(STUDY, SERIES, sop)
        wanted = ExpectedInstance(STUDY, SERIES, sop, frozenset({PATIENT}))
        arguments = {"expected": wanted, "reference": "x", "origin": "dicomweb"}
        there = load_image(data, **arguments)  # type: ignore[arg-type]
        here = load_image(stored, **arguments)  # type: ignore[arg-type]
        np.testing.assert_array_equal(there.pixels, here.pixels)
        assert there.transforms == here.transforms


@pytest.mark.service("orthanc")
def test_orthanc_says_no_to_strangers_and_to_the_unknown(
    archive: Orthanc, pacs: DicomWebClient
) -> None:
    with pytest.raises(UpstreamError) as missing:
        pacs.retrieve_instance("1.2.3", "1.2.4", "1.2.5")
    assert missing.value.status == 404
    policy = OutboundPolicy(frozenset({archive.origin}), loopback=True)
    with OutboundDoor(policy) as door, pytest.raises(UpstreamError) as stranger:
        DicomWebClient(archive.base, door).instances(STUDY)
    assert stranger.value.status == 401
