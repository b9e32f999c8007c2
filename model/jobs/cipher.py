"""Encryption of what lies in the job store: AES-256-GCM, one derived key per job.

Rules that this module enforces:

1. Nothing is stored in the clear: payload and result are sealed before the store sees
   them (threat TM-I1, stolen disk or backup; TM-I3, patient data in queues).
2. Each job has a key of its own, HKDF-SHA256 of the payload key and the job id, so one
   random 96-bit nonce per blob cannot collide across jobs (NIST SP 800-38D, 8.3).
3. Job id, kind and the clear columns of the row are associated data: a blob moved to
   another row, a result put where a payload belongs, or a row given another patient's
   result key does not authenticate (threat TM-T2, swapped ciphertext or columns).
4. Patients and result keys appear in rows as keyed HMACs only: a thief of the database
   cannot test a guessed patient id (threat TM-I5, linkage).
5. Without a key file that only its owner's group can read, there is no cipher: a
   process refuses to start (no secret has a working default).

The key file holds 32-byte keys in hex, one a line, oldest to newest: the newest seals,
every one opens, so a key is rotated by adding a line and removing the oldest once the
longest life of a result has passed.

    sealed = cipher.seal(job_id, "payload", data, result_key, tenant)
    cipher.open(job_id, "payload", sealed, result_key, tenant)   # data
    cipher.open(job_id, "payload", sealed, other_key, tenant)    # JobTamperedError
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import stat
from collections.abc import Sequence
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from model.errors import JobTamperedError, PayloadKeyError

FORMAT = b"\x02"
KEY_ID_BYTES = 4
NONCE_BYTES = 12
HEADER_BYTES = len(FORMAT) + KEY_ID_BYTES + NONCE_BYTES


class PayloadCipher:
    """Seals and opens the blobs of the job store; immutable and thread-safe."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        """Take 32-byte keys, oldest to newest.

        Raises:
            PayloadKeyError: no key, or one that is not 32 bytes long.
        """
        if not keys or any(len(key) != 32 for key in keys):
            raise PayloadKeyError("the payload key must be 32 bytes")
        self._keys = {_key_id(key): key for key in keys}
        self._newest = _key_id(keys[-1])
        # Newest first: the first index is the one that new rows get.
        self._index_keys = [_derive(key, b"patient index") for key in reversed(keys)]

    def __repr__(self) -> str:
        """Name no key: a repr may end in a log."""
        return f"PayloadCipher({len(self._keys)} keys)"

    @classmethod
    def from_file(cls, path: Path) -> PayloadCipher:
        """Read the key file.

        Raises:
            PayloadKeyError: missing, readable by everyone, or not 64 hex digits a line.
        """
        try:
            mode = path.stat().st_mode
            lines = path.read_text("ascii").split()
        except (OSError, UnicodeDecodeError) as exc:
            raise PayloadKeyError("the payload key file cannot be read") from exc
        if mode & (stat.S_IRWXO | stat.S_IWGRP):
            raise PayloadKeyError("the payload key file is open to other users")
        try:
            return cls([bytes.fromhex(line) for line in lines])
        except ValueError:
            # "from None": the text of the cause would quote the key.
            raise PayloadKeyError("the payload key file is not hexadecimal") from None

    def seal(self, job_id: str, kind: str, data: bytes, *columns: str) -> bytes:
        """Encrypt ``data`` for one job: format, key id, nonce, ciphertext with tag.

        ``columns`` are what else of the row must be the same when it is opened.
        """
        nonce = secrets.token_bytes(NONCE_BYTES)
        key = _derive(self._keys[self._newest], job_id.encode())
        sealed = AESGCM(key).encrypt(nonce, data, _bound(job_id, kind, *columns))
        return FORMAT + self._newest + nonce + sealed

    def open(self, job_id: str, kind: str, sealed: bytes, *columns: str) -> bytes:
        """Decrypt what :meth:`seal` made for the same job, kind and columns.

        Raises:
            JobTamperedError: changed, moved, cut short, or sealed under another key.
        """
        key_id = sealed[1 : 1 + KEY_ID_BYTES]
        if sealed[:1] != FORMAT or len(sealed) < HEADER_BYTES + 16:
            raise JobTamperedError(f"job {job_id}: malformed {kind}")
        if key_id not in self._keys:
            raise JobTamperedError(f"job {job_id}: {kind} under an unknown key")
        nonce = sealed[1 + KEY_ID_BYTES : HEADER_BYTES]
        key = _derive(self._keys[key_id], job_id.encode())
        try:
            return AESGCM(key).decrypt(
                nonce, memoryview(sealed)[HEADER_BYTES:], _bound(job_id, kind, *columns)
            )
        except InvalidTag:
            raise JobTamperedError(f"job {job_id}: {kind} not authentic") from None

    def indexes(self, *parts: str) -> tuple[str, ...]:
        """Keyed HMAC-SHA256 (hex) of ``parts``, one per key, that of the newest first.

        Each part is preceded by its length, so that ("ab", "c") is not ("a", "bc").
        """
        message = _bound(*parts)
        return tuple(
            hmac.new(key, message, hashlib.sha256).hexdigest()
            for key in self._index_keys
        )


def write_new_key(path: Path) -> None:
    """Create a key file with one fresh key, mode 0600; never overwrite one.

    Raises:
        FileExistsError: there is a file already; a lost key loses every open job.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(secrets.token_hex(32) + "\n")


def _bound(*parts: str) -> bytes:
    return b"".join(
        len(part).to_bytes(4, "big") + part
        for part in (p.encode("utf-8", "surrogatepass") for p in parts)
    )


def _key_id(key: bytes) -> bytes:
    return hashlib.sha256(b"trivium payload key id" + key).digest()[:KEY_ID_BYTES]


def _derive(key: bytes, use: bytes) -> bytes:
    return HKDF(hashes.SHA256(), 32, None, b"trivium job v1|" + use).derive(key)
