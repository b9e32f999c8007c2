"""The web process's queue: quick, bounded, encrypted, and without torch."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fhir_adapters.patient_record import Provenance
from model.errors import (
    BrokerUnavailableError,
    JobTamperedError,
    PayloadTooLargeError,
    UnknownJobError,
)
from model.inference.worker import JobRunner
from model.jobs.queue import AssessmentQueue, open_store
from tests.model.job_samples import (
    CANARY_ID,
    CANARY_TEXT,
    MODEL_SHA256,
    FixedAssessor,
    explanation,
    prediction,
    record,
    settings,
)


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[AssessmentQueue]:
    """A queue on files."""
    opened = AssessmentQueue(settings(tmp_path))
    yield opened
    opened.close()


def ask(queue: AssessmentQueue, patient_id: str = CANARY_ID, **other: str) -> str:
    """Request one assessment; returns the job id."""
    arguments = {"tenant": "site-a", "model_sha256": MODEL_SHA256, **other}
    return queue.request(record(patient_id), **arguments).job_id


def messages(folder: Path) -> list[Path]:
    """The messages that wait in the broker folder."""
    return sorted((folder / "broker" / "messages").glob("*.msg"))


def work(folder: Path) -> JobRunner:
    """A runner on the same store, without a network."""
    chosen = settings(folder)
    return JobRunner(open_store(chosen, timeout_s=5), FixedAssessor(), lease_s=30)


def test_the_web_process_loads_nothing_heavy() -> None:
    program = (
        "import sys, model.jobs.queue, model.jobs.model_identity, model.settings\n"
        "import model.errors\n"
        "heavy = {'torch', 'timm', 'transformers', 'torchvision', 'flask'}\n"
        "print(sorted(heavy & {name.split('.')[0] for name in sys.modules}))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"


def test_a_message_holds_the_job_id_and_nothing_else(
    queue: AssessmentQueue, tmp_path: Path
) -> None:
    job_id = ask(queue)
    (path,) = messages(tmp_path)
    message = json.loads(path.read_bytes())
    args, kwargs, options = json.loads(base64.b64decode(message["body"]))
    assert (args, kwargs) == ([job_id], {})
    assert not any(options.values())
    assert message["headers"]["argsrepr"] == "(job id)"
    assert message["headers"]["kwargsrepr"] == "{}"
    assert message["content-type"] == "application/json"
    assert path.stat().st_mode & 0o077 == 0


def test_nothing_of_the_patient_lies_on_disk_in_the_clear(
    queue: AssessmentQueue, tmp_path: Path
) -> None:
    job_id = ask(queue)
    canaries = [CANARY_ID, CANARY_TEXT, "MRN-99120", "Zebulon", "DocumentReference/d"]
    assert work(tmp_path).run(job_id)
    done = queue.view(job_id)
    assert done is not None and done.prediction is not None
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.name.startswith("jobs.sqlite3") for path in written)
    assert any(path.suffix == ".msg" for path in written)
    for path in written:
        content = path.read_bytes()
        for canary in canaries:
            assert canary.encode() not in content, path.name
            assert base64.b64encode(canary.encode())[:-4] not in content


def test_a_result_comes_back_whole_by_job_id_and_by_result_key(
    queue: AssessmentQueue, tmp_path: Path
) -> None:
    before = datetime.now(UTC)
    job_id = ask(queue)
    assert work(tmp_path).run(job_id)
    view = queue.view(job_id)
    assert view is not None and view.finished
    assert view.prediction == prediction(record())
    assert view.explanation == explanation()
    assert (view.state, view.error, view.device) == ("ready", None, "cpu fp32")
    assert view.tenant == "site-a"
    assert abs((view.created_at - before).total_seconds()) < 60
    assert queue.view(view.result_key) == view


def test_the_next_request_gets_the_result_at_once_and_sends_nothing(
    queue: AssessmentQueue, tmp_path: Path
) -> None:
    job_id = ask(queue)
    work(tmp_path).run(job_id)
    again = queue.request(record(), tenant="site-a", model_sha256=MODEL_SHA256)
    assert again.job_id == job_id and again.prediction is not None
    assert len(messages(tmp_path)) == 1


def test_requests_for_one_result_share_one_job(
    queue: AssessmentQueue, tmp_path: Path
) -> None:
    assert len({ask(queue) for _ in range(5)}) == 1
    assert len(messages(tmp_path)) == 1


def test_the_result_key_changes_with_everything_that_changes_the_answer(
    queue: AssessmentQueue,
) -> None:
    other_note = replace(
        record().notes[0], provenance=Provenance("DocumentReference/d", "fhir", "99")
    )
    keys = {
        queue.result_key(record(), tenant="site-a", model_sha256=MODEL_SHA256),
        queue.result_key(record(), tenant="site-b", model_sha256=MODEL_SHA256),
        queue.result_key(record(), tenant="site-a", model_sha256="cd" * 32),
        queue.result_key(record("p2"), tenant="site-a", model_sha256=MODEL_SHA256),
        queue.result_key(
            record(notes=(other_note,)), tenant="site-a", model_sha256=MODEL_SHA256
        ),
    }
    assert len(keys) == 5
    assert all(len(key) == 64 for key in keys)


def test_the_record_can_be_read_while_its_result_lives(
    queue: AssessmentQueue, tmp_path: Path
) -> None:
    job_id = ask(queue)
    work(tmp_path).run(job_id)
    kept = queue.record(job_id)
    assert kept.patient == record().patient
    assert kept.notes == record().notes
    with pytest.raises(UnknownJobError):
        queue.record("0" * 32)


def test_waiting_ends_when_the_job_does(queue: AssessmentQueue, tmp_path: Path) -> None:
    job_id = ask(queue)
    runner = work(tmp_path)
    worker = threading.Timer(0.2, runner.run, [job_id])
    worker.start()
    view = queue.wait(job_id, time.monotonic() + 20)
    assert view.state == "ready"
    worker.join()


def test_waiting_ends_at_the_deadline(queue: AssessmentQueue) -> None:
    job_id = ask(queue)
    started = time.monotonic()
    view = queue.wait(job_id, started + 0.1)
    assert view.state == "queued" and view.prediction is None
    assert 0.1 <= time.monotonic() - started < 2
    assert queue.wait(job_id, started).state == "queued"  # a deadline in the past


def test_waiting_for_an_unknown_job_is_a_typed_error(queue: AssessmentQueue) -> None:
    with pytest.raises(UnknownJobError):
        queue.wait("0" * 32, time.monotonic() + 1)
    assert queue.view("0" * 32) is None
    assert queue.view("0" * 64) is None


def test_a_broker_that_is_down_is_a_typed_error_and_the_job_is_kept(
    tmp_path: Path,
) -> None:
    down = AssessmentQueue(settings(tmp_path, broker_url=f"redis://{closed_port()}/0"))
    with pytest.raises(BrokerUnavailableError) as caught:
        ask(down)
    kept = down.view(caught.value.job_id or "")
    assert kept is not None and kept.state == "queued"
    assert ask(down) == kept.job_id  # joined: nothing is sent, nothing fails
    down.close()
    back = AssessmentQueue(settings(tmp_path, unclaimed_s=0.001))
    time.sleep(0.01)
    assert back.resend_overdue() == 1
    assert len(messages(tmp_path)) == 1
    back.close()


def test_resending_waits_its_turn(queue: AssessmentQueue, tmp_path: Path) -> None:
    ask(queue)
    assert queue.resend_overdue() == 0
    eager = AssessmentQueue(settings(tmp_path, unclaimed_s=0.2))
    time.sleep(0.25)
    assert eager.resend_overdue() == 1
    assert eager.resend_overdue() == 0  # just sent
    assert len(messages(tmp_path)) == 2
    eager.close()


def test_a_message_that_comes_twice_is_one_computation(
    queue: AssessmentQueue, tmp_path: Path
) -> None:
    job_id = ask(queue)
    runner = work(tmp_path)
    assert runner.run(job_id)
    assert not runner.run(job_id)


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_a_broker_that_hangs_costs_no_more_than_the_timeout(
    tmp_path: Path, scheme: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, never answers
        port = silent.getsockname()[1]
        queue = AssessmentQueue(
            settings(
                tmp_path,
                broker_url=f"{scheme}://127.0.0.1:{port}/",
                publish_timeout_s=0.1,
            )
        )
        for number in range(3):
            started = time.monotonic()
            with pytest.raises(BrokerUnavailableError):
                ask(queue, f"p{number}")
            assert time.monotonic() - started < 1
        queue.close()


def test_too_many_waiting_messages_are_refused_at_once(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        queue = AssessmentQueue(
            settings(
                tmp_path,
                broker_url=f"redis://127.0.0.1:{port}/",
                publish_timeout_s=0.01,
            )
        )
        queue._room = threading.BoundedSemaphore(1)
        queue._room.acquire()
        with pytest.raises(BrokerUnavailableError, match="too many"):
            ask(queue)
        queue.close()


def test_a_record_over_the_limit_is_refused(tmp_path: Path) -> None:
    queue = AssessmentQueue(settings(tmp_path, max_payload_bytes=100))
    with pytest.raises(PayloadTooLargeError):
        ask(queue)
    queue.close()


def test_a_large_film_crosses_the_queue_reduced(tmp_path: Path) -> None:
    queue = AssessmentQueue(settings(tmp_path, max_film_side=4))
    kept = queue.record(ask(queue)).images[0]
    assert kept.pixels.shape == (3, 4)
    assert kept.transforms[-1] == "mean 2x2"
    queue.close()


def test_a_result_of_another_shape_is_a_typed_error(
    queue: AssessmentQueue, tmp_path: Path
) -> None:
    job_id = ask(queue)
    store = open_store(settings(tmp_path), timeout_s=5)
    claim = store.claim(job_id, MODEL_SHA256)
    assert claim is not None
    store.complete(claim, b'{"explanation": null}', "cpu")
    with pytest.raises(JobTamperedError):
        queue.view(job_id)
    store.close()


def test_a_failed_job_shows_its_code_and_the_next_request_starts_anew(
    queue: AssessmentQueue, tmp_path: Path
) -> None:
    job_id = ask(queue)
    store = open_store(settings(tmp_path), timeout_s=5)
    claim = store.claim(job_id, MODEL_SHA256)
    assert claim is not None
    store.fail(job_id, claim.lease_token, "out_of_memory")
    view = queue.wait(job_id, time.monotonic() + 5)
    assert (view.state, view.error, view.prediction) == (
        "failed",
        "out_of_memory",
        None,
    )
    assert ask(queue) != job_id
    store.close()


def test_erasing_a_patient_of_one_tenant_leaves_the_others(
    queue: AssessmentQueue,
) -> None:
    mine, other_patient = ask(queue), ask(queue, "p2")
    other_tenant = ask(queue, tenant="site-b")
    assert queue.erase_patient(tenant="site-a", patient_id=CANARY_ID) == 1
    assert queue.view(mine) is None
    assert queue.view(other_patient) is not None
    assert queue.view(other_tenant) is not None
    assert queue.purge_expired() == 0


def closed_port() -> str:
    """An address on which nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def test_two_rows_that_changed_places_answer_nobody(
    queue: AssessmentQueue, tmp_path: Path
) -> None:
    runner = work(tmp_path)
    jobs = [queue.view(ask(queue, patient)) for patient in ("one", "another")]
    first, second = (job for job in jobs if job is not None)
    assert runner.run(first.job_id) and runner.run(second.job_id)
    change = "UPDATE trivium_jobs SET result_key = ? WHERE job_id = ?"
    with contextlib.closing(sqlite3.connect(tmp_path / "jobs.sqlite3")) as rows, rows:
        rows.execute(change, ("x" * 64, first.job_id))
        rows.execute(change, (first.result_key, second.job_id))
        rows.execute(change, (second.result_key, first.job_id))
    for key in (first.result_key, second.result_key, first.job_id):
        with pytest.raises(JobTamperedError):
            queue.view(key)


@pytest.mark.parametrize(
    ("column", "value"), [("device", "'forged'"), ("created_us", 2**62)]
)
def test_clear_columns_are_not_believed(
    queue: AssessmentQueue, tmp_path: Path, column: str, value: object
) -> None:
    job_id = ask(queue)
    assert work(tmp_path).run(job_id)
    with contextlib.closing(sqlite3.connect(tmp_path / "jobs.sqlite3")) as rows, rows:
        rows.execute(f"UPDATE trivium_jobs SET {column} = {value}")
    if column == "created_us":
        with pytest.raises(JobTamperedError):
            queue.view(job_id)
    else:
        seen = queue.view(job_id)
        assert seen is not None and seen.device == "cpu fp32"
