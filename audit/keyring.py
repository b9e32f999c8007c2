"""Ids and keys for one process: the key database behind a short cache.

Rules:

1. A key is used for at most five minutes after it was read (harm: a destroyed key that
   lives on in a process).
2. A key database that does not answer in time is reported as down, and the waiting
   thread is left behind, not the caller (attack: stop care by stopping key look-ups).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from queue import Empty, SimpleQueue
from typing import NamedTuple, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from audit.cipher import SealClass
from audit.errors import DecryptionError, KeysUnavailableError, SubjectNotLiveError
from audit.event import Agent, Identifier
from audit.key_store import Dek, KeyStore, system_owner

CACHE_SECONDS = 300.0
CACHE_ENTRIES = 20_000
K = TypeVar("K")
T = TypeVar("T")


class Keys(NamedTuple):
    """Ids and keys for one record; ``owner_id`` is whose DEKs these are."""

    subject_id: bytes | None
    principal_id: bytes
    owner_id: bytes
    deks: Mapping[SealClass, Dek]


class Wanted(NamedTuple):
    """What one record needs; ``month`` (2026-11) names the key of system records."""

    agent: Agent
    subject: Identifier | None
    classes: tuple[SealClass, ...]
    month: str


class Keyring:
    """Access to the key database for one process."""

    def __init__(self, store: KeyStore) -> None:
        self.store = store
        self._ids: dict[tuple[str, str, str], bytes] = {}
        self._deks: dict[tuple[bytes, int], tuple[Dek, float]] = {}
        self._lock = threading.Lock()
        self._stuck: threading.Thread | None = None

    def known_id(self, realm: str, system: str, value: str) -> bytes | None:
        """The id of an identifier that this process has met, without the database."""
        return self._ids.get((realm, system, value))

    def warm(self, wanted: Wanted) -> Keys | None:
        """Ids and keys when all of them are in the cache and fresh."""
        agent, subject = wanted.agent, wanted.subject
        principal_id = self._ids.get(("principal", agent.system, agent.value))
        owner: bytes | None
        if subject is None:
            owner = system_owner(wanted.month)
        else:
            owner = self._ids.get(("subject", subject.system, subject.value))
        if principal_id is None or owner is None:
            return None
        now, deks = time.monotonic(), {}
        for seal_class in wanted.classes:
            entry = self._deks.get((owner, seal_class))
            if entry is None or entry[1] < now:
                return None
            deks[seal_class] = entry[0]
        return Keys(None if subject is None else owner, principal_id, owner, deks)

    def resolve(self, wanted: Wanted, timeout_s: float) -> Keys:
        """Ids and keys from the cache or the database, created where new.

        Raises:
            KeysUnavailableError: no answer within ``timeout_s`` seconds.
            SubjectNotLiveError: the subject was erased.
        """
        found = self.warm(wanted)
        if found is not None:
            return found
        return self._bounded(lambda: self._cold(wanted), timeout_s)

    def _bounded(self, work: Callable[[], T], timeout_s: float) -> T:
        """Run ``work`` on a thread that may be left behind (rule 2)."""
        if self._stuck is not None and self._stuck.is_alive():
            raise KeysUnavailableError("key database still does not answer")
        box: SimpleQueue[tuple[T | None, Exception | None]] = SimpleQueue()

        def run() -> None:
            try:
                box.put((work(), None))
            except (SQLAlchemyError, SubjectNotLiveError, DecryptionError) as exc:
                box.put((None, exc))

        thread = threading.Thread(target=run, name="trivium-audit-keys", daemon=True)
        thread.start()
        try:
            result, error = box.get(timeout=timeout_s)
        except Empty as exc:
            self._stuck = thread
            raise KeysUnavailableError("key database does not answer") from exc
        if isinstance(error, SQLAlchemyError):
            raise KeysUnavailableError("key database refuses") from error
        if error is not None:
            raise error
        return result  # type: ignore[return-value]

    def _cold(self, wanted: Wanted) -> Keys:
        # Another process may enrol the same person at the same moment: its row wins.
        for _ in range(3):
            try:
                with self.store.engine.begin() as connection:
                    keys = self._enrol(connection, wanted)
            except IntegrityError:
                continue
            self._remember(wanted, keys)
            return keys
        raise KeysUnavailableError("key database keeps refusing an enrolment")

    def _enrol(self, connection: Connection, wanted: Wanted) -> Keys:
        agent, subject = wanted.agent, wanted.subject
        principal_id = self.store.identify(
            connection, "principal", Identifier(agent.system, agent.value), agent.kind
        )
        if subject is None:
            owner = system_owner(wanted.month)
            self.store.ensure_system(connection, owner)
        else:
            owner = self.store.identify(connection, "subject", subject)
        deks = {c: self.store.dek(connection, owner, c) for c in wanted.classes}
        subject_id = None if subject is None else owner
        return Keys(subject_id, principal_id, owner, deks)

    def _remember(self, wanted: Wanted, keys: Keys) -> None:
        agent, subject = wanted.agent, wanted.subject
        expires = time.monotonic() + CACHE_SECONDS
        with self._lock:
            self._ids["principal", agent.system, agent.value] = keys.principal_id
            if subject is not None:
                self._ids["subject", subject.system, subject.value] = keys.owner_id
            for seal_class, dek in keys.deks.items():
                self._deks.pop((keys.owner_id, seal_class), None)
                self._deks[keys.owner_id, seal_class] = (dek, expires)
            _shorten(self._ids)
            _shorten(self._deks)


def _shorten(cache: dict[K, T]) -> None:
    while len(cache) > CACHE_ENTRIES:
        del cache[next(iter(cache))]
