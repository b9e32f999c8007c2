"""Real Celery workers on real brokers: done once, whatever happens to them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from model.errors import CheckpointError
from model.inference.worker import AssessmentWorker, load_predictor, worker_app
from model.jobs.celery_app import TASK
from model.jobs.model_identity import read_identity
from model.jobs.queue import AssessmentQueue
from model.settings import JobSettings, WorkerSettings
from tests.model.checkpoint_samples import cases, write_checkpoint
from tests.model.job_samples import (
    CANARY_ID,
    MODEL_SHA256,
    NOW,
    FixedAssessor,
    record,
    settings,
)
from tests.model.worker_process import WorkerProcess, environment, wait_until

SLOW = "tests.model.slow_worker"


class Bench:
    """A folder with a queue, and the workers that are started on it."""

    def __init__(self, folder: Path, chosen: JobSettings) -> None:
        self.folder = folder
        self.queue = AssessmentQueue(chosen)
        self.starts = folder / "starts.log"
        self.seconds = folder / "seconds"
        self.env = environment(
            chosen,
            SLOW_WORKER_LOG=str(self.starts),
            SLOW_WORKER_SECONDS=str(self.seconds),
        )
        self.take(0.0)

    def take(self, seconds: float) -> None:
        """How long the slow worker's jobs take from now on."""
        self.seconds.write_text(str(seconds), "ascii")

    def slow_worker(self) -> WorkerProcess:
        """A worker without a network that takes its time."""
        return WorkerProcess(self.folder, self.env, SLOW)

    def ask(self, patient_id: str = CANARY_ID) -> str:
        """Request one assessment."""
        return self.queue.request(
            record(patient_id), tenant="site-a", model_sha256=MODEL_SHA256
        ).job_id

    def started(self) -> list[str]:
        """Process id of each start of a job."""
        return self.starts.read_text("ascii").split() if self.starts.exists() else []


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """Short leases on the folder broker."""
    made = Bench(tmp_path, settings(tmp_path, lease_s=2.0, unclaimed_s=1.0))
    yield made
    made.queue.close()


@pytest.fixture(scope="module")
def real_worker(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[AssessmentQueue, Path, WorkerProcess]]:
    """The production application on an untrained checkpoint, shared by this module."""
    folder = tmp_path_factory.mktemp("worker")
    checkpoint = write_checkpoint(folder / "checkpoint", cases())
    chosen = settings(folder, lease_s=30.0)
    env = environment(chosen, TRIVIUM_CHECKPOINT=str(checkpoint))
    queue = AssessmentQueue(chosen)
    with WorkerProcess(folder, env) as process:
        yield queue, checkpoint, process
    queue.close()


def test_a_worker_answers_with_prediction_and_explanation(
    real_worker: tuple[AssessmentQueue, Path, WorkerProcess],
) -> None:
    queue, checkpoint, _ = real_worker
    identity = read_identity(checkpoint)
    patient = cases(1, seed=77)[0]
    job = queue.request(patient, tenant="site-a", model_sha256=identity.sha256)
    view = queue.wait(job.job_id, time.monotonic() + 60)
    assert (view.state, view.error) == ("ready", None)
    assert view.device == "cpu fp32"
    assert view.prediction is not None and view.explanation is not None
    assert view.prediction.model == identity
    assert view.prediction.evidence_sha256 == patient.evidence_sha256()
    assert view.explanation.label in {e.label for e in view.prediction.estimates}


def test_a_workers_log_and_broker_hold_nothing_of_the_patient(
    real_worker: tuple[AssessmentQueue, Path, WorkerProcess],
) -> None:
    queue, checkpoint, process = real_worker
    digest = read_identity(checkpoint).sha256
    for patient in (
        record(notes=(record().notes[0],)),  # succeeds
        record("canary-broken", cutoff=NOW.replace(tzinfo=None)),  # fails inside
    ):
        job = queue.request(patient, tenant="site-a", model_sha256=digest)
        view = queue.wait(job.job_id, time.monotonic() + 60)
        assert view.finished
    assert (view.state, view.error) == ("failed", "unexpected")
    written = [process.log, *(process.log.parent / "broker").rglob("*")]
    for path in written:
        content = path.read_bytes() if path.is_file() else b""
        for canary in (CANARY_ID, "canary-broken", "Zebulon", "MRN-99120"):
            assert canary.encode() not in content
    assert job.job_id in process.text()


def test_a_job_for_a_model_that_the_worker_does_not_have_is_left_waiting(
    real_worker: tuple[AssessmentQueue, Path, WorkerProcess],
) -> None:
    queue, _, _ = real_worker
    job = queue.request(record("p9"), tenant="site-a", model_sha256="cd" * 32)
    view = queue.wait(job.job_id, time.monotonic() + 1.0)
    assert view.state == "queued"


def test_a_worker_killed_in_mid_job_loses_nothing_and_the_job_is_done_once(
    bench: Bench,
) -> None:
    bench.take(60)
    with bench.slow_worker() as first:
        job_id = bench.ask()
        wait_until(lambda: len(bench.started()) == 1, 30)
        first.kill()
    view = bench.queue.view(job_id)
    assert view is not None and view.state == "running"
    bench.take(0)
    with bench.slow_worker():  # no message is left: the lease brings it back
        view = bench.queue.wait(job_id, time.monotonic() + 60)
    assert view.state == "ready"
    assert len(bench.started()) == 2
    assert len(set(bench.started())) == 2


def test_sigterm_lets_the_job_in_hand_finish(bench: Bench) -> None:
    bench.take(3)  # longer than the lease
    with bench.slow_worker() as worker:
        job_id = bench.ask()
        wait_until(lambda: len(bench.started()) == 1, 30)
        worker.process.send_signal(signal.SIGTERM)
        assert worker.process.wait(60) == 0
    view = bench.queue.view(job_id)
    assert view is not None and view.state == "ready"
    assert len(bench.started()) == 1


def test_a_job_whose_message_was_lost_is_done_from_the_store(bench: Bench) -> None:
    job_id = bench.ask()
    for message in (bench.folder / "broker" / "messages").iterdir():
        message.unlink()
    with bench.slow_worker():
        assert bench.queue.wait(job_id, time.monotonic() + 60).state == "ready"
    assert len(bench.started()) == 1


def test_two_workers_share_the_jobs_and_do_each_once(bench: Bench) -> None:
    bench.take(0.05)
    with bench.slow_worker(), bench.slow_worker():
        jobs = [bench.ask(f"p{number}") for number in range(12)]
        deadline = time.monotonic() + 60
        states = [bench.queue.wait(job, deadline).state for job in jobs]
        bench.queue.resend_overdue()
    assert states == ["ready"] * 12
    assert len(bench.started()) == 12


@pytest.mark.service("redis")
def test_the_same_path_runs_over_redis(tmp_path: Path, redis_url: str) -> None:
    bench = Bench(tmp_path, settings(tmp_path, broker_url=redis_url, unclaimed_s=60.0))
    job_id = bench.ask()
    with bench.slow_worker() as worker:
        assert bench.queue.wait(job_id, time.monotonic() + 60).state == "ready"
        again = bench.ask("p2")
        assert bench.queue.wait(again, time.monotonic() + 60).state == "ready"
        assert CANARY_ID not in worker.text()
    assert len(bench.started()) == 2
    bench.queue.close()


def test_a_worker_without_a_payload_key_does_not_start() -> None:
    env = {k: v for k, v in os.environ.items() if not k.startswith("TRIVIUM")}
    command = [sys.executable, "-m", "celery", "-A", "model.inference.worker", "worker"]
    answer = subprocess.run(
        command, env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert answer.returncode != 0
    assert "TRIVIUM_PAYLOAD_KEY_FILE" in answer.stderr


def test_a_worker_without_a_model_does_not_start(tmp_path: Path) -> None:
    def missing(_: WorkerSettings) -> FixedAssessor:
        raise CheckpointError("manifest.json cannot be read")

    process = AssessmentWorker(settings(tmp_path), WorkerSettings(), missing)
    with pytest.raises(SystemExit) as caught:
        process.open_or_exit()
    assert caught.value.code == 78
    process.close()  # nothing was opened: nothing to close


def test_the_task_is_registered_and_runs_in_process(tmp_path: Path) -> None:
    chosen = settings(tmp_path)
    assessor = FixedAssessor()
    app = worker_app(
        chosen, WorkerSettings(scan_s=60), predictor_factory=lambda _: assessor
    )
    queue = AssessmentQueue(chosen)
    job = queue.request(record(), tenant="site-a", model_sha256=MODEL_SHA256)
    assert app.tasks[TASK](job.job_id) is None
    view = queue.view(job.job_id)
    assert view is not None and view.state == "ready"
    assert assessor.seen == [CANARY_ID]
    queue.close()


def test_load_predictor_uses_the_settings(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", cases(8))
    predictor = load_predictor(WorkerSettings(checkpoint, "cpu", threads=1))
    assert predictor.model_sha256 == read_identity(checkpoint).sha256
    assert predictor.device == "cpu fp32"


def test_the_module_has_no_other_attribute() -> None:
    import model.inference.worker as module

    with pytest.raises(AttributeError):
        getattr(module, "celery_please")
