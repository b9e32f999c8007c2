"""Ten thousand bad calls are counted exactly and fill nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import pytest

from audit.errors import AuditUnavailableError
from audit.event import AuditEvent
from audit.log import AuditLog
from cds_hooks.client_auth import Caller
from cds_hooks.errors import (
    AuditBlockedError,
    MalformedRequestError,
    UnauthenticatedError,
)
from cds_hooks.refusals import MAX_SOURCES, Refusals
from cds_hooks.tenants import Issuer, Tenant


class Log:
    """Takes events, or fails when told to."""

    def __init__(self) -> None:
        self.events: list[AuditEvent] = []
        self.fails = False

    def append_many(self, events: Sequence[AuditEvent]) -> list[Any]:
        if self.fails:
            raise AuditUnavailableError("test")
        self.events += events
        return []


class Clock:
    """Monotonic seconds that a test moves."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def parts() -> Iterator[tuple[Refusals, Log, Clock]]:
    log, clock = Log(), Clock()
    yield Refusals(cast(AuditLog, log), clock), log, clock


def counts(log: Log) -> list[int]:
    return [event.evidence["count"] for event in log.events]


def test_a_flood_becomes_two_records_with_the_exact_count(parts: Any) -> None:
    refusals, log, clock = parts
    for _ in range(10_000):
        refusals.note(UnauthenticatedError(reason="expired"), "10.0.0.1", None)
    assert counts(log) == [1]
    refusals.write_due()
    assert counts(log) == [1]
    clock.now += 11
    refusals.write_due()
    assert counts(log) == [1, 9_999]
    assert log.events[0].evidence["reason"] == "expired"


def test_other_reasons_and_sources_are_recorded_at_once(parts: Any) -> None:
    refusals, log, _ = parts
    caller = Caller(Tenant("t", "T", (Issuer("i"),)), "i", "jti")
    refusals.note(UnauthenticatedError(reason="expired"), "10.0.0.1", None)
    refusals.note(UnauthenticatedError(reason="expired"), "10.0.0.2", None)
    refusals.note(MalformedRequestError(), "10.0.0.1", caller)
    assert counts(log) == [1, 1, 1]
    assert log.events[2].evidence["tenant"] == "t"
    assert log.events[2].agent.value == "i"


def test_after_a_quiet_window_the_next_refusal_is_recorded_at_once(parts: Any) -> None:
    refusals, log, clock = parts
    refusals.note(MalformedRequestError(), "10.0.0.1", None)
    clock.now += 11
    refusals.write_due()
    refusals.note(MalformedRequestError(), "10.0.0.1", None)
    assert counts(log) == [1, 1]


def test_a_count_that_cannot_be_written_is_kept(parts: Any) -> None:
    refusals, log, clock = parts
    for _ in range(5):
        refusals.note(MalformedRequestError(), "10.0.0.1", None)
    clock.now += 11
    log.fails = True
    with pytest.raises(AuditBlockedError):
        refusals.write_due()
    refusals.close()
    log.fails = False
    refusals.close()
    assert counts(log) == [1, 4]


def test_many_sources_are_counted_together(parts: Any) -> None:
    refusals, log, _ = parts
    for number in range(MAX_SOURCES + 50):
        refusals.note(MalformedRequestError(), f"10.0.{number // 250}.{number}", None)
    refusals.close()
    assert sum(counts(log)) == MAX_SOURCES + 50
    assert log.events[-1].agent.value == "others"


def test_a_first_refusal_that_was_not_recorded_opens_no_window(parts: Any) -> None:
    refusals, log, _ = parts
    log.fails = True
    for _ in range(3):
        with pytest.raises(AuditBlockedError):
            refusals.note(UnauthenticatedError(reason="expired"), "10.0.0.1", None)
    log.fails = False
    refusals.note(UnauthenticatedError(reason="expired"), "10.0.0.1", None)
    assert counts(log) == [1]


def test_those_counted_while_the_first_was_written_are_not_lost(parts: Any) -> None:
    refusals, log, _ = parts
    error = UnauthenticatedError(reason="expired")

    def fail(events: Sequence[AuditEvent]) -> list[Any]:
        refusals.note(error, "10.0.0.1", None)
        raise AuditUnavailableError("test")

    log.append_many, append_many = fail, log.append_many
    with pytest.raises(AuditBlockedError):
        refusals.note(error, "10.0.0.1", None)
    log.append_many = append_many
    refusals.close()
    assert counts(log) == [2]


def test_a_counted_refusal_keeps_nothing_of_its_call(parts: Any) -> None:
    refusals, _, _ = parts
    caught: UnauthenticatedError | None = None
    try:
        raise UnauthenticatedError(reason="expired")
    except UnauthenticatedError as error:
        refusals.note(error, "10.0.0.1", None)
        caught = error
    kept = [window.error for window in refusals._windows.values()]
    assert caught is not None and caught not in kept
    assert [error.__traceback__ for error in kept] == [None]
