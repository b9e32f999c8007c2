"""A worker with the real model that takes an hour for each job; for the chaos tests.

    celery -A tests.chaos.slow_worker worker --queues trivium.cpu --pool solo

Each start of a job adds a line to the file named by SLOW_WORKER_LOG.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from fhir_adapters.patient_record import PatientRecord
from model.inference.worker import Assessor, load_predictor, worker_app
from model.jobs.explanation import Explanation
from model.jobs.prediction import Prediction
from model.settings import WorkerSettings

AN_HOUR = 3600.0


class Slow:
    """The real predictor behind an hour of waiting."""

    def __init__(self, real: Assessor) -> None:
        self._real = real

    @property
    def model_sha256(self) -> str:
        """Digest of the real model: its jobs are the ones that are claimed."""
        return self._real.model_sha256

    @property
    def device(self) -> str:
        """The real model's device."""
        return self._real.device

    def assess(self, record: PatientRecord) -> tuple[Prediction, Explanation | None]:
        """Say that it starts, wait, answer."""
        with Path(os.environ["SLOW_WORKER_LOG"]).open("a", encoding="ascii") as log:
            log.write(f"{os.getpid()}\n")
        time.sleep(AN_HOUR)
        return self._real.assess(record)


def slow(settings: WorkerSettings) -> Assessor:
    """The factory."""
    return Slow(load_predictor(settings))


app = worker_app(predictor_factory=slow)
