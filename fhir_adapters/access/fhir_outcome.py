"""What an OperationOutcome or an HTTP status means, as a typed error without its text.

``diagnostics`` and ``details`` are written by the other side and may hold a patient's
name, so they are never read. ``issue.code`` is a closed list of FHIR R4 (value set
issue-type): a code of that list is safe to log and tells an operator what happened; any
other text there is left out.
"""

from __future__ import annotations

from typing import Any

from fhir_adapters.access.outbound import Response
from fhir_adapters.errors import MalformedResourceError, UpstreamError
from fhir_adapters.fhir_json import parse_json
from fhir_adapters.resources.elements import children, resource_type, text

ISSUE_CODES = frozenset(
    "invalid structure required value invariant security login unknown expired "
    "forbidden suppressed processing not-supported duplicate multiple-matches "
    "not-found deleted too-long code-invalid extension too-costly business-rule "
    "conflict transient lock-error no-store exception timeout incomplete throttled "
    "informational".split()
)
_SEVERITIES = ("fatal", "error", "warning", "information")
_REASONS = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    410: "gone",
    429: "rate_limited",
}
_MAX_ISSUES = 50
_MAX_OUTCOME_BYTES = 64 * 1024


def http_error(answer: Response) -> UpstreamError:
    """The error of an answer that is not 200: by its status, and its worst issue."""
    reason = _REASONS.get(answer.status, "unexpected_status")
    if answer.status >= 500:
        reason = "upstream_failed"
    return UpstreamError(reason, _issues_of(answer.body), status=answer.status)


def outcome_error(resource: dict[str, Any], status: int) -> UpstreamError:
    """The error of an OperationOutcome that came in place of what was asked for."""
    return UpstreamError("operation_outcome", worst_issue(resource), status=status)


def worst_issue(outcome: dict[str, Any]) -> str:
    """``severity/code`` of the gravest issue with known words, else empty."""
    found = []
    for issue in children(outcome, "issue")[:_MAX_ISSUES]:
        severity, code = text(issue, "severity"), text(issue, "code")
        if severity in _SEVERITIES and code in ISSUE_CODES:
            found.append((_SEVERITIES.index(severity), f"{severity}/{code}"))
    return min(found)[1] if found else ""


def _issues_of(body: bytes) -> str:
    """The gravest issue of an error's body, empty when it holds no OperationOutcome."""
    if len(body) > _MAX_OUTCOME_BYTES:
        return ""
    try:
        resource = parse_json(body)
    except MalformedResourceError:
        return ""
    is_outcome = resource_type(resource) == "OperationOutcome"
    return worst_issue(resource) if is_outcome else ""
