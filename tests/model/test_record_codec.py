"""A record crosses the queue bit by bit, or is refused."""

from __future__ import annotations

import io
import json
import struct
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fhir_adapters.patient_record import (
    ChestImage,
    ClinicalNote,
    CodedValue,
    Modality,
    ModalityState,
    ModalityStatus,
    PatientIdentity,
    PatientRecord,
    Provenance,
    Section,
    Skip,
)
from model.errors import RecordCodecError
from model.jobs.record_codec import decode, encode
from tests.model.job_samples import record

TEXTS = st.text(max_size=20)
NAMES = st.lists(TEXTS, max_size=2).map(tuple)
DECIMALS = st.decimals(allow_nan=False, allow_infinity=False)
TIMES = st.datetimes(timezones=st.just(UTC) | st.just(timezone(timedelta(hours=-3))))
SOURCES = st.builds(Provenance, TEXTS, TEXTS, TEXTS)
PIXELS = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=4),
    elements=st.floats(0, 1, width=32),
)
IMAGES = st.builds(
    ChestImage,
    pixels=PIXELS,
    view=st.none() | TEXTS,
    view_inferred=st.booleans(),
    study_uid=TEXTS,
    series_uid=TEXTS,
    sop_uid=TEXTS,
    acquired_at=st.none() | TIMES,
    provenance=SOURCES,
    transforms=NAMES,
    flags=NAMES,
)
NOTES = st.builds(
    ClinicalNote,
    text=TEXTS,
    written_at=st.none() | TIMES,
    kind=TEXTS,
    provenance=SOURCES,
    sections=st.lists(
        st.builds(Section, TEXTS, st.integers(0, 9), st.integers(0, 9)), max_size=2
    ).map(tuple),
    flags=NAMES,
)
VALUES = st.builds(
    CodedValue,
    loinc=TEXTS,
    name=TEXTS,
    value=DECIMALS,
    unit=TEXTS,
    measured_at=TIMES,
    provenance=SOURCES,
    comparator=st.none() | st.sampled_from(["<", ">="]),
    interpretation=st.none() | TEXTS,
    reference_low=st.none() | DECIMALS,
    reference_high=st.none() | DECIMALS,
    source_value=TEXTS,
    source_unit=TEXTS,
    flags=NAMES,
)
RECORDS = st.builds(
    PatientRecord,
    patient=st.builds(
        PatientIdentity,
        patient_id=TEXTS,
        identifiers=st.lists(st.tuples(TEXTS, TEXTS), max_size=2).map(tuple),
        sex=st.none() | TEXTS,
        birth_date=st.none() | st.dates(),
    ),
    cutoff=TIMES,
    states=st.fixed_dictionaries(
        {
            m: st.builds(ModalityState, st.sampled_from(ModalityStatus), TEXTS)
            for m in Modality
        }
    ),
    images=st.lists(IMAGES, max_size=2).map(tuple),
    notes=st.lists(NOTES, max_size=2).map(tuple),
    values=st.lists(VALUES, max_size=2).map(tuple),
    history=st.lists(VALUES, max_size=2).map(tuple),
    skipped=st.lists(st.builds(Skip, TEXTS, TEXTS, TEXTS), max_size=2).map(tuple),
)
PLAIN_FIELDS = ("patient", "cutoff", "notes", "values", "history", "skipped")
IMAGE_FIELDS = tuple(f for f in ChestImage.__dataclass_fields__ if f != "pixels")


def assert_same(found: PatientRecord, expected: PatientRecord) -> None:
    """Equal in every field; pixels bit by bit."""
    for name in PLAIN_FIELDS:
        assert getattr(found, name) == getattr(expected, name)
    assert dict(found.states) == dict(expected.states)
    assert len(found.images) == len(expected.images)
    for mine, theirs in zip(found.images, expected.images):
        assert mine.pixels.dtype == np.float32
        assert mine.pixels.tobytes() == theirs.pixels.tobytes()
        assert mine.pixels.shape == theirs.pixels.shape
        for name in IMAGE_FIELDS:
            assert getattr(mine, name) == getattr(theirs, name)


@given(RECORDS)
def test_every_record_comes_back_as_it_was(original: PatientRecord) -> None:
    again = decode(encode(original))
    assert_same(again, original)
    assert again.evidence_sha256() == original.evidence_sha256()


def test_digits_and_offsets_are_kept() -> None:
    again = decode(encode(record()))
    assert str(again.values[0].value) == "96.50"
    assert str(again.history[1].value) == "1E+2"
    assert again.cutoff == datetime(2026, 3, 4, 5, 6, 7, 890123, tzinfo=UTC)
    assert again.values[0].reference_high == Decimal("5")


def test_the_encoding_is_the_same_every_time() -> None:
    assert encode(record()) == encode(record())


@given(st.binary(max_size=80))
def test_other_bytes_are_refused_by_type(data: bytes) -> None:
    with pytest.raises(RecordCodecError):
        decode(data)


@given(st.integers(0, 10_000))
def test_a_record_cut_short_is_refused(cut: int) -> None:
    whole = encode(record())
    with pytest.raises(RecordCodecError):
        decode(whole[: cut % len(whole)])


def with_body(change: dict[str, object]) -> bytes:
    """The sample with fields of its JSON replaced."""
    whole = encode(record())
    (length,) = struct.unpack_from(">I", whole, 8)
    body = {**json.loads(whole[12 : 12 + length]), **change}
    text = json.dumps(body).encode()
    return whole[:8] + struct.pack(">I", len(text)) + text + whole[12 + length :]


@pytest.mark.parametrize(
    "change",
    [
        {"cutoff": "yesterday"},
        {"states": {"smell": ["present", ""]}},
        {"states": {"image": ["certain", ""]}},
        {"notes": [{"text": 5}]},
        {"patient": {"patient_id": None, "identifiers": [], "birth_date": None}},
        {"images": []},
        {"values": [{"value": "NaNsense"}]},
        {"skipped": [[1, 2, 3, 4]]},
    ],
)
def test_a_body_of_another_shape_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(RecordCodecError):
        decode(with_body(change))


def test_a_version_we_do_not_read_is_refused() -> None:
    whole = bytearray(encode(record()))
    whole[7] = 2
    with pytest.raises(RecordCodecError):
        decode(bytes(whole))


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((2, 2), np.float64),
        np.zeros((2, 2, 2), np.float32),
        np.array([[object()]], dtype=object),
    ],
)
def test_pixels_of_another_kind_are_refused(pixels: np.ndarray) -> None:
    # An object array would need pickle, which runs code when it is read.
    block = io.BytesIO()
    if pixels.dtype == object:
        block.write(b"\x93NUMPY\x01\x00")
        head = b"{'descr': '|O', 'fortran_order': False, 'shape': (1, 1), }\n"
        block.write(struct.pack("<H", len(head)) + head + b"cos\nsystem\n(S'true'\ntR.")
    else:
        np.save(block, pixels, allow_pickle=False)
    whole = encode(record())
    (length,) = struct.unpack_from(">I", whole, 8)
    start = 12 + length
    data = whole[:start] + struct.pack(">Q", block.tell()) + block.getvalue()
    with pytest.raises(RecordCodecError):
        decode(data)


def test_the_refusal_quotes_nothing_of_the_record() -> None:
    with pytest.raises(RecordCodecError) as caught:
        decode(with_body({"cutoff": "Zebulon"}))
    assert "Zebulon" not in str(caught.value)
    assert caught.value.__cause__ is None
