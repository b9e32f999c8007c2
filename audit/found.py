"""Opens stored records for a reader who may see them.

An envelope that does not open is shown as such, with its reason, never left out (harm:
a swapped ciphertext that just disappears from the answer).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import Connection, select

from audit import key_tables as kt
from audit.chain import Row, pack_header
from audit.cipher import ALG_RECORD_KEY, SealClass, read_front, unseal, unwrap
from audit.envelope import month_of
from audit.errors import DecryptionError, SubjectNotLiveError
from audit.key_store import KeyStore, system_owner
from audit.vocabulary import (
    Action,
    CodedWord,
    EventType,
    LawfulBasis,
    Outcome,
    Phase,
    Purpose,
)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class FoundEvent:
    """One record, opened; ``sealed`` says why an envelope stayed closed."""

    record_id: str
    stream_id: str
    seq: int
    recorded: str  # ISO 8601, UTC, microseconds
    event_type: str
    action: str
    outcome: str
    phase: str
    purpose: str
    lawful_basis: str
    correlation_id: str
    subject_id: str | None
    principal_id: str
    flags: int
    agent: dict[str, Any] | None
    subject: dict[str, Any] | None
    model: dict[str, Any] | None
    entities: list[dict[str, Any]]
    evidence: dict[str, Any] | None
    clinical: dict[str, Any] | None
    sealed: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The record as JSON values."""
        return asdict(self)


class Opener:
    """Opens envelopes, one key look-up per owner and class."""

    def __init__(self, store: KeyStore) -> None:
        self._store = store
        self._keys: dict[tuple[bytes, int], bytes] = {}

    def open(self, connection: Connection, row: Row) -> FoundEvent:
        """One record with whatever opens."""
        core = row.core
        documents: dict[SealClass, dict[str, Any]] = {}
        reason = None
        for seal_class, blob in (
            (SealClass.EVIDENCE, row.evidence_blob),
            (SealClass.CLINICAL, row.clinical_blob),
        ):
            if blob is None:
                continue
            try:
                documents[seal_class] = self._document(
                    connection, row, seal_class, blob
                )
            except DecryptionError as exc:
                reason = f"{seal_class.name.lower()}: {exc.reason}"
            except SubjectNotLiveError:
                reason = f"{seal_class.name.lower()}: erased"
        front = documents.get(SealClass.EVIDENCE, {})
        moment = EPOCH + timedelta(microseconds=core.ts_us)
        return FoundEvent(
            record_id=core.record_id.hex(),
            stream_id=row.stream_id.hex(),
            seq=row.seq,
            recorded=moment.isoformat(timespec="microseconds"),
            event_type=_word(EventType, core.event_type),
            action=_word(Action, core.action),
            outcome=_word(Outcome, core.outcome),
            phase=_word(Phase, core.phase),
            purpose=_word(Purpose, core.purpose),
            lawful_basis=_word(LawfulBasis, core.lawful_basis),
            correlation_id=core.correlation_id.hex(),
            subject_id=None if core.subject_id is None else core.subject_id.hex(),
            principal_id=core.principal_id.hex(),
            flags=core.flags,
            agent=front.get("agent"),
            subject=front.get("subject"),
            model=front.get("model"),
            entities=front.get("entities", []),
            evidence=front.get("evidence"),
            clinical=documents.get(SealClass.CLINICAL),
            sealed=reason,
        )

    def _document(
        self, connection: Connection, row: Row, seal_class: SealClass, blob: bytes
    ) -> dict[str, Any]:
        core = row.core
        month = month_of(core.ts_us)
        owner = core.subject_id or system_owner(month)
        material = self._material(connection, owner, seal_class)
        if read_front(blob).alg == ALG_RECORD_KEY:
            material = _record_key(connection, core.record_id, seal_class, material)
        header = pack_header(core)
        plain = unseal(blob, material, header, seal_class, core.record_id)
        document: dict[str, Any] = orjson.loads(plain)
        return document

    def _material(
        self, connection: Connection, owner: bytes, seal_class: SealClass
    ) -> bytes:
        key = (owner, int(seal_class))
        if key not in self._keys:
            real = self._store.owner_of(connection, owner)
            dek = self._store.dek(connection, real, seal_class, create=False)
            self._keys[key] = dek.material
        return self._keys[key]


def _record_key(
    connection: Connection, record_id: bytes, seal_class: SealClass, dek: bytes
) -> bytes:
    table = kt.record_key
    query = select(table.c.key_id, table.c.wrapped).where(
        table.c.record_id == record_id, table.c["class"] == int(seal_class)
    )
    row = connection.execute(query).first()
    if row is None or row.wrapped is None:
        raise DecryptionError("record key")
    return unwrap(dek, 0, row.wrapped, record_id, int(seal_class), row.key_id)


def _word(words: type[CodedWord], code: int) -> str:
    """The word for a stored code; a code of a later version is shown as it is."""
    try:
        return str(words.from_code(code).value)
    except ValueError:
        return f"code {code}"
