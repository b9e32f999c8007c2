"""From an event to an encrypted record that only lacks its position.

Rules:

1. Everything that names a person or says what was seen is inside an envelope; in clear
   are time, codes and random ids.
2. When the key database is down, the record gets random keys of its own and, for people
   this process has not met, provisional ids; what is needed to put that right travels
   in a *sidecar* encrypted under the KEK, which the replay consumes (harm: either no
   record, or a record that nobody can ever open).
"""

from __future__ import annotations

import os
import time
from typing import Any, NamedTuple

import orjson

from audit.chain import (
    CLOCK_STEPPED_BACK,
    HAS_CLINICAL,
    HAS_EVIDENCE,
    HAS_MODEL,
    HAS_SESSION,
    HAS_SUBJECT,
    VERSION,
    ZERO_ID,
    CoreHeader,
    content,
    pack_header,
)
from audit.cipher import ALG_DEK, ALG_RECORD_KEY, KEY_BYTES, SealClass, seal, wrap
from audit.errors import EventError, KeysUnavailableError
from audit.event import AuditEvent
from audit.key_store import Dek
from audit.keyring import Keyring, Keys, Wanted
from audit.vocabulary import Purpose

MAX_DOCUMENT = 4 * 1024 * 1024  # bytes of one envelope before padding
DAY_US = 86_400 * 1_000_000
_EVIDENCE = (SealClass.EVIDENCE,)
_BOTH = (SealClass.EVIDENCE, SealClass.CLINICAL)
_PURPOSE_CODES = {purpose.value: purpose.code for purpose in Purpose}


class Sealed(NamedTuple):
    """A record without its position; ``sidecar`` only when keys were not to be had."""

    core: CoreHeader
    evidence: bytes | None
    clinical: bytes | None
    content: bytes
    sidecar: bytes | None


def new_record_id(ts_us: int) -> bytes:
    """UUID version 7 (RFC 9562): milliseconds, then random bits."""
    noise = bytearray(os.urandom(10))
    noise[0] = 0x70 | noise[0] & 0x0F
    noise[2] = 0x80 | noise[2] & 0x3F
    return (ts_us // 1000).to_bytes(6, "big") + bytes(noise)


def month_of(ts_us: int) -> str:
    """The calendar month in UTC, as 2026-11."""
    return time.strftime("%Y-%m", time.gmtime(ts_us // 1_000_000))


class Enveloper:
    """Seals events on the caller's own thread."""

    def __init__(self, keyring: Keyring, retention_days: int) -> None:
        self._keyring = keyring
        self._retention_days = retention_days
        self._latest_us = 0

    def seal(self, event: AuditEvent, timeout_s: float) -> Sealed:
        """Encrypt ``event``.

        Args:
            event: what happened.
            timeout_s: seconds that the key database may take.

        Raises:
            EventError: a value is not JSON, or the document is too large.
            SubjectNotLiveError: the subject was erased.
        """
        ts_us = time.time_ns() // 1000
        record_id = new_record_id(ts_us)
        documents = {SealClass.EVIDENCE: evidence_document(event)}
        if event.clinical is not None:
            documents[SealClass.CLINICAL] = _dump("clinical", dict(event.clinical))
        classes = _EVIDENCE if event.clinical is None else _BOTH
        wanted = Wanted(event.agent, event.subject, classes, month_of(ts_us))
        sidecar = None
        try:
            keys = self._keyring.resolve(wanted, timeout_s)
        except KeysUnavailableError:
            keys = self._provisional(wanted)
            sidecar = self._sidecar(record_id, wanted, keys)
        alg = ALG_DEK if sidecar is None else ALG_RECORD_KEY
        core = self._core(event, record_id, ts_us, keys)
        header = pack_header(core)
        blobs = {
            seal_class: seal(
                document,
                keys.deks[seal_class].material,
                keys.deks[seal_class].key_id,
                header,
                seal_class,
                record_id,
                alg,
            )
            for seal_class, document in documents.items()
        }
        evidence, clinical = blobs[SealClass.EVIDENCE], blobs.get(SealClass.CLINICAL)
        body = content(header, evidence, clinical)
        return Sealed(core, evidence, clinical, body, sidecar)

    def _core(
        self, event: AuditEvent, record_id: bytes, ts_us: int, keys: Keys
    ) -> CoreHeader:
        flags = HAS_EVIDENCE
        flags |= HAS_SUBJECT if keys.subject_id is not None else 0
        flags |= HAS_SESSION if event.session is not None else 0
        flags |= HAS_MODEL if event.model is not None else 0
        flags |= HAS_CLINICAL if event.clinical is not None else 0
        # Attack: the clock is set back to hide when something happened. Order does
        # not depend on it, and the step stays visible.
        if ts_us < self._latest_us:
            flags |= CLOCK_STEPPED_BACK
        self._latest_us = max(self._latest_us, ts_us)
        return CoreHeader(
            version=VERSION,
            record_id=record_id,
            ts_us=ts_us,
            event_type=event.event_type.code,
            action=event.action.code,
            outcome=event.outcome.code,
            phase=event.phase.code,
            flags=flags,
            subject_id=keys.subject_id,
            principal_id=keys.principal_id,
            web_session_ref=bytes.fromhex(event.session) if event.session else None,
            correlation_id=bytes.fromhex(event.correlation_id),
            purpose=_PURPOSE_CODES[event.purpose],
            lawful_basis=event.lawful_basis.code,
            model_ref=model_ref(event.model.sha256) if event.model else None,
            retain_until_day=ts_us // DAY_US + self._retention_days,
        )

    def _provisional(self, wanted: Wanted) -> Keys:
        """Random keys, and ids that this process knows or makes up (rule 2)."""
        agent, subject = wanted.agent, wanted.subject
        known = self._keyring.known_id
        principal_id = known("principal", agent.system, agent.value) or os.urandom(16)
        subject_id = None
        if subject is not None:
            subject_id = known("subject", subject.system, subject.value)
            subject_id = subject_id or os.urandom(16)
        deks = {c: Dek(os.urandom(16), os.urandom(KEY_BYTES)) for c in wanted.classes}
        return Keys(subject_id, principal_id, subject_id or ZERO_ID, deks)

    def _sidecar(self, record_id: bytes, wanted: Wanted, keys: Keys) -> bytes:
        agent, subject = wanted.agent, wanted.subject
        note = {
            "principal": [agent.kind, agent.system, agent.value],
            "principal_id": keys.principal_id.hex(),
            "subject": None if subject is None else [subject.system, subject.value],
            "subject_id": keys.subject_id.hex() if keys.subject_id else None,
            "month": wanted.month,
            "keys": {
                str(int(seal_class)): [dek.key_id.hex(), dek.material.hex()]
                for seal_class, dek in keys.deks.items()
            },
        }
        epoch, kek = self._keyring.store.kek()
        wrapped = wrap(kek, epoch, orjson.dumps(note), record_id, 0, ZERO_ID)
        return epoch.to_bytes(4, "big") + wrapped


def model_ref(sha256_hex: str) -> bytes:
    """What stands for a model in the clear columns: the front of its digest."""
    return bytes.fromhex(sha256_hex)[:16]


def evidence_document(event: AuditEvent) -> bytes:
    """The evidence envelope's JSON.

    Raises:
        EventError: ``evidence`` holds what JSON cannot, or is too large.
    """
    document: dict[str, Any] = {
        "agent": event.agent,
        "subject": event.subject,
        "model": event.model,
        "entities": event.entities,
        "evidence": dict(event.evidence),
    }
    return _dump("evidence", document)


def _dump(field: str, document: dict[str, Any]) -> bytes:
    try:
        data = orjson.dumps(document)
    except TypeError:
        # The message of the cause may quote content, so it is not kept.
        raise EventError(field, "holds a value that is not JSON") from None
    if len(data) > MAX_DOCUMENT:
        raise EventError(field, f"larger than {MAX_DOCUMENT} bytes")
    return data
