"""What the demo sets up: folder, keys, tenant, ports, and the processes.

Everything lies below ``var/demo``: keys of mode 0600 made on the first run, the audit
log that goes on from run to run, and a fresh sandbox and job store for each run, so
that every run shows the whole path and not a result that an earlier one left behind.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

BIN = Path(sys.executable).parent
REPOSITORY = Path(__file__).resolve().parent.parent
PREFERRED_PORTS = {"web": 8000, "ehr": 8100, "auditor": 8200}
START_SECONDS = 90.0


class DemoError(Exception):
    """The demo cannot go on; the text says what to look at."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Paths, addresses and the environment that every process of the demo gets."""

    folder: Path
    checkpoint: Path
    ports: dict[str, int]

    @property
    def public_url(self) -> str:
        """Where the service is."""
        return f"http://127.0.0.1:{self.ports['web']}"

    @property
    def ehr_url(self) -> str:
        """Where the sandbox EHR is."""
        return f"http://127.0.0.1:{self.ports['ehr']}"

    @property
    def auditor_url(self) -> str:
        """Where the auditors' console is."""
        return f"http://127.0.0.1:{self.ports['auditor']}"

    @property
    def store(self) -> Path:
        """The sandbox EHR's folder."""
        return self.folder / "ehr"

    @property
    def log(self) -> Path:
        """What the processes print."""
        return self.folder / "processes.log"

    def environment(self) -> dict[str, str]:
        """The settings of all processes, as ``deploy/env.example`` lists them."""
        keys, jobs, audit = (self.folder / n for n in ("keys", "jobs", "audit"))
        return {
            **os.environ,
            "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}",
            "PYTHONUNBUFFERED": "1",
            "TRIVIUM_BIND": f"127.0.0.1:{self.ports['web']}",
            "TRIVIUM_AUDITOR_BIND": f"127.0.0.1:{self.ports['auditor']}",
            "TRIVIUM_PUBLIC_URL": self.public_url,
            "TRIVIUM_TENANTS_FILE": str(self.folder / "tenants.json"),
            "TRIVIUM_SESSION_KEY_FILE": str(keys / "session.key"),
            "TRIVIUM_REPLAY_FILE": str(jobs / "replay.sqlite3"),
            "TRIVIUM_CHECKPOINT": str(self.checkpoint),
            "TRIVIUM_JOBS_URL": f"sqlite:///{jobs / 'jobs.sqlite3'}",
            "TRIVIUM_BROKER_URL": f"filesystem://{jobs / 'broker'}",
            "TRIVIUM_PAYLOAD_KEY_FILE": str(keys / "payload.key"),
            "TRIVIUM_QUEUE": "trivium.cpu",
            "TRIVIUM_AUDIT_URL": f"sqlite:///{audit / 'evidence.sqlite3'}",
            "TRIVIUM_AUDIT_KEYS_URL": f"sqlite:///{audit / 'keys.sqlite3'}",
            "TRIVIUM_AUDIT_KEK_FILE": str(keys / "audit-kek.key"),
            "TRIVIUM_AUDIT_INDEX_KEY_FILE": str(keys / "audit-index.key"),
            "TRIVIUM_AUDIT_NODE_KEY_FILE": str(keys / "audit-node.key"),
            "TRIVIUM_AUDIT_JOURNAL": str(audit / "journal"),
            "TRIVIUM_AUDIT_CHECKPOINTS": str(self.folder / "anchor" / "checkpoints"),
        }


def prepare(
    folder: Path,
    checkpoint: Path,
    preferred: Mapping[str, int] = PREFERRED_PORTS,
) -> Stage:
    """Lay out the folder; keys and audit log stay from run to run.

    Args:
        folder: where everything of this stage lies.
        checkpoint: the model's folder.
        preferred: port of each server; a taken one, or 0, becomes any free one.
    """
    for name in ("ehr", "jobs"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in ("", "keys", "jobs", "audit", "anchor", "ehr"):
        (folder / name).mkdir(parents=True, exist_ok=True, mode=0o700)
    ports = {name: _port(wanted) for name, wanted in preferred.items()}
    stage = Stage(folder, checkpoint, ports)
    for name in ("session.key", "payload.key"):
        _new_key(folder / "keys" / name)
    (folder / "tenants.json").write_text(json.dumps(_tenants(stage), indent=2))
    call(stage, "trivium-audit", "init", "--if-missing")
    return stage


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Hold the folder for this run: a second demo would empty it under the first.

    Raises:
        DemoError: another demo is using the folder.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise DemoError(f"another demo is running in {folder}") from error
        yield


def call(stage: Stage, program: str, *arguments: str) -> str:
    """Run one of our own commands with the stage's settings; its standard output.

    Raises:
        DemoError: it failed; its own message is passed on.
    """
    done = subprocess.run(
        [str(BIN / program), *arguments],
        env=stage.environment(),
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        raise DemoError(f"{program} {' '.join(arguments)} failed: {done.stdout}")
    return done.stdout


@contextmanager
def processes(stage: Stage) -> Iterator[None]:
    """The four processes by honcho, and the sandbox EHR beside them."""
    ehr = [sys.executable, "-m", "deploy.sandbox", "serve", "--store", str(stage.store)]
    ehr += ["--port", str(stage.ports["ehr"]), "--service", stage.public_url]
    honcho = [str(BIN / "honcho"), "--procfile", "deploy/Procfile", "start"]
    with stage.log.open("w") as log:
        started = [
            subprocess.Popen(
                command,
                env=stage.environment(),
                cwd=REPOSITORY,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            for command in (honcho, ehr)
        ]
        try:
            for url in (f"{stage.public_url}/health", f"{stage.ehr_url}/fhir/metadata"):
                _await(url, stage, started)
            yield
        finally:
            for process in started:
                _stop(process)


def _await(url: str, stage: Stage, started: list[subprocess.Popen[bytes]]) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        if any(process.poll() is not None for process in started):
            break
        try:
            if httpx.get(url, timeout=2, trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    tail = "\n".join(stage.log.read_text().splitlines()[-25:])
    raise DemoError(f"{url} did not answer; last lines of {stage.log}:\n{tail}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _port(wanted: int) -> int:
    """The wanted port when it is free, else any free one."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise DemoError("no free port on 127.0.0.1")


def _new_key(path: Path) -> None:
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(secrets.token_hex(32))


def _tenants(stage: Stage) -> dict[str, object]:
    scopes = "launch openid fhirUser patient/Patient.r patient/Observation.rs "
    scopes += "patient/DiagnosticReport.rs patient/ImagingStudy.rs"
    ehr = stage.ehr_url
    sandbox = {
        "id": "sandbox",
        "name": "Sandbox EHR",
        "issuers": [{"iss": ehr, "jku": f"{ehr}/jwks.json"}],
        "fhir_servers": [f"{ehr}/fhir"],
        "dicomweb": [f"{ehr}/dicomweb"],
        "loopback": True,
        "private_hosts": {},
        "frame_ancestors": [ehr],
        "cors_origins": [ehr],
        "patient_identifier_systems": [],
        "smart": {
            "issuer": f"{ehr}/fhir",
            "client_id": "trivium",
            "scopes": scopes,
        },
    }
    return {"tenants": [sandbox]}
