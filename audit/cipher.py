"""Envelopes, wrapped keys and the blind index; pure functions over bytes.

Rules:

1. Each envelope has its own key, HKDF-SHA256(DEK, salt = record id), and AES-256-GCM
   binds it to the record's header, its class and its key id (attack: moving a
   ciphertext to another patient, record or class).
2. The second half of the HKDF output is stored as a commitment and compared before
   anything is decrypted (GCM does not commit to its key; attack: one ciphertext that
   opens differently under two keys).
3. Content is padded to a multiple of 512 bytes (attack: telling records apart by size).
4. A wrapped key is bound to its owner, class, epoch and key id (attack: moving a wrap
   to another subject, so that erasing one patient leaves a working copy).
5. Identifiers are found by HMAC under a key that is in no database (attack: guessing
   record numbers against a plain hash in a stolen backup).

Example:
    >>> blob = seal(b"{}", dek, key_id, header, SealClass.EVIDENCE, record_id)
    >>> unseal(blob, dek, header, SealClass.EVIDENCE, record_id)  # doctest: +SKIP
    b'{}   ...'
"""

from __future__ import annotations

import hmac
import os
import struct
import unicodedata
from enum import IntEnum
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from audit.errors import DecryptionError

KEY_BYTES = 32
BLOCK = 512  # bytes to which plaintext is padded
BLOB_VERSION = 1
ALG_DEK = 1  # key material is the subject's DEK
ALG_RECORD_KEY = 2  # key material is a random key of this record alone

_FRONT = struct.Struct(">BB16s12s32s")
_WRAP = struct.Struct(">16sBI16s")


class SealClass(IntEnum):
    """Evidence is kept by law; clinical is what an erasure destroys first."""

    EVIDENCE = 1
    CLINICAL = 2


class BlobFront(NamedTuple):
    """The part of a blob before its ciphertext."""

    version: int
    alg: int
    key_id: bytes
    nonce: bytes
    commitment: bytes


def derive(
    material: bytes, record_id: bytes, seal_class: SealClass
) -> tuple[bytes, bytes]:
    """Record key and commitment: 64 bytes of HKDF-SHA256 (RFC 5869), halved."""
    info = b"rec|%d|1" % seal_class
    prk = hmac.digest(record_id, material, "sha256")
    key = hmac.digest(prk, info + b"\x01", "sha256")
    return key, hmac.digest(prk, key + info + b"\x02", "sha256")


def pad(document: bytes) -> bytes:
    """Fill with blanks, which JSON ignores, to a multiple of 512 bytes."""
    return document + b" " * (-len(document) % BLOCK)


def seal(
    document: bytes,
    material: bytes,
    key_id: bytes,
    header: bytes,
    seal_class: SealClass,
    record_id: bytes,
    alg: int = ALG_DEK,
) -> bytes:
    """Encrypt one JSON document into a blob.

    Args:
        document: compact JSON, any length.
        material: 32 bytes, the DEK (alg 1) or the record's own key (alg 2).
        key_id: 16 bytes that name the material.
        header: the packed core header, bound as associated data.
        seal_class: evidence or clinical.
        record_id: 16 bytes, salt of the derivation.
        alg: 1 or 2, as above.
    """
    key, commitment = derive(material, record_id, seal_class)
    nonce = os.urandom(12)
    bound = b"%b%c%b" % (header, seal_class, key_id)
    front = _FRONT.pack(BLOB_VERSION, alg, key_id, nonce, commitment)
    return front + AESGCM(key).encrypt(nonce, pad(document), bound)


def read_front(blob: bytes) -> BlobFront:
    """The fields before the ciphertext.

    Raises:
        DecryptionError: too short, or of a version that this code does not know.
    """
    if len(blob) < _FRONT.size + 16:
        raise DecryptionError("short")
    front = BlobFront(*_FRONT.unpack_from(blob))
    if front.version != BLOB_VERSION or front.alg not in (ALG_DEK, ALG_RECORD_KEY):
        raise DecryptionError("version")
    return front


def unseal(
    blob: bytes,
    material: bytes,
    header: bytes,
    seal_class: SealClass,
    record_id: bytes,
) -> bytes:
    """Open a blob; returns the padded document.

    Raises:
        DecryptionError: ``reason`` is short, version, commitment or tag.
    """
    front = read_front(blob)
    key, commitment = derive(material, record_id, seal_class)
    # Rule 2: the commitment is compared first.
    if not hmac.compare_digest(commitment, front.commitment):
        raise DecryptionError("commitment")
    bound = b"%b%c%b" % (header, seal_class, front.key_id)
    try:
        return AESGCM(key).decrypt(front.nonce, blob[_FRONT.size :], bound)
    except InvalidTag as exc:
        raise DecryptionError("tag") from exc


def wrap(
    kek: bytes, epoch: int, key: bytes, owner: bytes, seal_class: int, key_id: bytes
) -> bytes:
    """Encrypt ``key`` under the KEK, bound to its context (rule 4)."""
    nonce = os.urandom(12)
    context = b"trivium.wrap.1\x00" + _WRAP.pack(owner, seal_class, epoch, key_id)
    return nonce + AESGCM(kek).encrypt(nonce, key, context)


def unwrap(
    kek: bytes, epoch: int, wrapped: bytes, owner: bytes, seal_class: int, key_id: bytes
) -> bytes:
    """The key inside ``wrapped``.

    Raises:
        DecryptionError: reason "wrap": another KEK, owner, class, epoch or key id.
    """
    context = b"trivium.wrap.1\x00" + _WRAP.pack(owner, seal_class, epoch, key_id)
    try:
        return AESGCM(kek).decrypt(wrapped[:12], wrapped[12:], context)
    except (InvalidTag, ValueError) as exc:
        raise DecryptionError("wrap") from exc


def normalise_system(system: str) -> str:
    """One spelling for one system: trimmed, NFC, host in lower case, no end slash."""
    text = unicodedata.normalize("NFC", system).strip().rstrip("/")
    scheme, mark, rest = text.partition("://")
    if not mark:
        return text
    host, slash, path = rest.partition("/")
    return f"{scheme.lower()}://{host.lower()}{slash}{path}"


def blind_index(key: bytes, realm: str, system: str, value: str) -> bytes:
    """HMAC-SHA256 under which an identifier is looked up (rule 5).

    Args:
        key: 32 bytes, the index key.
        realm: "subject", "principal", ...: the same identifier differs between them.
        system: who assigned the value; normalised.
        value: compared exactly, after trimming and NFC, because FHIR ids are
            case-sensitive.
    """
    exact = unicodedata.normalize("NFC", value).strip()
    parts = (realm, normalise_system(system), exact)
    # Lengths first, so that no two triples give one message.
    message = b"".join(
        struct.pack(">I", len(part)) + part
        for part in (text.encode("utf-8") for text in parts)
    )
    return hmac.digest(key, b"trivium.index.1\x00" + message, "sha256")
