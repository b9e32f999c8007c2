"""Envelopes, wraps and the blind index."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from audit.cipher import (
    SealClass,
    blind_index,
    derive,
    normalise_system,
    pad,
    read_front,
    seal,
    unseal,
    unwrap,
    wrap,
)
from audit.errors import DecryptionError

DEK, KEY_ID, RECORD, HEADER = b"d" * 32, b"k" * 16, b"r" * 16, b"header"


def sealed(document: bytes = b'{"a":1}') -> bytes:
    return seal(document, DEK, KEY_ID, HEADER, SealClass.EVIDENCE, RECORD)


def test_derivation_is_hkdf_of_rfc_5869() -> None:
    kdf = HKDF(SHA256(), 64, salt=RECORD, info=b"rec|2|1")
    expected = kdf.derive(DEK)
    assert b"".join(derive(DEK, RECORD, SealClass.CLINICAL)) == expected


@given(st.binary(max_size=2000))
def test_what_was_sealed_opens_padded(document: bytes) -> None:
    opened = unseal(sealed(document), DEK, HEADER, SealClass.EVIDENCE, RECORD)
    assert opened == pad(document)
    assert len(opened) % 512 == 0


@pytest.mark.control("TM-T2")
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"material": b"e" * 32}, "commitment"),
        ({"record_id": b"s" * 16}, "commitment"),
        ({"seal_class": SealClass.CLINICAL}, "commitment"),
        ({"header": b"other"}, "tag"),
    ],
)
def test_an_envelope_opens_only_in_its_place(
    change: dict[str, object], reason: str
) -> None:
    place = {"material": DEK, "header": HEADER, "record_id": RECORD}
    place |= {"seal_class": SealClass.EVIDENCE, **change}
    with pytest.raises(DecryptionError) as caught:
        unseal(sealed(), **place)
    assert caught.value.reason == reason


@given(st.integers(0, 600 * 8 - 1))
def test_any_flipped_bit_is_refused(bit: int) -> None:
    blob = bytearray(sealed())
    blob[bit // 8 % len(blob)] ^= 1 << bit % 8
    with pytest.raises(DecryptionError):
        opened = unseal(bytes(blob), DEK, HEADER, SealClass.EVIDENCE, RECORD)
        # Only the algorithm number is free: it is checked by who finds the key.
        assert read_front(bytes(blob)).alg == 2 and opened == pad(b'{"a":1}')
        raise DecryptionError("alg")


@pytest.mark.parametrize(
    ("blob", "reason"), [(b"", "short"), (b"\x09" * 99, "version")]
)
def test_what_is_no_envelope_is_named(blob: bytes, reason: str) -> None:
    with pytest.raises(DecryptionError) as caught:
        read_front(blob)
    assert caught.value.reason == reason


@pytest.mark.control("PR-27")
@pytest.mark.parametrize("moved", ["owner", "class", "epoch", "key_id", "kek", "bytes"])
def test_a_wrap_does_not_open_elsewhere(moved: str) -> None:
    wrapped = wrap(b"K" * 32, 1, DEK, b"o" * 16, 1, KEY_ID)
    assert unwrap(b"K" * 32, 1, wrapped, b"o" * 16, 1, KEY_ID) == DEK
    with pytest.raises(DecryptionError, match="wrap"):
        unwrap(
            (b"L" if moved == "kek" else b"K") * 32,
            2 if moved == "epoch" else 1,
            wrapped[:-1] if moved == "bytes" else wrapped,
            (b"x" if moved == "owner" else b"o") * 16,
            2 if moved == "class" else 1,
            (b"x" if moved == "key_id" else b"k") * 16,
        )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://EHR.example/fhir/", "https://ehr.example/fhir"),
        ("HTTPS://ehr.example", "https://ehr.example/"),
        ("  urn:oid:1.2.3 ", "urn:oid:1.2.3"),
        ("https://ehr.example/caf\u00e9", "https://ehr.example/cafe\u0301"),
    ],
)
def test_spellings_of_one_system_find_the_same_person(one: str, other: str) -> None:
    assert normalise_system(one) == normalise_system(other)
    indexed = blind_index(DEK, "subject", one, " 42 ")
    assert indexed == blind_index(DEK, "subject", other, "42")


def test_the_index_keeps_apart_what_is_different() -> None:
    found = {
        blind_index(DEK, "subject", "https://a/x", "1"),
        blind_index(DEK, "principal", "https://a/x", "1"),
        blind_index(DEK, "subject", "https://a/X", "1"),
        blind_index(DEK, "subject", "https://a", "x1"),
        blind_index(DEK, "subject", "https://a/x", "A"),
        blind_index(DEK, "subject", "https://a/x", "a"),
        blind_index(b"e" * 32, "subject", "https://a/x", "1"),
    }
    assert len(found) == 7
