"""Observations of one record -> its history and the latest value of each code."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from fhir_adapters.code_systems import MEASUREMENTS
from fhir_adapters.patient_record import CodedValue, Provenance, Skip
from fhir_adapters.policy import AdapterPolicy
from fhir_adapters.received import Received
from fhir_adapters.resources.observation import read_observation

_RANK = {"preliminary": 0, "amended": 2, "corrected": 3}
_FINAL_RANK = 1


@dataclass(frozen=True, slots=True)
class Values:
    """Usable values of one record and the skips beside them."""

    latest: tuple[CodedValue, ...]
    history: tuple[CodedValue, ...]
    skips: tuple[Skip, ...]


def values_and_skips(
    items: Iterable[tuple[Received, Provenance]],
    cutoff: datetime,
    policy: AdapterPolicy,
) -> Values:
    """Read all Observations, merge duplicates, pick the latest of each code."""
    found: list[CodedValue] = []
    skips: list[Skip] = []
    for item, provenance in items:
        reading = read_observation(
            item.resource, provenance, cutoff=cutoff, policy=policy
        )
        found.extend(reading.values)
        skips.extend(reading.components)
        if reading.skipped is not None:
            skips.append(reading.skipped)
    found.sort(key=_recency)
    kept, merged = _merge_duplicates(found)
    latest = {value.loinc: value for value in kept}
    return Values(
        latest=tuple(latest[loinc] for loinc in MEASUREMENTS if loinc in latest),
        history=tuple(reversed(kept)),
        skips=(*skips, *merged),
    )


def _status_rank(value: CodedValue) -> int:
    return max((_RANK[f] for f in value.flags if f in _RANK), default=_FINAL_RANK)


def _recency(value: CodedValue) -> tuple[datetime, int, str, str]:
    """Order in time; at one time final beats preliminary, then it is arbitrary."""
    return (
        value.measured_at,
        _status_rank(value),
        value.provenance.reference,
        value.loinc,
    )


def _merge_duplicates(
    found: Sequence[CodedValue],
) -> tuple[list[CodedValue], list[Skip]]:
    """One value for each (code, time, value), preferring final; order is kept.

    An Observation that loses all its values is skipped as ``duplicate``; one that
    keeps some has only the repeated ones listed, below its reference.
    """
    best: dict[tuple[object, ...], CodedValue] = {}
    for value in found:
        key = value.loinc, value.measured_at, value.value, value.comparator
        best[key] = value
    if len(best) == len(found):
        return list(found), []
    kept_ids = {id(value) for value in best.values()}
    kept = [value for value in found if id(value) in kept_ids]
    still_used = {value.provenance.reference for value in kept}
    gone: dict[str, Skip] = {}
    for value in found:
        if id(value) in kept_ids:
            continue
        reference = value.provenance.reference
        if reference in still_used:
            reference = f"{reference}#{value.loinc}"
        gone[reference] = Skip(reference, "duplicate", "same code, time and value")
    return kept, list(gone.values())
