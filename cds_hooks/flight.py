"""One gathering on its way, and how it lands."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, field

from audit.event import new_correlation_id
from cds_hooks.audit_trail import digest
from cds_hooks.evidence import Collection
from cds_hooks.hook_request import HookRequest
from cds_hooks.tenants import Tenant
from fhir_adapters.patient_record import PatientRecord
from model.jobs.queue import JobView


@dataclass(frozen=True, slots=True)
class FlightKey:
    """Two hooks with the same key ask for the same thing on the same authority.

    Scope and ``has_token`` keep a call with less authority from being answered with
    what was read under more.
    """

    tenant: str
    server: str
    patient_id: str
    user: str
    service: str
    prefetch_sha256: str
    scope: str
    has_token: bool

    @classmethod
    def of(cls, request: HookRequest, tenant: Tenant) -> FlightKey:
        """The key of a request."""
        return cls(
            tenant=tenant.id,
            server=request.fhir.server if request.fhir else "",
            patient_id=request.patient_id,
            user=request.user,
            service=request.service.id,
            prefetch_sha256=digest(request.prefetch),
            scope=request.fhir.scope if request.fhir else "",
            has_token=bool(request.fhir and request.fhir.token),
        )


@dataclass(frozen=True, slots=True)
class Landing:
    """How a flight ended: the record and its job, or the reason why there is none.

    The record's films are those that crossed the queue: many landings may be kept.
    """

    record: PatientRecord | None
    job: JobView | None
    reason: str = ""
    unsent: bool = False


@dataclass(slots=True)
class Flight:
    """One gathering; ``late`` once a hook was answered without its landing.

    ``collection`` holds the request's token, so it is let go at the landing (F3).
    """

    key: FlightKey
    collection: Collection | None
    landing: Future[Landing]
    id: str = field(default_factory=new_correlation_id)
    late: bool = False
    landed_at: float | None = None

    def jobless(self) -> bool:
        """True when it landed and there is no job whose end could be waited for."""
        return self.landing.done() and self.job_id() is None

    def job_id(self) -> str | None:
        """The job that it ended in; None while it flies, and when it failed."""
        landing = self.landing
        if not landing.done() or landing.cancelled() or landing.exception():
            return None
        job = landing.result().job
        return job.job_id if job else None
