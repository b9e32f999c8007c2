"""A PostgreSQL server of our own on a free loopback port, or a skip that says why."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

UNTESTED = "PostgreSQL is not here: the audit log on PostgreSQL is not tested"


def binaries() -> Path | None:
    """Folder of the newest installed server."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


def absent() -> None:
    """Skip, or fail where the whole suite must run."""
    if os.environ.get("CI") == "true":
        pytest.fail(UNTESTED)
    pytest.skip(UNTESTED)


@contextmanager
def server() -> Iterator[str]:
    """Yields ``host:port`` of a fresh cluster whose superuser is ``postgres``."""
    folder = binaries()
    if folder is None:
        absent()
    # The server refuses to run as root, so it runs as the package's own user.
    as_user: list[str] = []
    home = Path(tempfile.mkdtemp(prefix="trivium-pg-"))
    if os.geteuid() == 0:
        try:
            owner = pwd.getpwnam("postgres")
        except KeyError:
            absent()
        os.chown(home, owner.pw_uid, owner.pw_gid)
        as_user = ["runuser", "-u", "postgres", "--"]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def call(*command: str) -> None:
        subprocess.run(
            [*as_user, *command], check=True, cwd=home, stdout=subprocess.DEVNULL
        )

    data = str(home / "data")
    call(str(folder / "initdb"), "-D", data, "-U", "postgres", "-A", "trust", "-N")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -k {home}"
    control = str(folder / "pg_ctl")
    log = str(home / "log")
    call(control, "-D", data, "-o", options, "-l", log, "-w", "-t", "60", "start")
    try:
        yield f"127.0.0.1:{port}"
    finally:
        call(control, "-D", data, "-m", "immediate", "-w", "stop")
        shutil.rmtree(home, ignore_errors=True)
