"""Pages of the SMART app with one thing to say, and the headers of all its pages.

A refusal is recorded before it is answered, as one of a flood where it is one: nobody
needs a login to cause it (threat TM-D2).
"""

from __future__ import annotations

from flask import Response, render_template, request

from cds_hooks.errors import AuditBlockedError, CallerError
from cds_hooks.plain_words import FAILURE, REASON, words
from cds_hooks.responses import error_response
from cds_hooks.web_services import web_services

REFRESH_SECONDS = 2


def message(
    heading: str, text: str, *, refresh: bool = False, status: int = 200
) -> Response:
    """A page with one thing to say."""
    body = render_template(
        "smart_message.html",
        heading=heading,
        text=text,
        refresh=REFRESH_SECONDS if refresh else 0,
    )
    return private(Response(body, status=status))


def running(step: str) -> Response:
    """The assessment has not ended; the page looks again by itself."""
    text = (
        f"Waiting for {step}. This says nothing about the patient's risk. "
        "The page looks again by itself."
    )
    return message("Assessment running", text, refresh=True)


def could_not_assess(reason: str) -> Response:
    """The reason in words, and no figure."""
    said = words(reason, FAILURE, REASON)
    return message("Could not assess", f"There is no estimate: {said}.")


def no_longer_kept() -> Response:
    """410: expired, erased, or of a process that is gone."""
    text = "The evidence of this assessment is no longer kept. Open the chart again."
    return message("No longer available", text, status=410)


def refused(error: CallerError, heading: str, text: str) -> Response:
    """The refusal in our own words, once it is recorded; 503 when it cannot be."""
    try:
        source = request.remote_addr or "unknown"
        web_services().refusals.note(error, source, None)
    except AuditBlockedError as blocked:
        return error_response(blocked)
    return message(heading, text, status=error.status)


def private(response: Response) -> Response:
    """Nobody stores it, nobody frames it but the EHR, nothing from elsewhere loads."""
    tenants = web_services().settings.tenants
    origins = sorted({origin for t in tenants for origin in t.frame_ancestors})
    framing = " ".join(origins) or "'none'"
    response.headers["Cache-Control"] = "no-store"
    response.headers["Content-Security-Policy"] = "; ".join(
        (
            "default-src 'none'",
            "img-src 'self'",
            "style-src 'self'",
            "script-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            f"frame-ancestors {framing}",
        )
    )
    return response
