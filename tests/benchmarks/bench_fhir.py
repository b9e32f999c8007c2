"""A Bundle of 100 Observations: bytes to a record, beside modelled validation."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from fhir.resources.R4B.bundle import Bundle

from fhir_adapters.assemble import assemble
from fhir_adapters.bundle import walk
from fhir_adapters.code_systems import MEASUREMENTS
from fhir_adapters.fhir_json import parse_json
from tests.benchmarks.measure import entry, median, show
from tests.fhir_adapters.fhir_samples import (
    CUTOFF,
    bundle,
    concept,
    observation,
    patient,
    quantity,
)

OBSERVATIONS = 100
ROUNDS = 15
WARM = 3
BAR = 0.15
_CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"
_INTERPRETATION = "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation"


def bundle_bytes() -> bytes:
    """A searchset of 100 laboratory Observations over all codes of the table."""
    rows = list(MEASUREMENTS.values())
    made = []
    for number in range(OBSERVATIONS):
        row = rows[number % len(rows)]
        middle = ((row.low + row.high) / 2).quantize(Decimal("1.0"))
        made.append(
            observation(
                row.loinc,
                quantity(middle, row.unit),
                id=f"o{number}",
                effectiveDateTime=f"2026-02-{number % 28 + 1:02d}T08:00:00Z",
                issued=f"2026-02-{number % 28 + 1:02d}T09:00:00Z",
                meta={"versionId": "1", "lastUpdated": "2026-02-28T09:00:00Z"},
                category=[concept((_CATEGORY, "laboratory"))],
                interpretation=[concept((_INTERPRETATION, "N"))],
                encounter={"reference": "Encounter/e1"},
                performer=[{"reference": "Organization/lab", "display": "Laboratory"}],
                referenceRange=[
                    {"low": quantity(row.low, row.unit), "text": "adults"}
                    | {"high": quantity(row.high, row.unit)}
                ],
            )
        )
    return json.dumps(bundle(*made), default=float).encode()


def ours(data: bytes) -> int:
    """Bytes to record; returns the values read."""
    received = walk(parse_json(data), "fhir")
    return len(assemble(patient(), received, (), cutoff=CUTOFF).history)


def theirs(data: bytes) -> int:
    """The same bytes through the FHIR models; returns the entries read."""
    return len(Bundle.model_validate(json.loads(data)).entry)


def milliseconds(work: Callable[[bytes], int], data: bytes) -> float:
    """Median CPU time of one call.

    Raises:
        RuntimeError: It did not read all Observations.
    """
    times = []
    for number in range(WARM + ROUNDS):
        began = time.process_time()
        count = work(data)
        if number >= WARM:
            times.append((time.process_time() - began) * 1000)
        if count != OBSERVATIONS:
            raise RuntimeError(f"{work.__name__} read {count} of {OBSERVATIONS}")
    return median(times)


def run() -> list[dict[str, Any]]:
    """Both ways in one process, one after the other."""
    data = bundle_bytes()
    record_ms, model_ms = milliseconds(ours, data), milliseconds(theirs, data)
    ratio = record_ms / model_ms
    name = "bench_fhir"
    return [
        entry("fhir.bundle_bytes", len(data), "bytes", name),
        entry("fhir.bundle_to_record_ms", record_ms, "ms", name),
        entry("fhir.bundle_model_validate_ms", model_ms, "ms", name),
        entry(
            "fhir.bundle_ratio",
            ratio,
            "x",
            name,
            bar=f"<= {BAR:g}",
            holds=ratio <= BAR,
        ),
    ]


if __name__ == "__main__":
    show(run, __doc__)
