"""From a hook request to one patient's record, through prefetch and the EHR's servers.

What the EHR sent is not asked for again; the rest is fetched in parallel through the
tenant's guarded door. The request's token lives in the objects of this module for the
length of the gathering and nowhere else (F3), and no longer than ``expires_in`` (F4).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from cds_hooks.access_record import Access, RecordingDoor
from cds_hooks.hook_request import HookRequest
from cds_hooks.prefetch import missing, read_prefetch
from cds_hooks.tenants import Tenant
from fhir_adapters.access.fhir_client import FhirClient
from fhir_adapters.access.gather import (
    Gather,
    GatherContext,
    Gathered,
    GatherPolicy,
    Pending,
)
from fhir_adapters.access.outbound import OutboundDoor
from fhir_adapters.assemble import assemble
from fhir_adapters.errors import (
    MalformedResourceError,
    UpstreamTimeoutError,
    WrongPatientError,
)
from fhir_adapters.patient_record import PatientRecord, Skip
from fhir_adapters.policy import AdapterPolicy

GRACE_S = 1.0


@dataclass(slots=True)
class Collection:
    """One gathering in progress."""

    gather: Gather
    door: RecordingDoor
    ends_at: float
    cutoff: datetime
    adapters: AdapterPolicy

    def waiting_for(self) -> tuple[str, ...]:
        """The steps that are still running."""
        outcome = self.gather.run(0.0)
        return outcome.waiting_for if isinstance(outcome, Pending) else ()

    def accesses(self) -> tuple[Access, ...]:
        """What has been read so far."""
        return self.door.accesses()

    def finish(self) -> PatientRecord:
        """Wait for the hard end at most and assemble the record.

        Raises:
            MissingDataError: the Patient could not be had, or was somebody else (P6).
            AdapterError: nothing can be made of what was received, or not in time.
        """
        outcome = self.gather.run(self.ends_at + GRACE_S)
        if isinstance(outcome, Pending):
            raise UpstreamTimeoutError("gather_timeout")
        return self._assemble(outcome)

    def _assemble(self, gathered: Gathered) -> PatientRecord:
        if gathered.patient is None:
            raise missing("patient")
        # What came only in part is said on the card like anything else not used.
        partial = tuple(
            Skip(failure.step, failure.reason)
            for failure in gathered.failures
            if failure.partial
        )
        try:
            made = assemble(
                gathered.patient,
                gathered.received,
                gathered.images,
                cutoff=self.cutoff,
                policy=self.adapters,
                unavailable=gathered.unavailable,
            )
        except (WrongPatientError, MalformedResourceError) as error:
            # Somebody else's Patient is no patient: the required data was not had.
            raise missing("patient") from error
        return replace(made, skipped=(*made.skipped, *partial))


class EvidenceCollector:
    """Starts gatherings.

    Args:
        door_for: The guarded door of a tenant.
        pool: Threads for requests to FHIR and DICOMweb servers.
        limit_s: Longest gathering.
    """

    def __init__(
        self,
        door_for: Callable[[Tenant], OutboundDoor],
        pool: Executor,
        *,
        limit_s: float,
    ) -> None:
        self._door_for = door_for
        self._pool = pool
        self._limit_s = limit_s

    def begin(self, request: HookRequest, tenant: Tenant) -> Collection:
        """Start gathering; returns at once.

        Raises:
            MalformedRequestError: a prefetch key holds what it must not.
            MissingDataError: required data is missing and there is nobody to ask.
        """
        prefetched = read_prefetch(request)
        fhir = request.fhir
        server = fhir.server if fhir else ""
        token = fhir.token if fhir else None
        limit = self._limit_s
        if fhir and fhir.expires_in_s:
            limit = min(limit, fhir.expires_in_s)
        door = RecordingDoor(self._door_for(tenant), server, tenant.dicomweb)
        cutoff = datetime.now(UTC)
        base = server or (tenant.fhir_servers or ("",))[0]
        adapters = AdapterPolicy(fhir_base=base)
        client = (
            FhirClient(server, door, token, post_search=tenant.post_search)
            if fhir
            else None
        )
        context = GatherContext(
            patient_id=request.patient_id,
            prefetched=prefetched,
            fhir=client,
            door=door,
            dicomweb_bases=tenant.dicomweb,
            access_token=token,
            patient_identifier_systems=tenant.patient_identifier_systems,
            not_after=cutoff,
            policy=GatherPolicy(max_seconds=limit),
            adapters=adapters,
        )
        return Collection(
            gather=Gather(context, self._pool),
            door=door,
            ends_at=time.monotonic() + limit,
            cutoff=cutoff,
            adapters=adapters,
        )
