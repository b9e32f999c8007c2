"""One client in a process of its own, so that its memory can be measured.

    python -m tests.hostile.client ATTACK ORIGIN

Prints one JSON object. Memory is the high-water mark of this process's resident set
above what it had after its imports.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fhir_adapters.access.dicomweb import DicomWebClient
from fhir_adapters.access.fhir_client import FhirClient
from fhir_adapters.access.gather import Gather
from fhir_adapters.access.gather_types import GatherContext, Gathered, GatherPolicy
from fhir_adapters.access.outbound import OutboundDoor, OutboundPolicy
from fhir_adapters.assemble import assemble
from fhir_adapters.errors import AdapterError
from fhir_adapters.policy import AdapterPolicy
from tests.hostile.server import INSTANCE, SERIES, STUDY

# The limits of the web process; the deadline is shortened, so that a run is short.
MAX_BYTES = 64 * 1024 * 1024
SECONDS = 2.0

Outcome = tuple[str, str]


def resident(field: str) -> int:
    """A line of this process's status, in bytes: "VmRSS" or "VmHWM"."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    return 0


def search(origin: str, attack: str, door: OutboundDoor) -> Outcome:
    """A search; what is missing counts as its error, because it is said."""
    client = FhirClient(f"{origin}/fhir/{attack}", door, "token")
    pages = client.search_pages("Observation", {}, time.monotonic() + SECONDS)
    return "SearchPages", pages.incomplete


def read(origin: str, attack: str, door: OutboundDoor) -> Outcome:
    """A read of the patient."""
    client = FhirClient(f"{origin}/fhir/{attack}", door, "token")
    client.read("Patient", "p1", time.monotonic() + SECONDS)
    return "resource", ""


def metadata(origin: str, attack: str, door: OutboundDoor) -> Outcome:
    """What a study holds."""
    client = DicomWebClient(f"{origin}/dicom-web/{attack}", door)
    client.instances(STUDY, deadline=time.monotonic() + SECONDS)
    return "instances", ""


def instance(origin: str, attack: str, door: OutboundDoor) -> Outcome:
    """One DICOM file."""
    client = DicomWebClient(f"{origin}/dicom-web/{attack}", door)
    client.retrieve_instance(
        STUDY, SERIES, INSTANCE, deadline=time.monotonic() + SECONDS
    )
    return "instance", ""


def chart(origin: str, attack: str, door: OutboundDoor) -> Outcome:
    """A whole gathering and the record made of it; its failures are its error."""
    base = f"{origin}/fhir/{attack}"
    with ThreadPoolExecutor(6) as pool:
        context = GatherContext(
            patient_id="p1",
            prefetched={},
            fhir=FhirClient(base, door, "token"),
            door=door,
            policy=GatherPolicy(max_seconds=SECONDS),
        )
        found = Gather(context, pool).run(time.monotonic() + SECONDS + 1.0)
    if not isinstance(found, Gathered):
        return "Pending", "deadline"
    reasons = sorted({failure.reason for failure in found.failures})
    if found.patient is None:
        return "Gathered", ",".join(reasons)
    record = assemble(
        found.patient,
        found.received,
        found.images,
        cutoff=datetime.now(UTC),
        policy=AdapterPolicy(fhir_base=base),
    )
    skipped = sorted({skip.reason for skip in record.skipped})
    return "PatientRecord", ",".join(reasons + skipped)


CALLS: dict[str, Callable[[str, str, OutboundDoor], Outcome]] = {
    "read": read,
    "search": search,
    "chart": chart,
    "metadata": metadata,
    "instance": instance,
}


def measured(call: str, attack: str, origin: str) -> dict[str, Any]:
    """Run one call against one attack."""
    policy = OutboundPolicy(
        frozenset({origin}), loopback=True, max_bytes=MAX_BYTES, max_seconds=SECONDS
    )
    before, started = resident("VmRSS"), time.monotonic()
    with OutboundDoor(policy) as door:
        try:
            result, reason = CALLS[call](origin, attack, door)
        except AdapterError as error:
            result, reason = type(error).__name__, error.reason
    return {
        "seconds": round(time.monotonic() - started, 2),
        "memory_mb": round((resident("VmHWM") - before) / 2**20, 1),
        "result": result,
        "reason": reason,
    }


if __name__ == "__main__":
    print(json.dumps(measured(*sys.argv[1:4])))
