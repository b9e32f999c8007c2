"""When a request is sent again: Retry-After, backoff, luck, and never too often."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest

from fhir_adapters.access.fhir_retry import (
    MAX_WAIT_S,
    RetryPolicy,
    retry_after,
    send,
)
from fhir_adapters.access.outbound import Response
from fhir_adapters.errors import (
    OutboundRefusedError,
    UpstreamError,
    UpstreamTimeoutError,
)

QUICK = RetryPolicy(first_wait_s=0.001)


def answers(*given):
    """A request that gives these, one after another, and a list of when."""
    left, times = list(given), []

    def once():
        times.append(time.monotonic())
        found = left.pop(0)
        if isinstance(found, Exception):
            raise found
        status, headers = found if isinstance(found, tuple) else (found, {})
        return Response(status, headers, b"")

    return once, times


def soon(seconds=5.0):
    return time.monotonic() + seconds


@pytest.mark.smart("S34")
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_waited_for(status):
    once, times = answers((status, {"retry-after": "1"}), 200)
    assert send(once, QUICK, soon()).status == 200
    assert 0.95 < times[1] - times[0] < 1.8


@pytest.mark.smart("S34")
@pytest.mark.parametrize("status", [400, 401, 403, 404, 500])
def test_what_waiting_does_not_mend_is_final(status):
    once, times = answers((status, {"retry-after": "0"}))
    assert send(once, QUICK, soon()).status == status and len(times) == 1


@pytest.mark.smart("S34")
def test_a_long_wait_is_a_no_and_a_wait_beyond_the_deadline_too():
    for stated, seconds in (("60", 5.0), ("soon", 5.0), ("1", 0.5)):
        once, times = answers((503, {"retry-after": stated}))
        assert send(once, QUICK, soon(seconds)).status == 503 and len(times) == 1


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_without_a_word_it_is_tried_three_times_with_growing_waits(status):
    policy = RetryPolicy(first_wait_s=0.04, chance=lambda: 0.0)
    once, times = answers(status, status, status)
    assert send(once, policy, soon()).status == status
    first, second = times[1] - times[0], times[2] - times[1]
    assert first >= 0.04 and second >= 0.08


def test_a_broken_connection_is_luck_for_a_get_only():
    broken = UpstreamError("connection_broken")
    once, _ = answers(broken, broken, 200)
    assert send(once, QUICK, soon()).status == 200
    once, times = answers(broken)
    with pytest.raises(UpstreamError):
        send(once, QUICK, soon(), repeatable=False)
    assert len(times) == 1
    once, times = answers(broken, broken, broken)
    with pytest.raises(UpstreamError):
        send(once, QUICK, soon())
    assert len(times) == 3
    once, times = answers(broken)
    with pytest.raises(UpstreamError):
        send(once, QUICK, time.monotonic())
    assert len(times) == 1


@pytest.mark.parametrize(
    "error",
    [
        UpstreamTimeoutError(),
        UpstreamError("name_lookups_busy"),
        OutboundRefusedError(),
    ],
)
def test_other_errors_are_not_luck(error):
    once, times = answers(error)
    with pytest.raises(type(error)):
        send(once, QUICK, soon())
    assert len(times) == 1


def test_the_spread_is_bounded():
    waits = [
        RetryPolicy(chance=lambda: c).backoff(n) for c in (0, 0.99) for n in (1, 2)
    ]
    assert waits == pytest.approx([0.1, 0.2, 0.1495, 0.299])
    assert RetryPolicy().backoff(30) == MAX_WAIT_S


@pytest.mark.parametrize(
    ("stated", "seconds"),
    [
        ("0", 0.0),
        ("2", 2.0),
        ("3", None),
        ("-1", None),
        ("1.5", None),
        ("", None),
        ("9" * 5000, None),
        ("Wed, 25 Nov 2026 12:00:01 GMT", 1.0),
        ("Wed, 25 Nov 2026 12:00:01 -0000", 1.0),
        ("Wed, 25 Nov 2026 11:00:00 GMT", 0.0),
        ("Wed, 25 Nov 2026 13:00:00 GMT", None),
        ("Wed, 99 Nov 2026 13:00:00 GMT", None),
    ],
)
def test_seconds_and_dates_are_understood(stated, seconds):
    now = datetime(2026, 11, 25, 12, tzinfo=UTC)
    assert retry_after(stated, now) == seconds
