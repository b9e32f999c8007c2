"""What the job store takes and gives: plain immutable types."""

from __future__ import annotations

from dataclasses import dataclass

from model.jobs.tables import QUEUED, RUNNING


@dataclass(frozen=True, slots=True)
class Lives:
    """How long things live, in seconds, and how often a job may be claimed."""

    job_ttl_s: float = 600.0
    result_ttl_s: float = 14_400.0
    lease_s: float = 30.0
    unclaimed_s: float = 5.0
    max_attempts: int = 3


@dataclass(frozen=True, slots=True)
class Job:
    """One row without its blobs; times in microseconds since 1970."""

    job_id: str
    result_key: str
    tenant: str
    model_sha256: str
    state: str
    error: str | None
    device: str | None
    attempts: int
    created_us: int
    expires_us: int

    @property
    def finished(self) -> bool:
        """True when waiting longer is of no use."""
        return self.state not in {QUEUED, RUNNING}


@dataclass(frozen=True, slots=True)
class NewJob:
    """What a caller submits: ``payload`` is an encoded record, in the clear."""

    result_key: str
    tenant: str
    patient_index: str
    model_sha256: str
    payload: bytes

    def columns(self) -> tuple[str, ...]:
        """What of the row lies in the clear and is sealed into its blobs."""
        return (self.result_key, self.tenant, self.patient_index, self.model_sha256)


@dataclass(frozen=True, slots=True)
class Claim:
    """A running job: the right to complete it, while the lease lasts.

    ``columns`` are those under which the payload was opened; so is the result sealed.
    """

    job_id: str
    lease_token: str
    attempts: int
    model_sha256: str
    payload: bytes
    columns: tuple[str, ...]
