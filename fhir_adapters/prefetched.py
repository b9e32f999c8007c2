"""What an EHR's prefetch said about one key: four states that never blur.

CDS Hooks distinguishes data, silence, "looked and found nothing" and "tried and
failed". Reading a failure as "found nothing" would hide evidence from a clinician,
so each key carries its state beside its value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class PrefetchState(StrEnum):
    """State of one prefetch key, after CDS Hooks 2.0 "Prefetch Template"."""

    PRESENT = "present"
    """The EHR sent a resource or Bundle: use it, do not fetch."""

    ABSENT = "absent"
    """The EHR did not satisfy this key: fetch it."""

    NULL = "null"
    """The EHR ran the query and found nothing: do not ask again."""

    FAILED = "failed"
    """The EHR sent an OperationOutcome: known to be missing, not known to be empty."""


@dataclass(frozen=True, slots=True)
class PrefetchedKey:
    """One key: ``resource`` is set for PRESENT, ``reason`` a safe code for FAILED."""

    state: PrefetchState
    resource: Mapping[str, Any] | None = None
    reason: str = ""

    @classmethod
    def read(cls, prefetch: Mapping[str, Any], key: str) -> PrefetchedKey:
        """The state of ``key`` in the ``prefetch`` object of a hook request.

        A value that is neither null nor an object is FAILED: the EHR meant to send
        something and we cannot read it, which is not the same as silence.
        """
        if key not in prefetch:
            return cls(PrefetchState.ABSENT)
        value = prefetch[key]
        if value is None:
            return cls(PrefetchState.NULL)
        if not isinstance(value, Mapping):
            return cls(PrefetchState.FAILED, reason="prefetch_malformed")
        if value.get("resourceType") == "OperationOutcome":
            return cls(PrefetchState.FAILED, reason="prefetch_failed")
        return cls(PrefetchState.PRESENT, resource=value)


ABSENT_KEY = PrefetchedKey(PrefetchState.ABSENT)
