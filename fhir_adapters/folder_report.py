"""What a folder gave: one record a patient, and the account of all Observations."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime

from tqdm import tqdm

from fhir_adapters.assemble import assemble, observation_account
from fhir_adapters.errors import ValueRejectedError
from fhir_adapters.folder import FolderContent, PatientFolder
from fhir_adapters.patient_record import Modality, PatientRecord
from fhir_adapters.policy import AdapterPolicy
from fhir_adapters.resources.elements import resource_type
from fhir_adapters.resources.moment import effective_moment

# No Observation at all: any time will do, because there is nothing to compare.
_NO_TIME = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class FolderReport:
    """``used`` plus all of ``skipped`` is ``observations``, by construction of none.

    The three are counted apart: ``observations`` over the files, ``used`` and
    ``skipped`` over the records.
    """

    observations: int
    used: int
    skipped: dict[str, int]
    records: tuple[PatientRecord, ...]

    @property
    def used_of_mapped(self) -> float:
        """Share used of the Observations whose code is in the table."""
        mapped = self.observations - self.skipped.get("unmapped_code", 0)
        return self.used / mapped if mapped else 0.0


def measure(content: FolderContent, *, progress: bool = True) -> FolderReport:
    """Build all records, each at the time of that patient's last Observation."""
    observations, used = content.strays, 0
    skipped: Counter[str] = Counter()
    if content.strays:
        skipped["no_patient_resource"] = content.strays
    records: list[PatientRecord] = []
    patients = tqdm(
        content.patients.values(), desc="records", unit="patient", disable=not progress
    )
    for owner in patients:
        record = assemble(
            owner.patient, owner.received, (), cutoff=last_observation(owner)
        )
        account = observation_account(record)
        observations += sum(
            resource_type(item.resource) == "Observation" for item in owner.received
        )
        used += account.used
        skipped.update(account.skipped)
        records.append(record)
    return FolderReport(
        observations, used, dict(sorted(skipped.items())), tuple(records)
    )


def last_observation(owner: PatientFolder) -> datetime:
    """Time of the last Observation that has a usable time."""
    policy = AdapterPolicy()
    last = _NO_TIME
    for item in owner.received:
        if resource_type(item.resource) != "Observation":
            continue
        try:
            last = max(last, effective_moment(item.resource, policy).at)
        except ValueRejectedError:
            continue  # assemble skips it and says why
    return last


def as_json(report: FolderReport) -> str:
    """One JSON object for machines."""
    return json.dumps(
        {
            "patients": len(report.records),
            "observations": report.observations,
            "used": report.used,
            "skipped": report.skipped,
            "records": [
                {"patient": record.patient.patient_id}
                | {m.value: record.states[m].status.value for m in Modality}
                for record in report.records
            ],
        },
        indent=2,
    )


def as_table(report: FolderReport) -> str:
    """A table for people."""
    rows = [
        ("patients", len(report.records)),
        ("observations", report.observations),
        ("used", report.used),
        *((f"skipped: {reason}", n) for reason, n in report.skipped.items()),
    ]
    for modality in Modality:
        statuses = Counter(r.states[modality].status.value for r in report.records)
        rows += [(f"{modality}: {name}", n) for name, n in sorted(statuses.items())]
    width = max(len(name) for name, _ in rows)
    lines = [f"{name:<{width}}  {count:>9,}" for name, count in rows]
    lines.append(f"{'used of mapped codes':<{width}}  {report.used_of_mapped:>9.1%}")
    return "\n".join(lines)
