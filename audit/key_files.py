"""Keys on disk: files of mode 0600, refused when anybody else can read them.

Format: one key a line, ``<number> <64 hex digits>``, oldest first; the last line is the
active one. Rotation appends a line, destruction removes one.

Rules:

1. A key file readable by group or others is refused (attack: a second account on the
   host copies the key).
2. An existing key file is never overwritten (harm: everything under it is lost).
3. A new file and its folder entry are synced before the key is used (harm: a power cut
   that leaves records under a key that is gone).
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit.errors import AuditConfigurationError

_LINE = re.compile(r"([1-9][0-9]{0,8}) ([0-9a-f]{64})")


def read_keys(path: Path, setting: str) -> Mapping[int, bytes]:
    """Keys by number, ascending.

    Args:
        path: the key file.
        setting: name of the variable, for the error.

    Raises:
        AuditConfigurationError: missing, readable by others, or not in the format.
    """
    try:
        with open(path, encoding="ascii") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read()
    except (OSError, UnicodeDecodeError) as exc:
        raise AuditConfigurationError(setting, "key file cannot be read") from exc
    # Rule 1.
    if not stat.S_ISREG(mode) or stat.S_IMODE(mode) & 0o077:
        raise AuditConfigurationError(setting, "key file must have mode 0600")
    keys: dict[int, bytes] = {}
    for line in text.splitlines():
        match = _LINE.fullmatch(line)
        if match is None:
            raise AuditConfigurationError(setting, "key file is not in the format")
        keys[int(match[1])] = bytes.fromhex(match[2])
    if not keys:
        raise AuditConfigurationError(setting, "key file holds no key")
    return dict(sorted(keys.items()))


def create_key(path: Path, setting: str) -> bytes:
    """Write a fresh 32-byte key as number 1 and return it.

    Raises:
        AuditConfigurationError: the file exists or cannot be written.
    """
    key = os.urandom(32)
    write_new(path, f"1 {key.hex()}\n", 0o600, setting)
    return key


def write_new(path: Path, text: str, mode: int, setting: str) -> None:
    """Create ``path`` with ``text``; rules 2 and 3.

    Raises:
        AuditConfigurationError: the file exists or cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError as exc:
        problem = "file exists and is not overwritten"
        raise AuditConfigurationError(setting, problem) from exc
    except OSError as exc:
        raise AuditConfigurationError(setting, "file cannot be created") from exc
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make a new or removed name in ``folder`` durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_node_key(path: Path) -> Ed25519PrivateKey:
    """The active identity of this node.

    Raises:
        AuditConfigurationError: see :func:`read_keys`.
    """
    keys = read_keys(path, "TRIVIUM_AUDIT_NODE_KEY_FILE")
    return Ed25519PrivateKey.from_private_bytes(keys[max(keys)])


def read_trust(path: Path) -> Mapping[bytes, bytes]:
    """Public keys of the trusted nodes, by their SHA-256 (the node id).

    Raises:
        AuditConfigurationError: the file is missing, empty or not hex lines.
    """
    try:
        lines = path.read_text(encoding="ascii").split()
        keys = [bytes.fromhex(line) for line in lines]
    except (OSError, ValueError) as exc:
        problem = "trust file cannot be read"
        raise AuditConfigurationError("TRIVIUM_AUDIT_TRUST_FILE", problem) from exc
    if not keys or any(len(key) != 32 for key in keys):
        problem = "trust file must hold public keys of 32 bytes in hex"
        raise AuditConfigurationError("TRIVIUM_AUDIT_TRUST_FILE", problem)
    return {sha256(key).digest(): key for key in keys}
