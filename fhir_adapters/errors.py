"""Everything that can go wrong between an EHR's resources and a patient record.

    AdapterError                     root; ``reason`` is a code that is safe to log
    |-- WrongPatientError            the EHR sent somebody else's Patient resource
    |-- MalformedResourceError       bytes or shapes that are not the FHIR we asked for
    |   `-- ResourceTooLargeError    more bytes, depth, entries or pages than allowed
    |-- ValueRejectedError           one measurement that must not be used
    |   |-- UnknownUnitError         no row of the unit table, and nobody guesses
    |   `-- ImplausibleValueError    outside what the table says a patient can have
    |-- ImageUnreadableError         an image exists and could not be decoded
    |-- SmartError                   launch, token or identity not as SMART demands
    |-- OutboundRefusedError         our own guard refused the address
    `-- UpstreamError                the other server failed, with its HTTP ``status``
        `-- UpstreamTimeoutError     it did not answer before the deadline

Messages hold the class's own words and the reason code, never a name, a token, a URL
with its query or text that another system wrote: they end up in logs.
"""

from __future__ import annotations


class AdapterError(Exception):
    """Root of the tree; ``reason`` is a short code, ``detail`` holds no PHI.

    Args:
        reason: Machine-readable code in snake case, for counters and audit records.
        detail: Our own words for a developer; never text from the other side.
    """

    default_reason = "adapter_error"

    def __init__(self, reason: str = "", detail: str = "") -> None:
        self.reason = reason or self.default_reason
        self.detail = detail
        super().__init__(f"{self.reason}: {detail}" if detail else self.reason)

    def __reduce__(self) -> tuple[type[AdapterError], tuple[str, str]]:
        """Cross a process border (the decoding child) without losing the code."""
        return type(self), (self.reason, self.detail)


class WrongPatientError(AdapterError):
    """The resource belongs to another patient than the one in context."""

    default_reason = "wrong_patient"


class MalformedResourceError(AdapterError):
    """Bytes that are no JSON, or JSON that is not the resource asked for."""

    default_reason = "malformed_resource"


class ResourceTooLargeError(MalformedResourceError):
    """Bytes, nesting, entries or pages above the cap."""

    default_reason = "resource_too_large"


class ValueRejectedError(AdapterError):
    """A measurement that was received and must not be used."""

    default_reason = "value_rejected"


class UnknownUnitError(ValueRejectedError):
    """The pair of LOINC code and unit is in no row of the unit table."""

    default_reason = "unknown_unit"


class ImplausibleValueError(ValueRejectedError):
    """The converted value lies outside the plausible range of its code."""

    default_reason = "implausible_value"


class ImageUnreadableError(AdapterError):
    """An image exists and could not be turned into pixels."""

    default_reason = "image_unreadable"


class SmartError(AdapterError):
    """SMART launch, token or identity not as the specification demands."""

    default_reason = "smart_error"


class OutboundRefusedError(AdapterError):
    """Our guard refused an address, an answer's size or its encoding."""

    default_reason = "outbound_refused"


class UpstreamError(AdapterError):
    """The other server answered with an error or not with HTTP at all.

    Args:
        reason: Machine-readable code in snake case.
        detail: Our own words; never text from the other side.
        status: The HTTP status, 0 when there was no answer.
    """

    default_reason = "upstream_error"

    def __init__(self, reason: str = "", detail: str = "", *, status: int = 0) -> None:
        self.status = status
        super().__init__(reason, detail)

    def __reduce__(  # type: ignore[override]
        self,
    ) -> tuple[object, tuple[type[UpstreamError], str, str, int]]:
        """Keep the status too."""
        return _rebuild_upstream, (type(self), self.reason, self.detail, self.status)


class UpstreamTimeoutError(UpstreamError):
    """No answer, or not all of it, before the deadline."""

    default_reason = "upstream_timeout"


def _rebuild_upstream(
    kind: type[UpstreamError], reason: str, detail: str, status: int
) -> UpstreamError:
    """Build an upstream error from its pickled parts."""
    return kind(reason, detail, status=status)
