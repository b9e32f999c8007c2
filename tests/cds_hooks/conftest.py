"""A running service around a real audit log and a real job store, for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cds_hooks.ehr import Ehr, running_ehr
from tests.cds_hooks.service import Service, audit_files, running_service


@pytest.fixture(scope="session")
def fresh_audit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Key files and empty audit databases, made once and copied for each service."""
    return audit_files(tmp_path_factory.mktemp("audit"))


@pytest.fixture
def ehr() -> Iterator[Ehr]:
    """An EHR of this test's own."""
    with running_ehr() as running:
        yield running


@pytest.fixture
def start(
    ehr: Ehr, tmp_path: Path, fresh_audit: Path
) -> Iterator[Callable[..., Service]]:
    """Start a service with settings of the test's choice; closed at the end."""
    running: list[Any] = []

    def begin(**changes: Any) -> Service:
        context = running_service(ehr, tmp_path, fresh_audit, **changes)
        running.append(context)
        return context.__enter__()

    yield begin
    for context in reversed(running):
        context.__exit__(None, None, None)


@pytest.fixture(scope="module")
def shared(
    tmp_path_factory: pytest.TempPathFactory, fresh_audit: Path
) -> Iterator[Service]:
    """One service for the tests of a module that change nothing in it."""
    folder = tmp_path_factory.mktemp("shared")
    with running_ehr() as ehr, running_service(ehr, folder, fresh_audit) as service:
        yield service


@pytest.fixture
def service(start: Callable[..., Service]) -> Service:
    """A service with a generous deadline and a worker that answers at once."""
    return start()
