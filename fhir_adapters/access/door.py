"""What the clients need of a door, so that one may stand in front of another.

A caller can pass a door that records every access for the audit log and hands the call
on to the guarded one (:class:`.outbound.OutboundDoor`), which does the guarding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from fhir_adapters.access.outbound import Response
from fhir_adapters.access.outbound_url import OutboundUrl


class Door(Protocol):
    """The three calls of :class:`.outbound.OutboundDoor` that reading needs."""

    def check(self, url: str) -> OutboundUrl:
        """Judge a URL without opening a socket."""

    def get(
        self,
        url: str,
        headers: Mapping[str, str] | None = None,
        deadline: float | None = None,
        *,
        max_bytes: int | None = None,
    ) -> Response:
        """GET a URL; see the guarded door."""

    def post_form(
        self,
        url: str,
        form: Mapping[str, str] | Sequence[tuple[str, str]],
        headers: Mapping[str, str] | None = None,
        deadline: float | None = None,
        *,
        max_bytes: int | None = None,
    ) -> Response:
        """POST a form; see the guarded door."""
