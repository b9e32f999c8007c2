"""The payload cipher: bound to job and kind, rotated, and never without a key."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.errors import JobTamperedError, PayloadKeyError
from model.jobs.cipher import PayloadCipher, write_new_key

OLD, NEW = b"o" * 32, b"n" * 32
CIPHER = PayloadCipher([NEW])
SEALED = CIPHER.seal("job", "payload", b"film and note")


@given(st.binary(max_size=200), st.text("0123456789abcdef", min_size=1, max_size=32))
def test_what_was_sealed_opens(data: bytes, job_id: str) -> None:
    sealed = CIPHER.seal(job_id, "payload", data)
    assert CIPHER.open(job_id, "payload", sealed) == data
    assert len(data) < 8 or data not in sealed


def test_the_same_data_is_never_sealed_alike() -> None:
    assert CIPHER.seal("job", "payload", b"x") != CIPHER.seal("job", "payload", b"x")


@pytest.mark.parametrize("job_id,kind", [("other", "payload"), ("job", "result")])
def test_a_blob_moved_to_another_job_or_kind_does_not_open(
    job_id: str, kind: str
) -> None:
    with pytest.raises(JobTamperedError):
        CIPHER.open(job_id, kind, SEALED)


@pytest.mark.parametrize("position", range(len(SEALED)))
def test_any_changed_byte_is_noticed(position: int) -> None:
    changed = bytearray(SEALED)
    changed[position] ^= 1
    with pytest.raises(JobTamperedError):
        CIPHER.open("job", "payload", bytes(changed))


@pytest.mark.parametrize("length", [0, 1, 16, 17, 32, len(SEALED) - 1])
def test_a_blob_cut_short_is_noticed(length: int) -> None:
    with pytest.raises(JobTamperedError):
        CIPHER.open("job", "payload", SEALED[:length])


def test_a_rotated_key_still_opens_and_a_removed_one_does_not() -> None:
    before = PayloadCipher([OLD]).seal("job", "payload", b"data")
    rotated = PayloadCipher([OLD, NEW])
    assert rotated.open("job", "payload", before) == b"data"
    after = rotated.seal("job", "payload", b"data")
    assert CIPHER.open("job", "payload", after) == b"data"
    with pytest.raises(JobTamperedError, match="unknown key"):
        CIPHER.open("job", "payload", before)


def test_indexes_are_keyed_and_unambiguous() -> None:
    both = PayloadCipher([OLD, NEW]).indexes("a", "b")
    assert both[0] == PayloadCipher([NEW]).indexes("a", "b")[0]
    assert both[1] == PayloadCipher([OLD]).indexes("a", "b")[0]
    assert both[0] != both[1]
    assert CIPHER.indexes("ab", "c") != CIPHER.indexes("a", "bc")
    assert len(both[0]) == 64


@pytest.mark.parametrize("keys", [[], [b"short"], [NEW, b"x" * 31]])
def test_a_key_of_another_length_is_refused(keys: list[bytes]) -> None:
    with pytest.raises(PayloadKeyError):
        PayloadCipher(keys)


def test_a_written_key_file_is_private_and_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "payload.key"
    write_new_key(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o077 == 0
    cipher = PayloadCipher.from_file(path)
    assert cipher.open("j", "k", cipher.seal("j", "k", b"d")) == b"d"
    with pytest.raises(FileExistsError):
        write_new_key(path)


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o660, 0o602])
def test_a_key_file_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "payload.key"
    write_new_key(path)
    os.chmod(path, mode)
    with pytest.raises(PayloadKeyError, match="open to other users"):
        PayloadCipher.from_file(path)


def test_a_key_file_for_the_service_group_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "payload.key"
    write_new_key(path)
    os.chmod(path, 0o440)  # as container platforms mount a secret
    PayloadCipher.from_file(path)


@pytest.mark.parametrize("content", ["", "zz" * 32, "ab" * 31])
def test_a_file_without_a_key_is_refused_and_not_quoted(
    tmp_path: Path, content: str
) -> None:
    path = tmp_path / "payload.key"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(PayloadKeyError) as caught:
        PayloadCipher.from_file(path)
    assert not content or content not in str(caught.value)


def test_a_missing_key_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PayloadKeyError, match="cannot be read"):
        PayloadCipher.from_file(tmp_path / "nothing")


def test_a_cipher_does_not_show_its_keys() -> None:
    assert repr(CIPHER) == "PayloadCipher(1 keys)"
