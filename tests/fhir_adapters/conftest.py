"""Fixtures of the adapter tests: a hostile FHIR server and the door to it."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from fhir_adapters.access.outbound import OutboundDoor
from fhir_adapters.access.outbound_policy import OutboundPolicy
from tests.fhir_adapters.fhir_server import FhirServer


@pytest.fixture
def server() -> Iterator[FhirServer]:
    with FhirServer().running() as running:
        yield running


@pytest.fixture
def door(server: FhirServer) -> Iterator[OutboundDoor]:
    policy = OutboundPolicy(
        frozenset({server.origin}), loopback=True, max_bytes=200_000
    )
    with OutboundDoor(policy) as opened:
        yield opened


@pytest.fixture
def stop() -> Iterator[threading.Event]:
    """Set at the end of the test, so that dripping routes end."""
    event = threading.Event()
    yield event
    event.set()
