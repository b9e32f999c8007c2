"""A worker dies in the middle of a job: the card says so, the job is done once."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.end_to_end.plugin import ASSESSMENT, Plugin, card, state
from tests.services import wait_until

PATIENT = "synthetic-20-1"


def start_slow_worker(plugin: Plugin, folder: Path) -> Path:
    """A real Celery worker whose model takes an hour; the log of its starts."""
    started = folder / "started"
    started.touch()
    command = [sys.executable, "-m", "celery", "-A", "tests.chaos.slow_worker"]
    command += ["worker", "--queues", "trivium.cpu", "--pool", "solo"]
    command += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    plugin.spawn("slow", command, SLOW_WORKER_LOG=str(started))
    return started


def test_a_job_whose_worker_was_killed_is_done_once_by_another(
    own_plugin: Plugin, tmp_path: Path
) -> None:
    plugin = own_plugin
    plugin.extra = {
        "TRIVIUM_LEASE_S": "2",
        "TRIVIUM_SCAN_S": "0.5",
        "TRIVIUM_UNCLAIMED_S": "2",
    }
    plugin.patients(1)
    plugin.start("ehr", "web")
    started = start_slow_worker(plugin, tmp_path)
    first = plugin.hook(PATIENT)
    assert state(first) == "not-ready"
    assert first.elapsed_ms < 5000
    text = f"{card(first)['summary']} {card(first)['detail']}".lower()
    assert "not ready" in text and "%" not in card(first)["summary"]
    wait_until(lambda: bool(started.read_text()), "the job's start", 60)
    plugin.kill("slow")
    assert state(plugin.hook(PATIENT)) == "not-ready"
    plugin.start("worker")
    done = card(plugin.ready(PATIENT, 90))
    assert done["extension"][ASSESSMENT]["state"] == "ready"
    again = card(plugin.hook(PATIENT))
    for name in ("predictionId", "jobId"):
        one, two = (c["extension"][ASSESSMENT][name] for c in (done, again))
        assert one == two
    assert plugin.verify()["verified"] is True
