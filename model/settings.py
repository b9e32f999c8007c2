"""Settings of the job queue and of the worker; the only reader of the environment here.

Each process reads its settings once and passes them down. There is no default for the
payload key: without it neither web nor worker starts. The other defaults are those of
the embedded installation: files below ``var/`` of the working directory.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.errors import ConfigurationError

DEVICES = ("auto", "cpu", "cuda")
EXPLANATIONS = ("full", "brief")
JOB_TEXTS = {
    "TRIVIUM_JOBS_URL": "jobs_url",
    "TRIVIUM_BROKER_URL": "broker_url",
    "TRIVIUM_QUEUE": "queue",
}
JOB_NUMBERS = {
    "TRIVIUM_JOB_TTL_S": "job_ttl_s",
    "TRIVIUM_RESULT_TTL_S": "result_ttl_s",
    "TRIVIUM_LEASE_S": "lease_s",
    "TRIVIUM_UNCLAIMED_S": "unclaimed_s",
    "TRIVIUM_MAX_ATTEMPTS": "max_attempts",
    "TRIVIUM_PUBLISH_TIMEOUT_S": "publish_timeout_s",
    "TRIVIUM_JOBS_TIMEOUT_S": "store_timeout_s",
    "TRIVIUM_MAX_PAYLOAD_BYTES": "max_payload_bytes",
    "TRIVIUM_MAX_FILM_SIDE": "max_film_side",
}
DEMO_CHECKPOINT = Path(__file__).parent / "checkpoints" / "demo"
WORKER_NUMBERS = {
    "TRIVIUM_THREADS": "threads",
    "TRIVIUM_SCAN_S": "scan_s",
    "TRIVIUM_MAX_EVIDENCE_DAYS": "max_evidence_days",
    "TRIVIUM_MAX_FILM_DAYS": "max_film_days",
    "TRIVIUM_MAX_NOTE_DAYS": "max_note_days",
    "TRIVIUM_MAX_VALUES_DAYS": "max_values_days",
}


@dataclass(frozen=True, slots=True)
class JobSettings:
    """What web and worker must agree on; see ``from_environment`` for the names."""

    payload_key_file: Path
    """32-byte keys, oldest to newest, one a line (hex); not readable by others."""
    jobs_url: str = "sqlite:///var/jobs.sqlite3"
    """SQLAlchemy URL of the job store."""
    broker_url: str = "filesystem://var/broker"
    """Celery broker: ``filesystem:///folder``, ``redis://`` or ``amqp://``."""
    job_ttl_s: float = 600.0
    """Life of a payload that has no result yet, in seconds (threat TM-I3)."""
    result_ttl_s: float = 14_400.0
    """Life of a result, and of its payload for the evidence page, in seconds."""
    lease_s: float = 30.0
    """A worker that has not renewed its claim for so many seconds has lost it."""
    unclaimed_s: float = 5.0
    """A message not answered by a claim after so many seconds is sent again."""
    max_attempts: int = 3
    """Claims after which a job fails: a payload that kills workers must end."""
    queue: str = "trivium.cpu"
    """Name of the Celery queue: ``trivium.cpu`` or ``trivium.cuda``."""
    publish_timeout_s: float = 0.15
    """Longest wait for the broker inside a hook, in seconds."""
    store_timeout_s: float = 0.4
    """Longest wait for a lock or connection of the job store in the web process."""
    max_payload_bytes: int = 64 * 1024 * 1024
    """Largest encoded record."""
    max_film_side: int = 1024
    """Films with more pixels a side cross the queue as means over squares."""

    def __post_init__(self) -> None:
        for name, field in JOB_NUMBERS.items():
            if not 0 < getattr(self, field) < float("inf"):
                raise ConfigurationError(f"{name} must be a number above 0")
        if not self.queue:
            raise ConfigurationError("TRIVIUM_QUEUE must not be empty")

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> JobSettings:
        """Read the settings, by default from the process environment.

        Raises:
            ConfigurationError: the payload key file is not named, or a number is none.
        """
        env = os.environ if environ is None else environ
        if not env.get("TRIVIUM_PAYLOAD_KEY_FILE"):
            raise ConfigurationError(
                "TRIVIUM_PAYLOAD_KEY_FILE is not set: no process starts without it"
            )
        # CUDA workers listen on a queue of their own. "auto" counts as CPU, because
        # the web process has no device and must name the same queue.
        cuda = env.get("TRIVIUM_DEVICE") == "cuda"
        given: dict[str, Any] = {"queue": "trivium.cuda" if cuda else "trivium.cpu"}
        for name, field in JOB_TEXTS.items():
            if env.get(name):
                given[field] = env[name]
        for name, field in JOB_NUMBERS.items():
            if env.get(name):
                given[field] = _number(env, name)
        for field in ("max_attempts", "max_payload_bytes", "max_film_side"):
            if field in given:
                given[field] = int(given[field])
        return cls(
            payload_key_file=Path(env["TRIVIUM_PAYLOAD_KEY_FILE"]).expanduser(), **given
        )


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """What only the worker needs."""

    checkpoint: Path = DEMO_CHECKPOINT
    """Folder of the model."""
    device: str = "auto"
    """``auto`` takes CUDA where there is one; ``cuda`` refuses to start without it."""
    threads: int = 0
    """Torch threads of this worker; 0 means the number of its cores."""
    scan_s: float = 2.0
    """Pause between two looks for jobs whose message or worker was lost."""

    max_evidence_days: float = 30.0
    """The model abstains when its newest evidence is older; 0 means any age."""
    explanation: str = "full"
    """``full``, or ``brief`` without phrases, sections and counterfactual."""
    max_film_days: float = 0.0
    """A warning when the newest film is older; 0 means as ``max_evidence_days``."""
    max_note_days: float = 0.0
    """A warning when the newest note is older; 0 means as ``max_evidence_days``."""
    max_values_days: float = 0.0
    """A warning when the newest value is older; 0 means as ``max_evidence_days``."""

    def __post_init__(self) -> None:
        if self.device not in DEVICES:
            raise ConfigurationError(
                f"TRIVIUM_DEVICE must be one of {', '.join(DEVICES)}"
            )
        if self.explanation not in EXPLANATIONS:
            raise ConfigurationError(
                f"TRIVIUM_EXPLANATION must be one of {', '.join(EXPLANATIONS)}"
            )
        if self.threads < 0:
            raise ConfigurationError("TRIVIUM_THREADS must not be negative")
        if not self.scan_s > 0:
            raise ConfigurationError("TRIVIUM_SCAN_S must be above 0")
        for name, field in WORKER_NUMBERS.items():
            if field.endswith("_days") and not getattr(self, field) >= 0:
                raise ConfigurationError(f"{name} must not be negative")

    @classmethod
    def from_environment(
        cls, environ: Mapping[str, str] | None = None
    ) -> WorkerSettings:
        """Read the settings, by default from the process environment.

        Raises:
            ConfigurationError: an unknown device, or a number that is none.
        """
        env = os.environ if environ is None else environ
        given: dict[str, Any] = {}
        for name, field in WORKER_NUMBERS.items():
            if env.get(name):
                given[field] = _number(env, name)
        if "threads" in given:
            given["threads"] = int(given["threads"])
        return cls(
            checkpoint=Path(env.get("TRIVIUM_CHECKPOINT") or DEMO_CHECKPOINT),
            device=env.get("TRIVIUM_DEVICE") or "auto",
            explanation=env.get("TRIVIUM_EXPLANATION") or "full",
            **given,
        )


def _number(env: Mapping[str, str], name: str) -> float:
    try:
        return float(env[name])
    except ValueError:
        raise ConfigurationError(f"{name} is not a number") from None
