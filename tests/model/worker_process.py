"""Starts and ends real Celery workers for the tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from model.settings import JobSettings

START_S = 90.0


def environment(settings: JobSettings, **other: str) -> dict[str, str]:
    """The process environment that names these settings."""
    return {
        **os.environ,
        "TRIVIUM_PAYLOAD_KEY_FILE": str(settings.payload_key_file),
        "TRIVIUM_JOBS_URL": settings.jobs_url,
        "TRIVIUM_BROKER_URL": settings.broker_url,
        "TRIVIUM_LEASE_S": str(settings.lease_s),
        "TRIVIUM_UNCLAIMED_S": str(settings.unclaimed_s),
        "TRIVIUM_SCAN_S": "0.2",
        "TRIVIUM_THREADS": "1",
        "TRIVIUM_DEVICE": "cpu",
        **other,
    }


class WorkerProcess:
    """One worker; use as a context manager."""

    def __init__(
        self, folder: Path, env: Mapping[str, str], app: str = "model.inference.worker"
    ) -> None:
        self.log = folder / f"worker-{time.monotonic_ns()}.log"
        command = [sys.executable, "-m", "celery", "-A", app, "worker"]
        command += ["-Q", "trivium.cpu", "--pool", "solo", "--loglevel", "DEBUG"]
        command += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                command, env=dict(env), stdout=output, stderr=subprocess.STDOUT
            )

    def __enter__(self) -> WorkerProcess:
        """Wait until it takes messages."""
        wait_until(lambda: " ready." in self.text() or not self.alive(), START_S)
        if not self.alive():
            raise AssertionError(self.text())
        return self

    def __exit__(self, *_: object) -> None:
        """End it, by force if it must be."""
        if self.alive():
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()

    def alive(self) -> bool:
        """True while it runs."""
        return self.process.poll() is None

    def kill(self) -> None:
        """As the kernel does when memory runs out."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(30)

    def text(self) -> str:
        """All that it wrote so far."""
        return self.log.read_text("utf-8", errors="replace")


def wait_until(holds: Callable[[], bool], seconds: float) -> None:
    """Return as soon as ``holds()`` is true.

    Raises:
        AssertionError: it was not, in all that time.
    """
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() >= deadline:
            raise AssertionError(f"not within {seconds} s")
        time.sleep(0.02)
