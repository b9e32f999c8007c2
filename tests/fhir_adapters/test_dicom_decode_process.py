"""The decoding children: limits that hold, and a pool that outlives what hits them."""

from __future__ import annotations

import io
import json
import os
import struct
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from pydicom.dataset import Dataset

from fhir_adapters.dicom import decode_child, decode_wire, transfer_syntax
from fhir_adapters.dicom.decode_process import (
    DecodeLimits,
    DecodePool,
    child_command,
    decode_in_child,
    shared_pool,
)
from fhir_adapters.dicom.image import load_image
from fhir_adapters.dicom.transfer_syntax import load_plugins
from fhir_adapters.errors import ImageUnreadableError
from tests.fhir_adapters.dicom_files import (
    EXPECTED,
    LOSSLESS,
    cr,
    film,
    in_syntax,
    jpeg_baseline,
)

ARGUMENTS = {"reference": "ImagingStudy/s1", "origin": "dicomweb"}


@pytest.fixture(scope="module")
def pool() -> Iterator[DecodePool]:
    made = DecodePool(DecodeLimits(children=1))
    made.warm()
    yield made
    made.close()


def reason(pool: DecodePool, data: bytes, deadline: float | None = None) -> str:
    with pytest.raises(ImageUnreadableError) as refused:
        pool.decode(data, expected=EXPECTED, deadline=deadline, **ARGUMENTS)
    return refused.value.reason


def misbehaving(code: str, **limits: object) -> DecodePool:
    """A pool whose children run ``code`` after saying that they are ready."""
    prologue = """
        import json, os, struct, sys, time
        def say(header, body=b"", claim=None):
            raw = isinstance(header, bytes)
            encoded = header if raw else json.dumps(header).encode()
            length = len(body) if claim is None else claim
            os.write(1, struct.pack(">IQ", len(encoded), length) + encoded + body)
        def hear():
            head, body = struct.unpack(">IQ", sys.stdin.buffer.read(12))
            return sys.stdin.buffer.read(head + body)
    """
    script = textwrap.dedent(prologue) + textwrap.dedent(code)
    return DecodePool(
        DecodeLimits(children=1, **limits),  # type: ignore[arg-type]
        command=(sys.executable, "-S", "-c", script),
    )


# --- real children --------------------------------------------------------------------


@pytest.mark.parametrize("syntax", [*LOSSLESS, "jpeg"])
def test_child_gives_what_this_process_would(pool: DecodePool, syntax: str) -> None:
    if syntax == "jpeg":
        data = jpeg_baseline(film(bits=8).astype(np.uint8))
    else:
        data = in_syntax(syntax)
    there = pool.decode(data, expected=EXPECTED, **ARGUMENTS)
    here = load_image(data, expected=EXPECTED, **ARGUMENTS)
    np.testing.assert_array_equal(there.pixels, here.pixels)
    for name in ("view", "acquired_at", "provenance", "transforms", "flags", "sop_uid"):
        assert getattr(there, name) == getattr(here, name)


def test_site_zone_is_applied_by_the_parent(pool: DecodePool) -> None:
    def no_zone(ds: Dataset) -> None:
        del ds.TimezoneOffsetFromUTC

    rome = replace(EXPECTED, site_zone=ZoneInfo("Europe/Rome"))
    image = pool.decode(cr(no_zone), expected=rome, **ARGUMENTS)
    assert image.acquired_at == datetime(2026, 1, 2, 3, 4, 5, tzinfo=rome.site_zone)


def test_refusal_keeps_its_reason_and_the_child(pool: DecodePool) -> None:
    before = child_ids(pool)
    assert reason(pool, b"no film") == "not_dicom"
    assert reason(pool, cr(lambda ds: setattr(ds, "PatientID", "X"))) == "other_patient"
    assert child_ids(pool) == before


def large(ds: Dataset) -> None:
    """Seconds of work and a gigabyte of memory, and cheap to make."""
    ds.PixelAspectRatio = [11, 10]


@pytest.mark.ssrf("X41")
def test_memory_limit_ends_the_decode_and_the_next_film_works() -> None:
    # The film is honest; this child just may not have the memory for it.
    pool = DecodePool(DecodeLimits(children=1, memory_bytes=420 * 1024**2))
    try:
        data = cr(large, pixels=np.zeros((6000, 6000), np.uint16))
        assert reason(pool, data) == "decode_memory_limit"
        assert pool.decode(cr(), expected=EXPECTED, **ARGUMENTS).view == "PA"
    finally:
        pool.close()


@pytest.mark.ssrf("X41")
def test_cpu_limit_ends_the_decode_and_the_next_film_works() -> None:
    # At most a second on top of what the start has used.
    pool = DecodePool(DecodeLimits(children=1, cpu_seconds=0))
    try:
        data = cr(large, pixels=np.zeros((6000, 6000), np.uint16))
        assert reason(pool, data) == "decode_cpu_limit"
        assert pool.decode(cr(), expected=EXPECTED, **ARGUMENTS).view == "PA"
    finally:
        pool.close()


def test_a_small_file_gets_little_time() -> None:
    # The slowest of ten thousand damaged files: a broken JPEG-LS frame.
    data = Path(__file__).with_name("slow_jpeg_ls.dcm").read_bytes()
    # No wall clock: on a crowded machine it would come before the CPU limit.
    pool = DecodePool(DecodeLimits(children=1, wall_seconds=120.0))
    try:
        assert reason(pool, data) in {"decode_cpu_limit", "dicom_malformed"}
        assert pool.decode(cr(), expected=EXPECTED, **ARGUMENTS).view == "PA"
    finally:
        pool.close()


@pytest.mark.parametrize(
    ("size", "limit", "seconds"),
    [(0, 10, 2), (1374, 10, 2), (1_000_000, 10, 4), (10_000_000, 10, 10), (9, 0, 0)],
)
def test_time_grows_with_the_file(size: int, limit: int, seconds: int) -> None:
    assert decode_child.allowance(size, limit) == seconds


def test_child_can_open_nothing_and_knows_nothing(pool: DecodePool) -> None:
    os.environ["TRIVIUM_TEST_SECRET"] = "must-not-be-inherited"
    probe = DecodePool(DecodeLimits(children=1))
    try:
        probe.decode(cr(), expected=EXPECTED, **ARGUMENTS)
        (process_id,) = child_ids(probe)
        with open(f"/proc/{process_id}/environ", "rb") as file:
            environment = file.read()
        assert b"TRIVIUM" not in environment and b"HOME" not in environment
        assert len(os.listdir(f"/proc/{process_id}/fd")) == 3
        with open(f"/proc/{process_id}/limits", encoding="ascii") as file:
            limits = {line[:26].strip(): line[26:].split() for line in file}
        assert limits["Max open files"][:2] == ["3", "3"]
        assert limits["Max file size"][:2] == ["0", "0"]
        assert limits["Max processes"][:2] == ["0", "0"]
        assert limits["Max core file size"][:2] == ["0", "0"]
        assert limits["Max address space"][0] == str(DecodeLimits().memory_bytes)
        assert limits["Max cpu time"][0] != "unlimited"
        assert os.readlink(f"/proc/{process_id}/cwd") == "/"
    finally:
        probe.close()
        del os.environ["TRIVIUM_TEST_SECRET"]


def child_ids(pool: DecodePool) -> list[int]:
    """Process ids of the idle children."""
    return [child._process.pid for child in pool._idle]


def test_killed_child_is_replaced(pool: DecodePool) -> None:
    (process_id,) = child_ids(pool)
    os.kill(process_id, 9)
    time.sleep(0.05)
    assert pool.decode(cr(), expected=EXPECTED, **ARGUMENTS).view == "PA"
    assert child_ids(pool) != [process_id]


def test_child_is_replaced_after_its_share_of_files() -> None:
    pool = DecodePool(DecodeLimits(children=1, files_per_child=2))
    try:
        seen = []
        for _ in range(3):
            pool.decode(cr(), expected=EXPECTED, **ARGUMENTS)
            seen.append(child_ids(pool)[0])
        assert seen[0] != seen[1] == seen[2]
    finally:
        pool.close()


def test_threads_share_the_pool() -> None:
    pool = DecodePool(DecodeLimits(children=2))
    pool.warm()
    data, shapes = cr(), []

    def work() -> None:
        for _ in range(5):
            image = pool.decode(data, expected=EXPECTED, **ARGUMENTS)
            shapes.append(image.pixels.shape)

    try:
        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert shapes == [(48, 40)] * 30
        assert len(child_ids(pool)) == 2
    finally:
        pool.close()


def test_warm_pool_starts_no_interpreter_for_a_film(pool: DecodePool) -> None:
    pool.decode(cr(), expected=EXPECTED, **ARGUMENTS)
    before = child_ids(pool)
    for _ in range(3):
        pool.decode(cr(), expected=EXPECTED, **ARGUMENTS)
    assert child_ids(pool) == before


def test_shared_pool_serves_and_is_one() -> None:
    assert shared_pool() is shared_pool()
    image = decode_in_child(cr(), expected=EXPECTED, **ARGUMENTS)
    assert image.provenance.origin == "dicomweb"
    shared_pool().close()


def test_file_above_the_cap_reaches_no_child(pool: DecodePool) -> None:
    assert reason(pool, bytes(128 * 1024 * 1024 + 1)) == "file_too_large"


def test_hurried_caller_does_no_harm_to_a_child_that_is_starting() -> None:
    pool = DecodePool(DecodeLimits(children=1))
    try:
        assert reason(pool, cr(), time.monotonic() + 0.01) == "decode_timeout"
        (process_id,) = child_ids(pool)
        pool.decode(cr(), expected=EXPECTED, **ARGUMENTS)
        assert child_ids(pool) == [process_id]
    finally:
        pool.close()


def test_pool_that_is_warmed_at_work_does_not_grow() -> None:
    pool = misbehaving("say({}); hear(); time.sleep(0.5); say({'reason': 'late'})")
    other = threading.Thread(target=reason, args=(pool, cr()))
    try:
        other.start()
        time.sleep(0.2)
        pool.warm()
        other.join()
        assert len(child_ids(pool)) == 1
    finally:
        pool.close()


def test_closed_pool_keeps_no_child() -> None:
    pool = DecodePool(DecodeLimits(children=1))
    pool.close()
    pool.decode(cr(), expected=EXPECTED, **ARGUMENTS)
    assert child_ids(pool) == []


# --- children that misbehave ----------------------------------------------------------

ANSWER = {
    "shape": [2, 2],
    "view": "PA",
    "inferred": False,
    "uids": ["1.2", "1.3", "1.4"],
    "acquired": None,
    "transforms": [],
    "flags": [],
}


def test_hang_is_cut_off_at_the_wall_limit() -> None:
    pool = misbehaving("say({}); hear(); time.sleep(60)", wall_seconds=0.4)
    try:
        started = time.monotonic()
        assert reason(pool, cr()) == "decode_timeout"
        assert time.monotonic() - started < 2
    finally:
        pool.close()


def test_child_that_stops_reading_cannot_hold_the_caller() -> None:
    pool = misbehaving("say({}); time.sleep(60)", wall_seconds=0.4)
    try:
        assert reason(pool, bytes(10_000_000)) == "decode_timeout"
    finally:
        pool.close()


def test_waiting_for_a_busy_child_is_bounded() -> None:
    pool = misbehaving("say({}); hear(); time.sleep(60)", wall_seconds=1.0)
    other = threading.Thread(target=reason, args=(pool, cr()))
    try:
        other.start()
        time.sleep(0.2)
        assert reason(pool, cr(), time.monotonic() + 0.1) == "decoder_busy"
    finally:
        other.join()
        pool.close()


@pytest.mark.parametrize(
    "code, wanted",
    [
        ("say({}); hear(); os._exit(3)", "decoder_crashed"),
        ("say({}); hear(); os.kill(os.getpid(), 11)", "decoder_crashed"),
        ("say({}); hear(); os.kill(os.getpid(), 24)", "decode_cpu_limit"),
        ("say({}); hear(); os.write(1, b'half'); os._exit(0)", "decoder_crashed"),
        ("os.close(0); say({}); time.sleep(5)", "decoder_crashed"),
        ("os._exit(1)", "decoder_not_started"),
        ("say({}); hear(); say(b'no json')", "decoder_answer_malformed"),
        ("say({}); hear(); say(b'[]')", "decoder_answer_malformed"),
        ("say({}); hear(); say(b'[' * 99999)", "decoder_answer_malformed"),
        ("say({}); hear(); say({}, claim=2**60)", "decoder_answer_malformed"),
        ("say({}); hear(); say(b'', claim=0)", "decoder_answer_malformed"),
        ("say({}); hear(); say({'reason': 'Doe^John'})", "decoder_answer_malformed"),
        ("say({}); hear(); say({'reason': 7})", "decoder_answer_malformed"),
        ("say({}); hear(); say({'reason': 'fine_code'})", "fine_code"),
    ],
)
def test_child_gone_wrong_is_a_typed_error(code: str, wanted: str) -> None:
    pool = misbehaving(code, wall_seconds=5.0)
    try:
        assert reason(pool, cr()) == wanted
    finally:
        pool.close()


def test_child_that_never_gets_ready_is_given_up() -> None:
    pool = misbehaving("time.sleep(60)", start_seconds=0.2)
    try:
        assert reason(pool, cr()) == "decoder_not_started"
    finally:
        pool.close()


def test_missing_interpreter_is_a_typed_error() -> None:
    pool = DecodePool(DecodeLimits(children=1), command=("/nonexistent/python",))
    assert reason(pool, cr()) == "decoder_not_started"


@pytest.mark.parametrize(
    "change, body",
    [
        ({"shape": [2, 3]}, 16),
        ({"shape": [4]}, 16),
        ({"shape": "ab"}, 16),
        ({"shape": [2, 2]}, 15),
        ({"uids": ["1.2", "../x", "1.4"]}, 16),
        ({"uids": ["1.2"]}, 16),
        ({"view": "Doe^John"}, 16),
        ({"acquired": "yesterday"}, 16),
        ({"flags": 3}, 16),
    ],
)
def test_answers_are_not_believed(change: dict[str, object], body: int) -> None:
    header = json.dumps({**ANSWER, **change}).encode()
    with pytest.raises(ImageUnreadableError) as refused:
        decode_wire.decoded_of(header, bytearray(body))
    assert refused.value.reason == "decoder_answer_malformed"


def test_answer_survives_the_wire() -> None:
    decoded = decode_wire.decoded_of(json.dumps(ANSWER).encode(), bytearray(16))
    assert decode_wire.answer_header(decoded) == ANSWER
    assert decoded.pixels.shape == (2, 2)


# --- the child's own loop, in this process --------------------------------------------


def served(data: bytes) -> tuple[bool, dict[str, object], bytes]:
    request = decode_wire.frame(decode_wire.request_header(EXPECTED), len(data))
    header_bytes, body_bytes = struct.unpack_from(">IQ", request)
    sink = io.BytesIO()
    fit = decode_child.serve(
        io.BytesIO(request[12:] + data), sink, header_bytes, body_bytes
    )
    header_bytes, body_bytes = struct.unpack_from(">IQ", sink.getvalue())
    body = sink.getvalue()[12 + header_bytes :]
    assert len(body) == body_bytes
    return fit, json.loads(sink.getvalue()[12 : 12 + header_bytes]), body


def test_child_serves_pixels_and_reasons() -> None:
    fit, header, body = served(cr())
    assert fit and header["shape"] == [48, 40] and len(body) == 48 * 40 * 4
    fit, header, body = served(b"nothing")
    assert fit and header == {"reason": "not_dicom"} and body == b""


def test_plugins_are_all_installed() -> None:
    load_plugins()


def test_a_missing_plugin_is_said_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        transfer_syntax.DECODINGS,
        "1.2.840.10008.1.2.5",
        transfer_syntax.Decoding("nobodys", "rle"),
    )
    with pytest.raises(ImageUnreadableError) as missing:
        load_plugins()
    assert missing.value.reason == "decoder_not_installed"


def test_command_names_this_interpreter_and_both_limits() -> None:
    command = child_command(DecodeLimits(memory_bytes=7, cpu_seconds=8))
    assert command[0] == sys.executable and command[-2:] == ("7", "8")
