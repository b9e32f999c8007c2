"""The worker process: Celery task ``trivium.assess`` and the predictor behind it.

    celery -A model.inference.worker worker -Q trivium.cpu --pool solo

One process, one predictor, one job at a time; more throughput is more workers, on this
host or another. The predictor is loaded and warmed up before the first message is
taken. SIGTERM ends the worker after the job in hand; after SIGKILL the lease runs out
and another worker, or this one when it is back, does the job once.

Rules that this module enforces:

1. Who works is decided by the claim, not by the message: a message that came twice, a
   resent one and the scan for lost jobs all end in one computation.
2. The result carries the model's digest and the device. A result whose lease was lost
   is discarded by the store.
3. Whatever goes wrong ends in the job row as a typed code. Logs name the job, the code
   and the class of the exception: its text could quote the record (threat TM-I2).

A site that wraps the predictor (tests do, to make it slow) builds its own application
with ``worker_app(..., predictor_factory=...)`` and starts that instead.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from threading import Lock
from typing import Any, Protocol

from celery import Celery
from celery.signals import worker_process_init, worker_process_shutdown, worker_shutdown

from fhir_adapters.patient_record import PatientRecord
from model.errors import JobError, JobStoreUnavailableError, ModelError
from model.inference.abstention import AbstentionPolicy
from model.inference.leases import LeaseKeeper, OverdueScan
from model.jobs import record_codec
from model.jobs.celery_app import TASK, celery_app
from model.jobs.explanation import Explanation
from model.jobs.job import Claim
from model.jobs.prediction import Prediction
from model.jobs.queue import open_store
from model.jobs.store import JobStore
from model.settings import JobSettings, WorkerSettings

logger = logging.getLogger(__name__)

COMPLETE_PAUSES_S = (0.1, 0.5, 2.0)
STORE_TIMEOUT_S = 5.0
EXIT_CONFIGURATION = 78  # EX_CONFIG of sysexits.h: starting again will not help


class Assessor(Protocol):
    """What the runner needs of a predictor."""

    @property
    def model_sha256(self) -> str:
        """Digest of the loaded model."""

    @property
    def device(self) -> str:
        """Where it computes, in words for the result."""

    def assess(self, record: PatientRecord) -> tuple[Prediction, Explanation | None]:
        """Predict and explain one record."""


class JobRunner:
    """Runs jobs one at a time: the device is one, and so is the memory."""

    def __init__(self, store: JobStore, assessor: Assessor, *, lease_s: float) -> None:
        self._store = store
        self._assessor = assessor
        self._renew_s = lease_s / 3
        self._turn = Lock()

    def run(self, job_id: str) -> bool:
        """Claim and finish one job; False when there was nothing to do or no result.

        This is the named boundary of the model package that may catch everything: it
        records the failure in the job row.
        """
        with self._turn:
            try:
                claim = self._store.claim(job_id, self._assessor.model_sha256)
            except JobError as exc:
                logger.error("job %s: %s", job_id, exc.code)
                return False
            if claim is None:
                return False
            with LeaseKeeper(self._store, claim, self._renew_s):
                try:
                    result = self._compute(claim)
                except ModelError as exc:
                    return self._fail(claim, exc.code, exc)
                except Exception as exc:
                    return self._fail(claim, "unexpected", exc)
                return self._complete(claim, result)

    def run_overdue(self) -> int:
        """Do the jobs whose message or worker was lost; returns how many were done."""
        overdue = self._store.overdue(self._assessor.model_sha256)
        return sum(self.run(job_id) for job_id in overdue)

    def _compute(self, claim: Claim) -> bytes:
        started = time.monotonic()
        record = record_codec.decode(claim.payload)
        decoded = time.monotonic()
        prediction, explanation = self._assessor.assess(record)
        assessed = time.monotonic()
        result: dict[str, Any] = {
            "prediction": prediction.to_json(),
            "explanation": explanation.to_json() if explanation else None,
            "device": self._assessor.device,
            "timings": {
                "decode_ms": round((decoded - started) * 1000, 2),
                "assess_ms": round((assessed - decoded) * 1000, 2),
            },
        }
        return json.dumps(result, allow_nan=False).encode()

    def _complete(self, claim: Claim, result: bytes) -> bool:
        """Store the result, patiently: the work is done and the lease still kept."""
        for pause_s in (*COMPLETE_PAUSES_S, None):
            try:
                kept = self._store.complete(claim, result, self._assessor.device)
            except JobStoreUnavailableError as exc:
                if pause_s is None:
                    logger.error("job %s: %s", claim.job_id, exc.code)
                    return False
                time.sleep(pause_s)
                continue
            if not kept:
                logger.warning("job %s: a second result discarded", claim.job_id)
            return kept
        return False

    def _fail(self, claim: Claim, code: str, exc: Exception) -> bool:
        logger.error("job %s: %s (%s)", claim.job_id, code, type(exc).__name__)
        try:
            self._store.fail(claim.job_id, claim.lease_token, code)
        except JobStoreUnavailableError as outage:
            # The lease runs out and the job is tried again.
            logger.error("job %s: %s", claim.job_id, outage.code)
        return False


PredictorFactory = Callable[[WorkerSettings], Assessor]


def load_predictor(settings: WorkerSettings) -> Assessor:
    """Load the checkpoint of the settings and run it once.

    Raises:
        CheckpointError: the checkpoint cannot be used.
        DeviceUnavailableError: CUDA was asked for and is not there.
    """
    # Here, not above: torch is loaded after any fork, and only where it is used.
    from model.inference.predictor import Predictor

    predictor = Predictor(
        settings.checkpoint,
        device=settings.device,
        threads=settings.threads,
        thorough=settings.explanation == "full",
        policy=AbstentionPolicy(
            max_age_days=settings.max_evidence_days,
            max_age_by_modality={
                "image": settings.max_film_days,
                "text": settings.max_note_days,
                "values": settings.max_values_days,
            },
        ),
    )
    predictor.warm_up()
    return predictor


class AssessmentWorker:
    """Store, predictor, runner and scan of one worker process, opened on first use."""

    def __init__(
        self,
        jobs: JobSettings,
        worker: WorkerSettings,
        predictor_factory: PredictorFactory,
    ) -> None:
        self._jobs = jobs
        self._worker = worker
        self._factory = predictor_factory
        self._opening = Lock()
        self._runner: JobRunner | None = None
        self._scan: OverdueScan | None = None

    def open(self) -> JobRunner:
        """Load the predictor, open the store, start the scan; once a process.

        Raises:
            ModelError: what the factory or the store raises.
        """
        with self._opening:
            if self._runner is None:
                predictor = self._factory(self._worker)
                store = open_store(self._jobs, timeout_s=STORE_TIMEOUT_S)
                self._runner = JobRunner(store, predictor, lease_s=self._jobs.lease_s)
                self._scan = OverdueScan(
                    self._runner.run_overdue, store, self._worker.scan_s
                )
                self._scan.start()
                logger.info(
                    "model %s on %s", predictor.model_sha256[:12], predictor.device
                )
            return self._runner

    def open_or_exit(self, **_: Any) -> None:
        """Signal handler: a worker without a model must not take messages.

        Celery logs and ignores what a signal handler raises, hence the exit.
        """
        try:
            self.open()
        except ModelError as exc:
            logger.critical("the worker does not start: %s: %s", exc.code, exc)
            raise SystemExit(EXIT_CONFIGURATION) from exc

    def close(self, **_: Any) -> None:
        """Signal handler: let the scan finish the job in hand."""
        if self._scan is not None:
            self._scan.stop(self._jobs.lease_s)

    def assess(self, job_id: str) -> None:
        """The task: does the job, unless somebody else has it."""
        self.open().run(job_id)


def worker_app(
    jobs: JobSettings | None = None,
    worker: WorkerSettings | None = None,
    *,
    predictor_factory: PredictorFactory = load_predictor,
) -> Celery:
    """Build the worker's Celery application.

    Args:
        jobs: Queue and store; read from the environment when left out.
        worker: Checkpoint and device; read from the environment when left out.
        predictor_factory: Makes the predictor of each process, after any fork.

    Raises:
        ConfigurationError: a setting is missing or wrong.
    """
    jobs = jobs or JobSettings.from_environment()
    process = AssessmentWorker(
        jobs, worker or WorkerSettings.from_environment(), predictor_factory
    )
    app = celery_app(jobs)
    app.task(process.assess, name=TASK, ignore_result=True)
    # Not weak: nothing else would keep the bound methods alive.
    worker_process_init.connect(process.open_or_exit, weak=False)
    worker_process_shutdown.connect(process.close, weak=False)
    worker_shutdown.connect(process.close, weak=False)
    return app


def __getattr__(name: str) -> Celery:
    """Build ``app`` when Celery asks for it, so that an import reads no settings."""
    if name != "app":
        raise AttributeError(name)
    app = worker_app()
    globals()["app"] = app
    return app
