"""The EHRs' public keys: fetched from registered addresses only, kept, renewed rarely.

J6: a key set is renewed when it is old or when a token names an unknown ``kid``, and
then at most once in half a minute. Attack: tokens with random ``kid`` values that make
us hammer the EHR. A fetch that failed may be repeated after two seconds. All sets are
fetched when the process starts, so that the first hook need not wait, and a fetch goes
on when the call that wanted it has run out of time: the next call finds the keys.

Keys that could not be renewed serve for an hour at most: a key that the EHR has
withdrawn is not in use here for longer. While there are no keys at all, nothing can be
said of a token: that is 503, not 401.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from typing import Any, Protocol

from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeySet, RSAKey

from cds_hooks.errors import KeySetError, UnauthenticatedError
from cds_hooks.tenants import Issuer, Tenant
from fhir_adapters.errors import AdapterError

PublicKey = ECKey | RSAKey
FRESH_S = 600.0
KEEP_S = 3600.0
REFRESH_EVERY_S = 30.0
RETRY_EVERY_S = 2.0
FETCH_LIMIT_S = 5.0
MIN_RSA_BITS = 2048


class Answer(Protocol):
    """What the guarded door brings back."""

    @property
    def status(self) -> int:
        """HTTP status."""

    @property
    def body(self) -> bytes:
        """The whole body."""


class Door(Protocol):
    """The guarded way out (``fhir_adapters.access.outbound.OutboundDoor``)."""

    def get(
        self,
        url: str,
        headers: Mapping[str, str] | None = None,
        deadline: float | None = None,
    ) -> Answer:
        """Fetch ``url`` before ``deadline`` on the monotonic clock."""


@dataclass(slots=True)
class _Entry:
    """One issuer's keys with the times of the last success and the last attempt."""

    keys: dict[str, PublicKey]
    fetched_at: float = -KEEP_S
    next_try_at: float = 0.0
    running: Future[dict[str, PublicKey] | None] | None = None


class KeySets:
    """Cache of the issuers' keys.

    Args:
        door_for: The guarded door of a tenant.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        door_for: Callable[[Tenant], Door],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._door_for = door_for
        self._clock = clock
        self._entries: dict[tuple[str, str], _Entry] = {}
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="key-sets")

    def key(
        self, tenant: Tenant, issuer: Issuer, kid: str, deadline: float
    ) -> PublicKey:
        """The public key ``kid`` of the issuer.

        Raises:
            UnauthenticatedError: the issuer has no such key.
            KeySetError: there is no key set to look into.
        """
        with self._lock:
            entry = self._entries.setdefault((tenant.id, issuer.iss), _Entry({}))
            if issuer.jwks is not None and not entry.keys:
                entry.keys = public_keys(issuer.jwks)
            running = self._refresh(tenant, issuer, entry, kid)
        if running is not None:
            self._collect(entry, running, deadline)
        if issuer.jku and self._clock() - entry.fetched_at > KEEP_S:
            raise KeySetError()
        found = entry.keys.get(kid)
        if found is None:
            raise UnauthenticatedError(reason="unknown_key")
        return found

    def warm(self, tenants: Iterable[Tenant]) -> None:
        """Start to fetch every registered key set; waits for none."""
        for tenant in tenants:
            for issuer in tenant.issuers:
                with self._lock:
                    entry = self._entries.setdefault(
                        (tenant.id, issuer.iss), _Entry({})
                    )
                    self._refresh(tenant, issuer, entry, "")

    def _refresh(
        self, tenant: Tenant, issuer: Issuer, entry: _Entry, kid: str
    ) -> Future[dict[str, PublicKey] | None] | None:
        """Start a fetch when one is due; the fetch to wait for, if any."""
        now = self._clock()
        wanted = kid not in entry.keys or now - entry.fetched_at > FRESH_S
        if not issuer.jku or not wanted:
            return None
        if entry.running is None and now >= entry.next_try_at:
            entry.next_try_at = now + REFRESH_EVERY_S
            door = self._door_for(tenant)
            entry.running = self._pool.submit(_fetch, door, issuer.jku)
        return entry.running

    def _collect(
        self,
        entry: _Entry,
        running: Future[dict[str, PublicKey] | None],
        deadline: float,
    ) -> None:
        """Wait for the fetch until the deadline and keep what it brought."""
        try:
            keys = running.result(max(0.0, deadline - time.monotonic()))
        except FutureTimeoutError:
            return
        except AdapterError:
            keys = None
        with self._lock:
            if entry.running is running:
                entry.running = None
                if keys is not None:
                    entry.keys, entry.fetched_at = keys, self._clock()
                else:
                    entry.next_try_at = self._clock() + RETRY_EVERY_S

    def close(self) -> None:
        """Stop the fetching threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _fetch(door: Door, jku: str) -> dict[str, PublicKey] | None:
    """The keys behind a registered address; None when it answers nonsense."""
    answer = door.get(
        jku,
        {"Accept": "application/json"},
        deadline=time.monotonic() + FETCH_LIMIT_S,
    )
    if answer.status != 200:
        return None
    try:
        document = json.loads(answer.body)
    except (ValueError, RecursionError):
        return None
    return public_keys(document) if isinstance(document, dict) else None


def public_keys(document: Mapping[str, Any]) -> dict[str, PublicKey]:
    """The usable verification keys of a JSON Web Key Set, by ``kid``.

    Symmetric keys never count (attack: HMAC keyed with something public), nor do keys
    without ``kid`` or meant for encryption, nor RSA keys under 2048 bits.
    """
    entries = document.get("keys")
    found: dict[str, PublicKey] = {}
    for entry in entries if isinstance(entries, list) else []:
        if not isinstance(entry, dict) or entry.get("use", "sig") != "sig":
            continue
        try:
            keys = KeySet.import_key_set({"keys": [entry]}).keys
        except (JoseError, ValueError, TypeError, KeyError):
            continue
        kid = entry.get("kid")
        if isinstance(kid, str) and kid and _strong(keys[0]):
            found[kid] = keys[0]  # type: ignore[assignment]
    return found


def _strong(key: object) -> bool:
    if isinstance(key, RSAKey):
        return key.public_key.key_size >= MIN_RSA_BITS
    return isinstance(key, ECKey)
