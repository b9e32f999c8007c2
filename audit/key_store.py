"""The key database: ids behind identifiers, and wrapped keys of subjects.

Rules:

1. Real identifiers reach the database only as HMACs; evidence rows hold only the random
   ids that are looked up here.
2. A subject that is not live, or whose key was destroyed, gets no new key (attack: an
   append that quietly revives an erased patient).
3. A key is bound to its owner, class and epoch when it is wrapped.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from typing import NamedTuple

from sqlalchemy import Connection, Engine, Table, insert, select
from sqlalchemy.exc import SQLAlchemyError

from audit import key_tables as kt
from audit.cipher import KEY_BYTES, SealClass, blind_index, unwrap, wrap
from audit.database import open_engine, reading
from audit.errors import DecryptionError, KeysUnavailableError, SubjectNotLiveError
from audit.event import Identifier
from audit.key_files import read_keys
from audit.settings import AuditSettings
from audit.vocabulary import AgentKind


class Dek(NamedTuple):
    """One data-encryption key and its name."""

    key_id: bytes
    material: bytes


def system_owner(month: str) -> bytes:
    """Owner id of the key for records of a month that concern no patient."""
    return sha256(b"trivium.system.1\x00" + month.encode()).digest()[:16]


class KeyStore:
    """Statements on the key database; transactions are the caller's."""

    def __init__(
        self, engine: Engine, keks: Mapping[int, bytes], index_keys: Mapping[int, bytes]
    ) -> None:
        self._engine = engine
        self._keks = keks
        self._epoch = max(keks)
        self._index_keys = index_keys

    @property
    def engine(self) -> Engine:
        """The key database, for the modules that keep other tables there."""
        return self._engine

    def kek(self) -> tuple[int, bytes]:
        """Active epoch and its key."""
        return self._epoch, self._keks[self._epoch]

    def kek_of(self, epoch: int) -> bytes:
        """The key of one epoch.

        Raises:
            DecryptionError: that epoch was destroyed.
        """
        if epoch not in self._keks:
            raise DecryptionError("epoch")
        return self._keks[epoch]

    def hashes(self, realm: str, identifier: Identifier) -> dict[int, bytes]:
        """Blind index of an identifier under every index key, by key number."""
        return {
            number: blind_index(key, realm, identifier.system, identifier.value)
            for number, key in self._index_keys.items()
        }

    def identify(
        self,
        connection: Connection,
        realm: str,
        identifier: Identifier,
        kind: str = AgentKind.HUMAN.value,
        preferred: bytes | None = None,
    ) -> bytes:
        """Id of an identifier; enrols it when new.

        Args:
            connection: a transaction on the key database.
            realm: "subject" or "principal".
            identifier: the real one; it leaves here only as HMAC.
            kind: of a principal.
            preferred: id to give to a new one instead of a random one.
        """
        lookup = _LOOKUPS[realm]
        target = lookup.c[f"{realm}_id"]
        hashes = self.hashes(realm, identifier)
        known = select(target).where(lookup.c.lookup_hmac.in_(hashes.values()))
        found = connection.execute(known).scalars().first()
        if found is not None:
            return bytes(found)
        new = preferred or os.urandom(16)
        if realm == "subject":
            _ensure_subject(connection, new)
        else:
            code = AgentKind(kind).code
            values = {"principal_id": new, "kind": code, "created_us": _now_us()}
            connection.execute(insert(kt.principal).values(values))
        active = max(hashes)
        entry = {"lookup_hmac": hashes[active], f"{realm}_id": new, "key_ver": active}
        connection.execute(insert(lookup).values(entry))
        return new

    def find(self, realm: str, identifier: Identifier) -> list[bytes]:
        """All ids under which an identifier may appear in records; enrols nothing.

        Raises:
            KeysUnavailableError: the key database does not answer.
        """
        lookup, alias = _LOOKUPS[realm], _ALIASES[realm]
        target = lookup.c[f"{realm}_id"]
        hashes = self.hashes(realm, identifier).values()
        try:
            with reading(self._engine).begin() as connection:
                known = select(target).where(lookup.c.lookup_hmac.in_(hashes))
                ids = [bytes(found) for found in connection.execute(known).scalars()]
                others = select(alias.c.from_id).where(alias.c.to_id.in_(ids))
                extra = connection.execute(others).scalars().all()
        except SQLAlchemyError as exc:
            raise KeysUnavailableError("key database refuses") from exc
        return [*dict.fromkeys([*ids, *map(bytes, extra)])]

    def dek(
        self,
        connection: Connection,
        owner: bytes,
        seal_class: SealClass,
        create: bool = True,
    ) -> Dek:
        """The DEK of an owner and class.

        Raises:
            SubjectNotLiveError: it was destroyed, or the owner is not live (rule 2).
        """
        table = kt.subject_key
        row = connection.execute(
            select(table.c.key_id, table.c.kek_epoch, table.c.wrapped).where(
                table.c.subject_id == owner, table.c["class"] == int(seal_class)
            )
        ).first()
        if row is not None and row.wrapped is None:
            raise SubjectNotLiveError("key was destroyed")
        if row is not None:
            kek = self.kek_of(row.kek_epoch)
            context = (owner, int(seal_class), row.key_id)
            return Dek(row.key_id, unwrap(kek, row.kek_epoch, row.wrapped, *context))
        if not create or not _is_live(connection, owner):
            raise SubjectNotLiveError("subject is not live")
        epoch, kek = self.kek()
        dek = Dek(os.urandom(16), os.urandom(KEY_BYTES))
        wrapped = wrap(kek, epoch, dek.material, owner, int(seal_class), dek.key_id)
        values = {"subject_id": owner, "class": int(seal_class), "key_id": dek.key_id}
        values |= {"kek_epoch": epoch, "wrapped": wrapped, "created_us": _now_us()}
        connection.execute(insert(table).values(values))
        return dek

    def ensure_system(self, connection: Connection, owner: bytes) -> None:
        """Make the owner of a month's system key when it is not there yet."""
        _ensure_subject(connection, owner)

    def owner_of(self, connection: Connection, subject_id: bytes) -> bytes:
        """The subject whose keys serve ``subject_id``: itself or its alias's target."""
        table = kt.subject_alias
        query = select(table.c.to_id).where(table.c.from_id == subject_id)
        found = connection.execute(query).scalar()
        return subject_id if found is None else bytes(found)


@contextmanager
def open_key_store(settings: AuditSettings) -> Iterator[KeyStore]:
    """The key store for one task, with its own connections.

    Raises:
        AuditConfigurationError: a key file or URL will not do.
    """
    engine = open_engine(
        settings.keys_url, setting="TRIVIUM_AUDIT_KEYS_URL", busy_ms=5000
    )
    try:
        yield KeyStore(
            engine,
            read_keys(settings.kek_file, "TRIVIUM_AUDIT_KEK_FILE"),
            read_keys(settings.index_key_file, "TRIVIUM_AUDIT_INDEX_KEY_FILE"),
        )
    finally:
        engine.dispose()


_LOOKUPS: Mapping[str, Table] = {
    "subject": kt.subject_lookup,
    "principal": kt.principal_lookup,
}
_ALIASES: Mapping[str, Table] = {
    "subject": kt.subject_alias,
    "principal": kt.principal_alias,
}


def _now_us() -> int:
    return time.time_ns() // 1000


def _is_live(connection: Connection, subject_id: bytes) -> bool:
    table = kt.subject
    query = select(table.c.state).where(table.c.subject_id == subject_id)
    return connection.execute(query).scalar() == kt.LIVE


def _ensure_subject(connection: Connection, subject_id: bytes) -> None:
    table = kt.subject
    query = select(table.c.state).where(table.c.subject_id == subject_id)
    if connection.execute(query).first() is None:
        values = {"subject_id": subject_id, "state": kt.LIVE, "created_us": _now_us()}
        connection.execute(insert(table).values(values))
