"""FHIR dateTime and instant to one aware point in time, or a reason why not.

A measurement without a zone may be hours off, and one without a day cannot be put
before or after an image: both change what the evidence means, so neither is guessed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime, time

from fhir_adapters.errors import ValueRejectedError
from fhir_adapters.policy import AdapterPolicy
from fhir_adapters.resources.elements import child, text

_DATE_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d(?::\d\d)?)(\.\d{1,9})?(Z|[+-]\d\d:\d\d)?",
    re.ASCII,
)
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_PARTIAL = re.compile(r"\d{4}(-\d\d)?", re.ASCII)
# Beyond these a date is a data entry error, and arithmetic could leave the calendar.
_FIRST_YEAR, _LAST_YEAR = 1850, 2400


@dataclass(frozen=True, slots=True)
class Moment:
    """A point in time with how it was found ("site-zone", "date-only", "issued")."""

    at: datetime
    flags: tuple[str, ...] = ()


def parse_date(value: str) -> date | None:
    """A full calendar date, or None."""
    if not _DATE.fullmatch(value):
        return None
    try:
        found = date.fromisoformat(value)
    except ValueError:
        return None
    return found if _FIRST_YEAR <= found.year <= _LAST_YEAR else None


def parse_moment(value: str, policy: AdapterPolicy) -> Moment:
    """Read one FHIR dateTime, instant or date.

    Raises:
        ValueRejectedError: ``malformed_timestamp``, ``imprecise_timestamp`` (a year or
            a month) or ``no_time_zone``.
    """
    match = _DATE_TIME.fullmatch(value)
    if match is None:
        if _PARTIAL.fullmatch(value):
            raise ValueRejectedError("imprecise_timestamp")
        if _DATE.fullmatch(value):
            return _end_of_day(value, policy)
        raise ValueRejectedError("malformed_timestamp")
    day, clock, fraction, zone = match.groups()
    try:
        at = datetime.fromisoformat(f"{day}T{clock}{(fraction or '')[:7]}{zone or ''}")
    except ValueError as error:
        raise ValueRejectedError("malformed_timestamp") from error
    if not _FIRST_YEAR <= at.year <= _LAST_YEAR:
        raise ValueRejectedError("malformed_timestamp")
    if at.tzinfo is not None:
        return Moment(at)
    if policy.site_zone is None:
        raise ValueRejectedError("no_time_zone")
    return Moment(at.replace(tzinfo=policy.site_zone), ("site-zone",))


def _end_of_day(value: str, policy: AdapterPolicy) -> Moment:
    """A date without time: its last second, so that it never precedes a cutoff."""
    day = parse_date(value)
    if day is None:
        raise ValueRejectedError("malformed_timestamp")
    if policy.site_zone is None:
        raise ValueRejectedError("no_time_zone")
    at = datetime.combine(day, time(23, 59, 59), tzinfo=policy.site_zone)
    return Moment(at, ("date-only", "site-zone"))


def effective_moment(resource: object, policy: AdapterPolicy) -> Moment:
    """``effective[x]`` of an Observation or report; ``issued`` as a flagged resort.

    A period counts by its end, when the measurement was complete. ``issued`` is never
    earlier than the measurement, so it cannot smuggle a value before the cutoff.

    Raises:
        ValueRejectedError: As parse_moment, or ``no_timestamp``.
    """
    at = text(resource, "effectiveDateTime")
    if at:
        return parse_moment(at, policy)
    period = child(resource, "effectivePeriod")
    for value in (
        text(resource, "effectiveInstant"),
        text(period, "end"),
        text(period, "start"),
        _last_event(child(resource, "effectiveTiming")),
    ):
        if value:
            return parse_moment(value, policy)
    issued = text(resource, "issued")
    if not issued:
        raise ValueRejectedError("no_timestamp")
    found = parse_moment(issued, policy)
    return Moment(found.at, (*found.flags, "issued"))


def _last_event(timing: object) -> str:
    events = timing.get("event") if isinstance(timing, dict) else None
    if not isinstance(events, list):
        return ""
    return max((event for event in events if isinstance(event, str)), default="")


def check_cutoff(moment: Moment, cutoff: datetime, policy: AdapterPolicy) -> None:
    """Refuse what was not yet known at the cutoff.

    Raises:
        ValueRejectedError: ``after_cutoff``, or ``future_timestamp`` when it lies
            further ahead than clocks differ.
    """
    if moment.at <= cutoff:
        return
    far = moment.at - cutoff > policy.future_tolerance
    raise ValueRejectedError("future_timestamp" if far else "after_cutoff")
