"""What a broker costs: from a request to a stored result, for a task that is free."""

from __future__ import annotations

import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from model.jobs.queue import AssessmentQueue
from model.settings import JobSettings
from tests.benchmarks.measure import entry, median, show
from tests.model.job_samples import MODEL_SHA256, record
from tests.model.worker_process import WorkerProcess, environment
from tests.services import redis_server

ROUNDS = 40
WARM = 5
LIMIT_S = 10.0


def round_trips(settings: JobSettings, folder: Path) -> list[float]:
    """Milliseconds from request to result, one job after another."""
    seconds, starts = folder / "seconds", folder / "starts"
    seconds.write_text("0")
    names = {"SLOW_WORKER_SECONDS": str(seconds), "SLOW_WORKER_LOG": str(starts)}
    times = []
    queue = AssessmentQueue(settings)
    with WorkerProcess(
        folder, environment(settings, **names), "tests.model.slow_worker"
    ):
        for number in range(WARM + ROUNDS):
            began = time.perf_counter()
            job = queue.request(
                record(f"patient-{number}"), tenant="bench", model_sha256=MODEL_SHA256
            )
            view = queue.wait(job.job_id, time.monotonic() + LIMIT_S)
            if view.state != "ready":
                raise RuntimeError(f"job ended {view.state}")
            times.append((time.perf_counter() - began) * 1000)
    queue.close()
    return times[WARM:]


def run() -> list[dict[str, Any]]:
    """The embedded broker beside Redis, in one run."""
    folder = Path(tempfile.mkdtemp(prefix="bench-queue-"))
    key = folder / "payload.key"
    key.touch(mode=0o600)
    key.write_text("ab" * 32)
    settings = JobSettings(
        payload_key_file=key,
        jobs_url=f"sqlite:///{folder}/jobs.sqlite3",
        broker_url=f"filesystem://{folder}/broker",
    )
    entries = []
    try:
        own = median(round_trips(settings, folder))
        name = "queue.filesystem_round_trip_ms"
        entries.append(entry(name, own, "ms", "bench_queue"))
        if shutil.which("redis-server"):
            with redis_server(folder) as url:
                other = replace(
                    settings,
                    broker_url=url,
                    jobs_url=f"sqlite:///{folder}/jobs-redis.sqlite3",
                )
                redis = median(round_trips(other, folder))
            name = "queue.redis_round_trip_ms"
            entries.append(entry(name, redis, "ms", "bench_queue"))
            name = "queue.filesystem_to_redis_ratio"
            entries.append(entry(name, own / redis, "ratio", "bench_queue"))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return entries


if __name__ == "__main__":
    show(run, __doc__)
