"""The real processes on free loopback ports, each of which a test may kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from deploy.demo_stage import REPOSITORY, Stage, call, prepare
from deploy.sandbox.cds_client import HookCall, call_hook
from deploy.sandbox.ehr import Ehr, open_ehr
from deploy.sandbox.synthetic_cases import add_synthetic
from tests.services import wait_until

ASSESSMENT = "dev.trivium.assessment"
DEMO = REPOSITORY / "model" / "checkpoints" / "demo"
SMALL = REPOSITORY / "model" / "checkpoints" / "small"
ANY_PORT = {"web": 0, "ehr": 0, "auditor": 0}


@dataclass
class Plugin:
    """One stage with its processes by name."""

    stage: Stage
    extra: dict[str, str] = field(default_factory=dict)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @classmethod
    def at(cls, folder: Path, checkpoint: Path = DEMO) -> Plugin:
        """Keys, databases and an empty EHR below ``folder``; nothing runs yet."""
        return cls(prepare(folder, checkpoint, ANY_PORT))

    @property
    def ehr(self) -> Ehr:
        """The sandbox EHR's folder, opened by this process as its CDS client."""
        stage = self.stage
        return open_ehr(stage.store, stage.ehr_url, stage.public_url)

    def patients(self, n: int, seed: int = 20) -> list[str]:
        """Add synthetic patients; before the EHR starts."""
        return add_synthetic(self.ehr.store, n, seed, datetime.now(UTC), quiet=True)

    def start(self, *names: str) -> None:
        """Start processes and wait until each answers; "ehr", "web" or "worker"."""
        for name in names:
            self.spawn(name, self._command(name))
        addresses = {
            "web": f"{self.stage.public_url}/health",
            "ehr": f"{self.stage.ehr_url}/fhir/metadata",
            "auditor": f"{self.stage.auditor_url}/login",
        }
        for name in names:
            if name in addresses:
                url = addresses[name]
                wait_until(lambda url=url: answers(url), f"{name}\n{self.tail()}", 60)

    def spawn(self, name: str, command: list[str], **names: str) -> None:
        """Start one process under ``name`` with further environment ``names``."""
        with self.stage.log.open("ab") as log:
            self.processes[name] = subprocess.Popen(
                command,
                env={**self.stage.environment(), **self.extra, **names},
                cwd=REPOSITORY,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def kill(self, name: str) -> None:
        """SIGKILL the whole group of a process, as a crash or the kernel would."""
        process = self.processes.pop(name)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def stop(self) -> None:
        """Terminate what still runs."""
        for process in self.processes.values():
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
        for process in self.processes.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def hook(self, patient: str, **options: Any) -> HookCall:
        """Call the patient-view hook as the EHR does."""
        return call_hook(self.ehr, patient, **options)

    def ready(self, patient: str, seconds: float = 60.0) -> HookCall:
        """Call until the card is no longer "not ready"."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            answer = self.hook(patient)
            if state(answer) != "not-ready":
                return answer
            time.sleep(0.2)
        raise AssertionError(f"not ready within {seconds} s\n{self.tail()}")

    def verify(self) -> dict[str, Any]:
        """The verdict of ``trivium-audit verify``."""
        report: dict[str, Any] = json.loads(
            call(self.stage, "trivium-audit", "verify", "--json")
        )
        return report

    def tail(self) -> str:
        """The last lines that the processes printed."""
        if not self.stage.log.exists():
            return ""
        return "\n".join(self.stage.log.read_text(errors="replace").splitlines()[-20:])

    def _command(self, name: str) -> list[str]:
        if name == "ehr":
            command = [sys.executable, "-m", "deploy.sandbox", "serve"]
            command += ["--store", str(self.stage.store)]
            command += ["--port", str(self.stage.ports["ehr"])]
            return [*command, "--service", self.stage.public_url]
        return procfile_command(name)


def procfile_command(name: str) -> list[str]:
    """A line of deploy/Procfile, run by a shell as honcho does."""
    for line in (REPOSITORY / "deploy" / "Procfile").read_text().splitlines():
        label, _, command = line.partition(": ")
        if label == name:
            return ["/bin/sh", "-c", f"exec {command}"]
    raise AssertionError(f"deploy/Procfile has no {name}")


def answers(url: str) -> bool:
    """Whether a GET gives 200."""
    try:
        return httpx.get(url, timeout=2, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def card(answer: HookCall) -> dict[str, Any]:
    """The one card of an answer."""
    assert answer.status == 200, answer.body
    assert len(answer.cards) == 1, answer.body
    return answer.cards[0]


def state(answer: HookCall) -> str:
    """ready, not-ready or could-not-assess."""
    return str(card(answer)["extension"][ASSESSMENT]["state"])
