"""The same worker over RabbitMQ: only the URL changes."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from model.jobs.queue import AssessmentQueue
from tests.model.job_samples import MODEL_SHA256, record, settings
from tests.model.worker_process import WorkerProcess, environment


def test_a_job_goes_through_rabbitmq(rabbitmq_url: str, tmp_path: Path) -> None:
    seconds, starts = tmp_path / "seconds", tmp_path / "starts"
    seconds.write_text("0")
    jobs = replace(settings(tmp_path), broker_url=rabbitmq_url, publish_timeout_s=5.0)
    names = {"SLOW_WORKER_SECONDS": str(seconds), "SLOW_WORKER_LOG": str(starts)}
    queue = AssessmentQueue(jobs)
    environ = environment(jobs, **names)
    with WorkerProcess(tmp_path, environ, "tests.model.slow_worker"):
        job = queue.request(record(), tenant="t", model_sha256=MODEL_SHA256)
        view = queue.wait(job.job_id, time.monotonic() + 20)
    queue.close()
    assert view.state == "ready"
    assert len(starts.read_text().split()) == 1
