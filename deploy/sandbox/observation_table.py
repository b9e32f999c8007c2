"""Observations of one patient as the table a chart shows: newest value first."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from deploy.sandbox.fhir_dates import interval_of
from deploy.sandbox.store import Resource

EARLIER = 4

_SECTIONS = {"vital-signs": "Vital signs", "laboratory": "Laboratory"}
_UNITS = {
    "10*3/uL": "10³/µL",
    "10*9/L": "10⁹/L",
    "10*6/uL": "10⁶/µL",
    "mm[Hg]": "mmHg",
    "Cel": "°C",
    "[degF]": "°F",
    "ug/L": "µg/L",
    "umol/L": "µmol/L",
    "a": "years",
    "{score}": "",
    "[pH]": "",
}
_FLAGS = {
    "H": "high",
    "HH": "critically high",
    "L": "low",
    "LL": "critically low",
    "A": "abnormal",
    "AA": "critically abnormal",
    ">": "off scale, high",
    "<": "off scale, low",
}


@dataclass(frozen=True, slots=True)
class Reading:
    """One value at one time; ``number`` is None when it is no plain number."""

    text: str
    at: datetime | None
    flag: str
    flag_text: str
    number: float | None


@dataclass(frozen=True, slots=True)
class TableRow:
    """One measured thing: latest reading, earlier ones, reference range."""

    name: str
    unit: str
    limits: str
    latest: Reading
    earlier: tuple[Reading, ...]
    spark: str


def observation_table(observations: Iterable[Resource]) -> dict[str, list[TableRow]]:
    """Rows by section ("Vital signs", "Laboratory", "Other"), each sorted by name."""
    groups: dict[tuple[str, str, str], list[tuple[datetime | None, Resource]]] = {}
    for observation in observations:
        if observation.get("status") in ("entered-in-error", "cancelled"):
            continue
        key = (_section(observation), label_of(observation), _unit_of(observation))
        interval = interval_of(observation.get("effectiveDateTime"))
        at = interval.start if interval else None
        groups.setdefault(key, []).append((at, observation))
    sections: dict[str, list[TableRow]] = {}
    for (section, name, unit), found in sorted(groups.items()):
        found.sort(key=lambda pair: (pair[0] is not None, pair[0]), reverse=True)
        sections.setdefault(section, []).append(_row(name, unit, found))
    order = [*_SECTIONS.values(), "Other"]
    return {name: sections[name] for name in order if name in sections}


def label_of(resource: Resource) -> str:
    """Human label of a resource's code."""
    code = resource.get("code") or {}
    codings = code.get("coding") or [{}]
    return str(code.get("text") or codings[0].get("display") or codings[0].get("code"))


def _section(observation: Resource) -> str:
    for category in observation.get("category", []):
        for coding in category.get("coding", []):
            if coding.get("code") in _SECTIONS:
                return _SECTIONS[coding["code"]]
    return "Other"


def _unit_of(observation: Resource) -> str:
    holders = [observation, *observation.get("component", [])]
    for holder in holders:
        quantity = holder.get("valueQuantity") or {}
        unit = str(quantity.get("unit") or quantity.get("code") or "")
        if unit:
            return _UNITS.get(unit, unit)
    return ""


def _row(
    name: str, unit: str, found: list[tuple[datetime | None, Resource]]
) -> TableRow:
    readings = [_reading(at, observation) for at, observation in found]
    return TableRow(
        name=name,
        unit=unit,
        limits=_limits(found[0][1]),
        latest=readings[0],
        earlier=tuple(readings[1 : 1 + EARLIER]),
        spark=_spark([r.number for r in readings if r.number is not None][:12]),
    )


def _reading(at: datetime | None, observation: Resource) -> Reading:
    codes = [
        coding.get("code", "")
        for concept in observation.get("interpretation", [])
        for coding in concept.get("coding", [])
    ]
    flag = next((code for code in codes if code in _FLAGS), "")
    quantity = observation.get("valueQuantity") or {}
    number: Any = quantity.get("value")
    plain = isinstance(number, int | float) and not quantity.get("comparator")
    return Reading(
        text=_value_text(observation),
        at=at,
        flag=flag,
        flag_text=_FLAGS.get(flag, ""),
        number=float(number) if plain else None,
    )


def _value_text(holder: dict[str, Any]) -> str:
    quantity = holder.get("valueQuantity")
    if quantity and quantity.get("value") is not None:
        value = quantity["value"]
        shown = f"{value:.4g}" if isinstance(value, float) else str(value)
        return f"{quantity.get('comparator', '')}{shown}"
    for key in ("valueString", "valueDateTime"):
        if holder.get(key):
            return str(holder[key])
    concept = holder.get("valueCodeableConcept")
    if concept:
        return label_of({"code": concept})
    if holder.get("component"):
        return " / ".join(_value_text(part) for part in holder["component"])
    absent = holder.get("dataAbsentReason") or {}
    return f"no number: {absent['text']}" if absent.get("text") else "no value"


def _limits(observation: Resource) -> str:
    for limits in observation.get("referenceRange", []):
        low = (limits.get("low") or {}).get("value")
        high = (limits.get("high") or {}).get("value")
        if low is not None and high is not None:
            return f"{low:g} – {high:g}"
        if high is not None:
            return f"≤ {high:g}"
        if low is not None:
            return f"≥ {low:g}"
    return ""


def _spark(newest_first: list[float]) -> str:
    """Points of an SVG polyline in a 72 x 18 box, oldest left; "" below three."""
    values = newest_first[::-1]
    if len(values) < 3:
        return ""
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    step = 68 / (len(values) - 1)
    return " ".join(
        f"{2 + i * step:.1f},{16 - 14 * (v - low) / span:.1f}"
        for i, v in enumerate(values)
    )
