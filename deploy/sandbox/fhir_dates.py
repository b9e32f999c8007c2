"""FHIR dates as intervals, and the comparison prefixes of the search rules.

A FHIR date says as much as its writer knew: ``2026-01`` is the whole of January. Each
date becomes a half-open interval [start, end) in UTC and the prefixes compare
intervals (FHIR R4, search, section 3.1.1.4.6). A date without time zone is read as
UTC: the sandbox has one clock.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

_FORM = re.compile(
    r"(\d{4})(?:-(\d\d)(?:-(\d\d)"
    r"(?:T(\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?(Z|[+-]\d\d:\d\d)?)?)?)?"
)
_EARLIEST = datetime.min.replace(tzinfo=UTC)
_LATEST = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Interval:
    """Half-open stretch of time, UTC."""

    start: datetime
    end: datetime


def parse_date(text: str) -> Interval:
    """The interval a FHIR date, dateTime or instant stands for.

    Raises:
        ValueError: not a FHIR date.
    """
    match = _FORM.fullmatch(text)
    if not match:
        raise ValueError("not a FHIR date")
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    micro = int((fraction or "0").ljust(6, "0")[:6])
    start = datetime(
        int(year),
        int(month or 1),
        int(day or 1),
        int(hour or 0),
        int(minute or 0),
        int(second or 0),
        micro,
        tzinfo=UTC,
    )
    if zone and zone != "Z":
        sign = -1 if zone[0] == "-" else 1
        start -= sign * timedelta(hours=int(zone[1:3]), minutes=int(zone[4:6]))
    return Interval(start, _end(start, month, day, hour, second, fraction))


def _end(start: datetime, month: str | None, day: str | None, *finer: Any) -> datetime:
    hour, second, fraction = finer
    if month is None:
        return start.replace(year=start.year + 1)
    if day is None:
        return (start + timedelta(days=32)).replace(day=1)
    if hour is None:
        return start + timedelta(days=1)
    if second is None:
        return start + timedelta(minutes=1)
    if fraction is None:
        return start + timedelta(seconds=1)
    return start + timedelta(milliseconds=1)


def interval_of(value: Any) -> Interval | None:
    """Interval of a date string or a Period; None when there is no usable date."""
    try:
        if isinstance(value, str):
            return parse_date(value)
        if isinstance(value, dict) and ("start" in value or "end" in value):
            start = parse_date(value["start"]).start if "start" in value else _EARLIEST
            end = parse_date(value["end"]).end if "end" in value else _LATEST
            return Interval(start, end)
    except (ValueError, OverflowError, TypeError):
        return None
    return None


def _equal(have: Interval, want: Interval) -> bool:
    return want.start <= have.start and have.end <= want.end


_PREFIXES: dict[str, Callable[[Interval, Interval], bool]] = {
    "eq": _equal,
    "ne": lambda have, want: not _equal(have, want),
    "gt": lambda have, want: have.end > want.end,
    "lt": lambda have, want: have.start < want.start,
    "ge": lambda have, want: have.end > want.end or _equal(have, want),
    "le": lambda have, want: have.start < want.start or _equal(have, want),
    "sa": lambda have, want: have.start >= want.end,
    "eb": lambda have, want: have.end <= want.start,
}


def matches_date(have: Interval, expression: str) -> bool:
    """Whether a date satisfies ``[prefix]date``.

    Raises:
        ValueError: the expression is not a prefix and a date.
    """
    prefix = expression[:2] if expression[:2].isalpha() else "eq"
    text = expression[2:] if expression[:2].isalpha() else expression
    if prefix not in _PREFIXES:
        raise ValueError("unknown date prefix")
    return _PREFIXES[prefix](have, parse_date(text))
