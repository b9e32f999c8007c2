"""The web process's side of the queue: ask for an assessment, wait, look it up.

A request stores the sealed record, then sends its id. When the broker is down the job
stays in the store all the same: whoever looks next (``resend_overdue`` here, or a
worker that scans the store) finds it. Sending runs on a thread of its own and is waited
for at most ``publish_timeout_s``, whatever the broker's client library does, because a
hook has one deadline (deadline contract L1).

    queue = AssessmentQueue(JobSettings.from_environment())
    job = queue.request(record, tenant="site-a", model_sha256=identity.sha256)
    job = queue.wait(job.job_id, time.monotonic() + 0.3)
"""

from __future__ import annotations

import json
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import BoundedSemaphore

from celery.exceptions import CeleryError
from kombu.exceptions import KombuError

from fhir_adapters.patient_record import PatientRecord
from model.errors import (
    BrokerUnavailableError,
    JobTamperedError,
    PayloadTooLargeError,
    UnknownJobError,
)
from model.jobs import record_codec
from model.jobs.celery_app import TASK, celery_app
from model.jobs.cipher import PayloadCipher
from model.jobs.explanation import Explanation
from model.jobs.film_size import fit_films
from model.jobs.job import Job, Lives, NewJob
from model.jobs.prediction import Prediction
from model.jobs.store import JobStore
from model.jobs.tables import READY
from model.settings import JobSettings

__all__ = ["AssessmentQueue", "JobView", "celery_app", "open_store"]

logger = logging.getLogger(__name__)

POLL_S = 0.005
PUBLISHERS = 2
MAX_WAITING = 16
RESULT_KEY_CHARACTERS = 64


@dataclass(frozen=True, slots=True)
class JobView:
    """One job as the web process sees it; the result is there when state is ready.

    ``device`` is that of the sealed prediction: anybody could write the row's column.
    """

    job_id: str
    result_key: str
    state: str
    prediction: Prediction | None
    explanation: Explanation | None
    error: str | None
    created_at: datetime
    device: str | None
    tenant: str

    @property
    def finished(self) -> bool:
        """True when ready or failed."""
        return self.state in {"ready", "failed"}


def open_store(settings: JobSettings, *, timeout_s: float) -> JobStore:
    """Open the job store with the payload key of the settings.

    Raises:
        ConfigurationError: no usable key or URL.
        JobStoreUnavailableError: the database does not answer.
    """
    return JobStore(
        settings.jobs_url,
        PayloadCipher.from_file(settings.payload_key_file),
        timeout_s=timeout_s,
        lives=Lives(
            job_ttl_s=settings.job_ttl_s,
            result_ttl_s=settings.result_ttl_s,
            lease_s=settings.lease_s,
            unclaimed_s=settings.unclaimed_s,
            max_attempts=settings.max_attempts,
        ),
    )


class AssessmentQueue:
    """Thread-safe; one for each web process, opened after a fork."""

    def __init__(self, settings: JobSettings) -> None:
        """Open store and broker connection pool.

        Raises:
            ConfigurationError, JobStoreUnavailableError: see :func:`open_store`.
        """
        self._settings = settings
        self._cipher = PayloadCipher.from_file(settings.payload_key_file)
        self._store = open_store(settings, timeout_s=settings.store_timeout_s)
        self._app = celery_app(settings, publisher=True)
        self._publishers = ThreadPoolExecutor(PUBLISHERS, "trivium-publish")
        self._room = BoundedSemaphore(MAX_WAITING)

    def result_key(
        self, record: PatientRecord, *, tenant: str, model_sha256: str
    ) -> str:
        """Key of the answer: tenant, patient, evidence and model (contract L6).

        A keyed SHA-256, so that the key in a row tells nothing of the patient. Changed
        evidence or another model changes it: a stale result can never answer.
        """
        return self._cipher.indexes(
            "result",
            tenant,
            record.patient.patient_id,
            record.evidence_sha256(),
            model_sha256,
        )[0]

    def request(
        self, record: PatientRecord, *, tenant: str, model_sha256: str
    ) -> JobView:
        """Return the result for this record, join its job, or start one.

        Raises:
            BrokerUnavailableError: stored under ``job_id`` but not sent; it will be.
            JobStoreUnavailableError: nothing was stored.
            PayloadTooLargeError: the record is larger than the limit.
        """
        key = self.result_key(record, tenant=tenant, model_sha256=model_sha256)
        known = self._store.find(key)
        if known is not None and known.state != "failed":
            return self._seen(known)
        payload = record_codec.encode(self.fitted(record))
        if len(payload) > self._settings.max_payload_bytes:
            raise PayloadTooLargeError(f"a record of {len(payload)} bytes")
        job, is_new = self._store.submit(
            NewJob(
                result_key=key,
                tenant=tenant,
                patient_index=self._patient_indexes(tenant, record.patient.patient_id)[
                    0
                ],
                model_sha256=model_sha256,
                payload=payload,
            )
        )
        if is_new:
            self._publish(job.job_id)
        return self._seen(job)

    def fitted(self, record: PatientRecord) -> PatientRecord:
        """The record as it crosses the queue: its films no larger than anyone reads."""
        return fit_films(record, self._settings.max_film_side)

    def view(self, key: str) -> JobView | None:
        """Look a job up by job id or result key; None when unknown or expired.

        Raises:
            JobTamperedError: its result does not authenticate.
            JobStoreUnavailableError: the store does not answer.
        """
        by_result = len(key) == RESULT_KEY_CHARACTERS
        job = self._store.find(key) if by_result else self._store.get(key)
        return None if job is None else self._seen(job)

    def record(self, job_id: str) -> PatientRecord:
        """The evidence of a job, for the evidence page, while its result lives.

        Raises:
            UnknownJobError: no such job, or it has failed or expired.
            JobTamperedError: the payload does not authenticate.
        """
        return record_codec.decode(self._store.payload(job_id))

    def wait(self, job_id: str, deadline_monotonic: float) -> JobView:
        """Wait until the job is finished or ``time.monotonic()`` reaches the deadline.

        Raises:
            UnknownJobError: no such job, or it vanished while we waited.
            JobTamperedError, JobStoreUnavailableError: see :meth:`view`.
        """
        while True:
            job = self._store.get(job_id)
            if job is None:
                raise UnknownJobError(f"job {job_id}")
            left = deadline_monotonic - time.monotonic()
            if job.finished or left <= 0:
                return self._seen(job)
            time.sleep(min(POLL_S, left))

    def resend_overdue(self) -> int:
        """Send again what was never claimed or lost its worker; returns how many.

        Harmless when nothing was lost: a claim decides who works, and once.

        Raises:
            BrokerUnavailableError: not all could be sent; call again later.
        """
        overdue = self._store.overdue()
        for job_id in overdue:
            self._publish(job_id)
            self._store.note_sent(job_id)
        return len(overdue)

    def purge_expired(self) -> int:
        """End and delete what has outlived its time; returns the number of rows."""
        return self._store.purge_expired()

    def erase_patient(self, *, tenant: str, patient_id: str) -> int:
        """Delete all jobs and results of one patient (right to erasure; PR-31)."""
        return self._store.erase_patient(self._patient_indexes(tenant, patient_id))

    def close(self) -> None:
        """Stop publishing and close all connections."""
        self._publishers.shutdown(wait=False, cancel_futures=True)
        self._app.close()
        self._store.close()

    def _patient_indexes(self, tenant: str, patient_id: str) -> tuple[str, ...]:
        return self._cipher.indexes("patient", tenant, patient_id)

    def _seen(self, job: Job) -> JobView:
        prediction = explanation = None
        if job.state == READY:
            prediction, explanation = _read_result(
                job.job_id, self._store.result(job.job_id)
            )
        return JobView(
            job_id=job.job_id,
            result_key=job.result_key,
            state=job.state,
            prediction=prediction,
            explanation=explanation,
            error=job.error,
            created_at=_moment(job),
            device=prediction.device if prediction else None,
            tenant=job.tenant,
        )

    def _publish(self, job_id: str) -> None:
        """Send the id of one job, or give up after the publish timeout."""
        if not self._room.acquire(blocking=False):
            raise BrokerUnavailableError("too many messages wait", job_id)
        future = self._publishers.submit(self._send, job_id)
        future.add_done_callback(lambda _: self._room.release())
        try:
            future.result(self._settings.publish_timeout_s)
        except (CeleryError, KombuError, OSError, FutureTimeoutError) as exc:
            logger.warning("job %s was not sent: %s", job_id, type(exc).__name__)
            raise BrokerUnavailableError("the broker did not answer", job_id) from exc

    def _send(self, job_id: str) -> None:
        self._app.send_task(
            TASK,
            args=(job_id,),
            argsrepr="(job id)",
            kwargsrepr="{}",
            retry=False,
            ignore_result=True,
            # A message that outlives its job is of no use (deadline contract L5).
            expires=self._settings.job_ttl_s,
        )


def _moment(job: Job) -> datetime:
    try:
        return datetime.fromtimestamp(job.created_us / 1e6, UTC)
    except (OverflowError, ValueError, OSError) as exc:
        raise JobTamperedError(f"job {job.job_id}: no such time") from exc


def _read_result(job_id: str, data: bytes) -> tuple[Prediction, Explanation | None]:
    try:
        result = json.loads(data)
        explanation = result["explanation"]
        return (
            Prediction.from_json(result["prediction"]),
            Explanation.from_json(explanation) if explanation else None,
        )
    except (ValueError, KeyError, TypeError) as exc:
        # Authentic but unreadable: written by a release that we do not understand.
        raise JobTamperedError(f"job {job_id}: result malformed") from exc
