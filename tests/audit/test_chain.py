"""The hashed bytes: frozen vectors, and nothing that does not count."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

import pytest

from audit.chain import (
    HAS_EVIDENCE,
    HAS_SUBJECT,
    Checkpoint,
    CoreHeader,
    Opening,
    Row,
    batch_message,
    content,
    end_message,
    is_signed,
    pack_header,
    row_hash,
    row_problem,
)

CORE = CoreHeader(
    version=1,
    record_id=bytes(range(16)),
    ts_us=1_795_000_000_000_000,
    event_type=10,
    action=5,
    outcome=1,
    phase=1,
    flags=HAS_SUBJECT | HAS_EVIDENCE,
    subject_id=b"s" * 16,
    principal_id=b"p" * 16,
    web_session_ref=None,
    correlation_id=b"c" * 16,
    purpose=1,
    lawful_basis=1,
    model_ref=None,
    retain_until_day=24_000,
)
OPENING = Opening(
    b"i" * 16, b"k" * 32, b"n" * 32, 1, 1, None, 0, 0, b"trivium-cds 0.1.0"
)


def sealed_row(core: CoreHeader = CORE, evidence: bytes | None = b"blob") -> Row:
    body = content(pack_header(core), evidence, None)
    prev = OPENING.genesis()
    hashed = row_hash(b"i" * 16, 0, prev, body)
    return Row(b"i" * 16, 0, core, evidence, None, prev, hashed)


@pytest.mark.control("PR-15")
def test_version_1_bytes_are_frozen() -> None:
    assert pack_header(CORE).hex() == (
        "01000102030405060708090a0b0c0d0e0f0006608b015f3000000a05010100000011"
        + "73" * 16
        + "70" * 16
        + "00" * 16
        + "63" * 16
        + "00010001"
        + "00" * 16
        + "00005dc0"
    )
    row = sealed_row()
    blob = sha256(b"blob").digest()
    body = sha256(b"trivium.rec.1\0" + pack_header(CORE) + blob + bytes(32)).digest()
    place = b"i" * 16 + bytes(8)
    expected = sha256(b"trivium.row.1\0" + place + row.prev_hash + body).digest()
    assert row.row_hash == expected
    assert row_problem(row) is None


@pytest.mark.parametrize("field", [f for f in CoreHeader._fields if f != "flags"])
def test_every_header_field_counts(field: str) -> None:
    value = getattr(CORE, field)
    other = value + 1 if isinstance(value, int) else b"x" * 16
    row = sealed_row()._replace(core=CORE._replace(**{field: other}))
    assert row_problem(row) is not None


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"record_id": bytes(range(15))}, "malformed id"),
        ({"subject_id": None}, "presence bits do not fit"),
        ({"flags": HAS_EVIDENCE}, "presence bits do not fit"),
        ({"web_session_ref": bytes(16)}, "presence bits do not fit"),
        ({"ts_us": -1}, "value out of range"),
        ({"purpose": 70_000}, "value out of range"),
        ({"flags": HAS_SUBJECT | HAS_EVIDENCE | 32}, "row hash differs"),
    ],
)
def test_problems_are_named(change: dict[str, object], problem: str) -> None:
    row = sealed_row()._replace(core=CORE._replace(**change))
    assert row_problem(row) == problem


def test_columns_outside_the_header_count_too() -> None:
    row = sealed_row()
    assert row_problem(row._replace(seq=1)) == "row hash differs"
    assert row_problem(row._replace(evidence_blob=b"bloc")) == "row hash differs"
    assert row_problem(row._replace(evidence_blob="text")) == "malformed envelope"
    assert row_problem(row._replace(prev_hash=b"")) == "malformed previous hash"
    assert row_problem(row._replace(row_hash=bytes(32))) == "row hash differs"


def test_rows_survive_the_way_through_their_columns() -> None:
    row = sealed_row()
    assert Row.from_values(row.values()) == row
    assert len(row.values()) == 22


def test_each_message_has_its_own_prefix() -> None:
    checkpoint = Checkpoint(1, bytes(32), bytes(32), 1, 0, 0, 0)
    messages = [
        OPENING.statement(),
        batch_message(b"i" * 16, 0, 1, bytes(32), bytes(32)),
        end_message(b"i" * 16, 1, bytes(32), 1, 1),
        checkpoint.message(),
    ]
    assert len({message.split(b"\0")[0] for message in messages}) == len(messages)
    assert checkpoint.digest() == sha256(checkpoint.message()).digest()


def test_absent_predecessor_is_not_the_zero_stream() -> None:
    zero = replace(OPENING, prev_stream=bytes(16))
    assert zero.statement() != OPENING.statement()


def test_nonsense_is_not_a_signature() -> None:
    assert not is_signed(b"short", b"sig", b"message")
    assert not is_signed(bytes(32), bytes(64), b"message")
