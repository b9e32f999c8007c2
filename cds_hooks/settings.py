"""Settings of the web process; the only reader of the environment in this package.

Without its session key, its tenants and the keys of job store and audit log the process
does not start. Every limit has its unit in its name or beside it.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from audit.errors import AuditConfigurationError
from audit.settings import AuditSettings, read_settings
from cds_hooks.errors import SettingsError
from cds_hooks.tenants import Tenant, https_or_loopback, parse_tenants
from fhir_adapters.access.smart_keys import KeyRing
from fhir_adapters.errors import SmartError
from model.errors import ConfigurationError
from model.settings import DEMO_CHECKPOINT, JobSettings

MIN_SESSION_KEY_BYTES = 32
MILLISECOND = 0.001
NUMBERS: Mapping[str, tuple[str, float]] = {
    "TRIVIUM_DEADLINE_MS": ("deadline_s", MILLISECOND),
    "TRIVIUM_RESERVE_MS": ("reserve_s", MILLISECOND),
    "TRIVIUM_GATHER_LIMIT_S": ("gather_limit_s", 1.0),
    "TRIVIUM_REUSE_S": ("reuse_s", 1.0),
}
COUNTS = {
    "TRIVIUM_GATHER_THREADS": "gather_threads",
    "TRIVIUM_FETCH_THREADS": "fetch_threads",
    "TRIVIUM_MAX_BODY_BYTES": "max_body_bytes",
}


@dataclass(frozen=True, slots=True)
class WebSettings:
    """Everything that ``create_app`` needs; see ``from_environment`` for the names."""

    public_url: str
    """Base URL as EHRs call it, no trailing slash; token audiences are built on it."""
    tenants: tuple[Tenant, ...]
    """The EHRs that may call."""
    session_key: bytes = field(repr=False)
    """Signs the SMART app's session cookie; 32 bytes or more."""
    jobs: JobSettings
    """The job store and broker."""
    audit: AuditSettings
    """The audit log."""
    checkpoint: Path = DEMO_CHECKPOINT
    """Folder of the model whose digest is asked for; only its manifest is read here."""
    deadline_s: float = 0.45
    """L1: a hook is answered within so many seconds of its acceptance."""
    reserve_s: float = 0.15
    """L2: the end of the deadline that is kept for the card and its audit record."""
    gather_limit_s: float = 20.0
    """Longest gathering of one patient's evidence, most of it after the answer."""
    reuse_s: float = 120.0
    """Evidence that came in after its answer serves the next same hook so long."""
    gather_threads: int = 16
    """Patients gathered at the same time."""
    fetch_threads: int = 48
    """Requests to FHIR and DICOMweb servers in flight at the same time."""
    max_body_bytes: int = 5 * 1024 * 1024
    """Largest hook request."""
    replay_file: Path = Path("var/replay.sqlite3")
    """Used token ids, shared by the processes of this host."""
    smart_keys: KeyRing | None = None
    """Our private keys at EHRs where we are a confidential client; None without any."""

    def __post_init__(self) -> None:
        if not https_or_loopback(self.public_url) or self.public_url.endswith("/"):
            raise SettingsError(
                "TRIVIUM_PUBLIC_URL must be https (http on loopback only), "
                "without a slash at its end"
            )
        if not self.tenants:
            raise SettingsError("TRIVIUM_TENANTS_FILE names no tenant")
        if len(self.session_key) < MIN_SESSION_KEY_BYTES:
            raise SettingsError("The session key is shorter than 32 bytes")
        for name, (attribute, _) in NUMBERS.items():
            if not 0 < getattr(self, attribute) < float("inf"):
                raise SettingsError(f"{name} must be a number above 0")
        for name, attribute in COUNTS.items():
            if getattr(self, attribute) < 1:
                raise SettingsError(f"{name} must be 1 or more")
        signing = any(
            t.smart and t.smart.client_auth == "private_key_jwt" for t in self.tenants
        )
        if signing and self.smart_keys is None:
            raise SettingsError("A tenant needs TRIVIUM_SMART_KEYS_FILE to sign with")
        if self.reserve_s >= self.deadline_s:
            raise SettingsError("TRIVIUM_RESERVE_MS must be below TRIVIUM_DEADLINE_MS")

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> WebSettings:
        """Read the settings, by default from the process environment.

        Raises:
            SettingsError: something is missing, unreadable or out of range.
        """
        env = os.environ if environ is None else environ
        given: dict[str, Any] = {}
        for name, (attribute, unit) in NUMBERS.items():
            if env.get(name):
                given[attribute] = _number(env, name) * unit
        for name, attribute in COUNTS.items():
            if env.get(name):
                given[attribute] = int(_number(env, name))
        if env.get("TRIVIUM_REPLAY_FILE"):
            given["replay_file"] = Path(env["TRIVIUM_REPLAY_FILE"]).expanduser()
        if env.get("TRIVIUM_CHECKPOINT"):
            given["checkpoint"] = Path(env["TRIVIUM_CHECKPOINT"]).expanduser()
        if env.get("TRIVIUM_SMART_KEYS_FILE"):
            given["smart_keys"] = read_smart_keys(Path(env["TRIVIUM_SMART_KEYS_FILE"]))
        try:
            jobs = JobSettings.from_environment(env)
            audit = read_settings(env)
        except (ConfigurationError, AuditConfigurationError) as error:
            raise SettingsError(str(error)) from error
        return cls(
            public_url=_required(env, "TRIVIUM_PUBLIC_URL"),
            tenants=read_tenants(Path(_required(env, "TRIVIUM_TENANTS_FILE"))),
            session_key=read_key(Path(_required(env, "TRIVIUM_SESSION_KEY_FILE"))),
            jobs=jobs,
            audit=audit,
            **given,
        )


def read_tenants(path: Path) -> tuple[Tenant, ...]:
    """The tenants file, parsed and validated.

    Raises:
        SettingsError: unreadable, not JSON, or a tenant that cannot be used.
    """
    try:
        document = json.loads(path.expanduser().read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError("TRIVIUM_TENANTS_FILE cannot be read as JSON") from error
    return parse_tenants(document)


def read_smart_keys(path: Path) -> KeyRing:
    """The private keys of our SMART client: a JWKS file of mode 0600.

    Raises:
        SettingsError: missing, readable by others, or not such a key set.
    """
    try:
        return KeyRing.read(path.expanduser())
    except SmartError as error:
        raise SettingsError("TRIVIUM_SMART_KEYS_FILE cannot be used") from error


def read_key(path: Path) -> bytes:
    """The bytes of a key file that nobody else can read.

    Raises:
        SettingsError: missing, or readable by group or others.
    """
    try:
        if stat.S_IMODE(path.expanduser().stat().st_mode) & 0o077:
            raise SettingsError("TRIVIUM_SESSION_KEY_FILE must have mode 0600")
        return path.expanduser().read_bytes().strip()
    except OSError as error:
        raise SettingsError("TRIVIUM_SESSION_KEY_FILE cannot be read") from error


def _required(env: Mapping[str, str], name: str) -> str:
    if not env.get(name):
        raise SettingsError(f"{name} is not set: the web process needs it to start")
    return env[name]


def _number(env: Mapping[str, str], name: str) -> float:
    try:
        return float(env[name])
    except ValueError:
        raise SettingsError(f"{name} is not a number") from None
