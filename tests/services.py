"""Real servers for tests: found, started on free loopback ports, stopped again.

A machine that lacks one skips the tests that need it and says so at the end of the run;
with CI=true a missing server is a failure, because a green run must mean that all of
it was tested.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def binary(name: str, *candidates: str) -> str:
    """Path of a server's program, or a visible skip (a failure when CI=true)."""
    for candidate in candidates or (name,):
        found = shutil.which(candidate)
        if found:
            return found
    message = f"{name} is not installed: deploy/install-test-services.sh installs it"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


def data_folder(name: str) -> Path:
    """A folder of the optional data, or a skip that names what is not tested."""
    root = os.environ.get("TRIVIUM_DATA")
    if not root:
        pytest.skip(f"TRIVIUM_DATA is not set: nothing of {name} is tested")
    return Path(root).resolve() / name


def free_port() -> int:
    """A TCP port on 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(ready: Callable[[], bool], what: str, seconds: float = 30.0) -> None:
    """Poll until ``ready()``; an AssertionError names what did not come up."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if ready():
            return
        time.sleep(0.05)
    raise AssertionError(f"{what} did not come up within {seconds:.0f} s")


def listening(port: int) -> bool:
    """Whether something accepts connections on this loopback port."""
    with socket.socket() as probe:
        probe.settimeout(0.2)
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def running(command: list[str], **popen: object) -> Iterator[subprocess.Popen[bytes]]:
    """A child process that is terminated, then killed, when the block ends."""
    process = subprocess.Popen(command, **popen)  # type: ignore[call-overload]
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def redis_server(folder: Path) -> Iterator[str]:
    """A private Redis without persistence; yields its URL."""
    program, port = binary("redis-server"), free_port()
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    with running([*command, "--dir", str(folder)], stdout=subprocess.DEVNULL):
        wait_until(lambda: listening(port), "redis-server")
        yield f"redis://127.0.0.1:{port}/0"


@contextmanager
def rabbitmq_server(folder: Path) -> Iterator[str]:
    """A private RabbitMQ node; yields its AMQP URL."""
    program, port, distribution = (
        binary("rabbitmq-server", "/usr/lib/rabbitmq/bin/rabbitmq-server"),
        free_port(),
        free_port(),
    )
    environment = {
        **os.environ,
        "HOME": str(folder),
        "RABBITMQ_NODENAME": f"trivium-{port}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(distribution),
        "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
    }
    with running(
        [program],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ):
        wait_until(lambda: listening(port), "rabbitmq-server", 90)
        yield f"amqp://guest:guest@127.0.0.1:{port}//"
