"""A worker application whose predictor takes its time; started by the tests only.

    celery -A tests.model.slow_worker worker -Q trivium.cpu --pool solo

It wraps the predictor through ``worker_app``'s documented factory parameter. How long
each job takes is the number in the file named by SLOW_WORKER_SECONDS; each start of a
job adds a line to the file named by SLOW_WORKER_LOG.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from fhir_adapters.patient_record import PatientRecord
from model.inference.worker import Assessor, worker_app
from model.jobs.explanation import Explanation
from model.jobs.prediction import Prediction
from model.settings import WorkerSettings
from tests.model.job_samples import FixedAssessor


class SlowAssessor(FixedAssessor):
    """Answers correctly, slowly, and says when it starts."""

    def assess(self, patient: PatientRecord) -> tuple[Prediction, Explanation | None]:
        """Write the process id, sleep, answer."""
        with Path(os.environ["SLOW_WORKER_LOG"]).open("a", encoding="ascii") as log:
            log.write(f"{os.getpid()}\n")
        time.sleep(float(Path(os.environ["SLOW_WORKER_SECONDS"]).read_text("ascii")))
        return super().assess(patient)


def slow(_: WorkerSettings) -> Assessor:
    """The factory."""
    return SlowAssessor()


app = worker_app(predictor_factory=slow)
