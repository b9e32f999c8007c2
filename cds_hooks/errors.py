"""What can go wrong in the web process, as an HTTP status and an OperationOutcome.

    WebError                         root; ``status``, ``issue``, ``text`` of the answer
    |-- SettingsError                operator: the process must not start
    |-- CallerError                  the EHR sent something we must refuse
    |   |-- MalformedRequestError    400  not the JSON that the specification asks for
    |   |   `-- WrongHookError       400  the hook does not belong to the service id
    |   |-- UnauthenticatedError     401  empty body; ``reason`` goes to the audit only
    |   |-- LaunchRefusedError       400  a SMART launch that must end
    |   |-- ForeignServerError       403  a fhirServer that is not this tenant's
    |   |-- NotYoursError            403  no session for this assessment
    |   |-- UnknownServiceError      404
    |   |-- MissingDataError         412  required data that cannot be had; names it
    |   |-- BodyTooLargeError        413
    |   `-- MediaTypeError           415
    `-- UnavailableError             503  with Retry-After
        |-- AuditBlockedError        no durable audit record, so no card
        |-- ReplayStoreError         the memory of used tokens did not answer
        `-- KeySetError              no key set of the issuer, so no token can be judged

``text`` is written for the EHR's own operator and is always our own words: no part of
the request, no path, no other system's message (threat TM-I2). K14: every non-2xx
answer carries an OperationOutcome, with the one exception of 401 (J10).
"""

from __future__ import annotations

from typing import Any, TypeVar

Raised = TypeVar("Raised", bound=BaseException)

RETRY_AFTER_S = 5


class WebError(Exception):
    """Root of the tree.

    Args:
        text: Our words for the caller; the class's own sentence when left out.
        reason: Code for the audit record and the log; never sent to the caller.
        expression: FHIRPath-like name of the element at fault ("prefetch.patient").
    """

    status = 500
    issue = "exception"
    text = "The service failed. The failure is recorded."
    reason = "internal"

    def __init__(self, text: str = "", *, reason: str = "", expression: str = ""):
        self.text = text or self.text
        self.reason = reason or self.reason
        self.expression = expression
        super().__init__(f"{self.reason}: {self.text}")


class SettingsError(WebError):
    """A setting is missing or wrong; the process must not start."""

    text = "The settings cannot be used."
    reason = "settings"


class CallerError(WebError):
    """The request must be refused, and the caller can do something about it."""

    status = 400
    issue = "invalid"
    text = "The request is not valid."
    reason = "invalid"


class MalformedRequestError(CallerError):
    """The body is not what the specification asks for."""

    reason = "malformed"


class WrongHookError(MalformedRequestError):
    """The body names a hook that the service id does not serve."""

    issue = "not-supported"
    text = "This service does not serve the hook that the request names."
    reason = "wrong_hook"


class UnauthenticatedError(CallerError):
    """The token is missing or not acceptable; the caller learns nothing more."""

    status = 401
    issue = "login"
    text = "Authentication failed."
    reason = "unauthenticated"


class LaunchRefusedError(CallerError):
    """The SMART launch must end; ``reason`` says why, to the audit log only."""

    reason = "launch_refused"


class ForeignServerError(CallerError):
    """The fhirServer is not on the list of the calling tenant (F5)."""

    status = 403
    issue = "forbidden"
    text = "The fhirServer is not registered for the calling EHR."
    reason = "foreign_fhir_server"


class NotYoursError(CallerError):
    """No session for this assessment; ``reason`` says why, to the audit log only."""

    status = 403
    issue = "forbidden"
    text = "This assessment belongs to another session."
    reason = "not_yours"


class UnknownServiceError(CallerError):
    """No service has this id."""

    status = 404
    issue = "not-found"
    text = "There is no service with this id."
    reason = "unknown_service"


class MissingDataError(CallerError):
    """Required data is missing and cannot be fetched (P6)."""

    status = 412
    issue = "required"
    text = "Required data was not sent and could not be fetched."
    reason = "missing_data"


class BodyTooLargeError(CallerError):
    """More bytes than a hook request may have."""

    status = 413
    issue = "too-long"
    text = "The request body is too large."
    reason = "body_too_large"


class MediaTypeError(CallerError):
    """The body is not declared as JSON."""

    status = 415
    issue = "not-supported"
    text = "The request body must be application/json."
    reason = "media_type"


class UnavailableError(WebError):
    """We cannot answer now and the caller may try again."""

    status = 503
    issue = "transient"
    text = "The service cannot answer now."
    reason = "unavailable"


class AuditBlockedError(UnavailableError):
    """Neither the audit database nor its journal took the record (L10)."""

    reason = "audit_blocked"


class ReplayStoreError(UnavailableError):
    """Whether a token was used before cannot be told, so it is not accepted."""

    reason = "replay_store"


class KeySetError(UnavailableError):
    """The issuer's key set could not be had, so the token cannot be judged."""

    reason = "key_set"


def bare(error: Raised) -> Raised:
    """``error`` without the frames that it came through: they hold tokens (F3)."""
    error.__traceback__ = error.__context__ = error.__cause__ = None
    return error


def operation_outcome(error: WebError) -> dict[str, Any]:
    """The FHIR OperationOutcome of ``error``: class, our words, element at fault."""
    issue: dict[str, Any] = {
        "severity": "error",
        "code": error.issue,
        "diagnostics": error.text,
    }
    if error.expression:
        issue["expression"] = [error.expression]
    return {"resourceType": "OperationOutcome", "issue": [issue]}
