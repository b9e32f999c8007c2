"""POST /cds-services/{id}: START HERE.

:func:`answer` is the whole path from an EHR's request to a card:

1. Who calls? A signed token, checked before the body is looked at (J1 to J10).
2. What is asked? Hook, context, server and token, validated (R1 to R6).
3. INTENT is in the audit log before any patient data is read (L10).
4. Evidence is gathered, and an assessment asked for, on threads of their own (L7).
5. The hook waits until its deadline less a reserve that nobody else may use (L1, L2).
6. A card is written: the result, or "not ready", or "could not assess" (L4, L9).
7. OUTCOME is in the audit log before the card leaves, and its receipt is on the card.
8. What has not ended by then is watched until it does (L5).

Around it stands one of the two boundaries of the system that may catch everything:
:func:`call_service` turns any failure into a status and an OperationOutcome, and
records it. Harm that this prevents: an empty answer that reads as "no risk".
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import Any

from flask import Request, Response
from werkzeug.exceptions import RequestEntityTooLarge

from audit.event import AuditEvent
from cds_hooks.assessment import Assessment, AssessmentState
from cds_hooks.audit_trail import Trail, record
from cds_hooks.card import Card, without_empties
from cds_hooks.card_wording import (
    COULD_NOT_ASSESS,
    EXTENSION,
    NOT_READY,
    READY,
    Frame,
    could_not_assess_card,
    not_ready_card,
    ready_card,
)
from cds_hooks.client_auth import Caller
from cds_hooks.errors import BodyTooLargeError, MediaTypeError, WebError, bare
from cds_hooks.flight import Flight
from cds_hooks.hook_request import HookRequest, read_hook_request
from cds_hooks.json_body import parse_object
from cds_hooks.responses import error_response, json_response
from cds_hooks.web_services import WebServices

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Call:
    """One call in progress: its clock, and what is known of it so far."""

    accepted: float
    network: str
    caller: Caller | None = None
    trail: Trail | None = None
    flight: Flight | None = field(default=None, repr=False)
    watched: bool = False


def call_service(web: WebServices, request: Request, service_id: str) -> Response:
    """Answer one hook call, whatever happens; never 200 for a failure."""
    call = Call(time.monotonic(), request.remote_addr or "unknown")
    try:
        return answer(web, call, request, service_id)
    except WebError as error:
        return refuse(web, call, bare(error))
    except Exception as error:  # The boundary: recorded, never shown, never silent.
        # The type alone: a message could quote a resource or a token (TM-I2).
        logger.error("hook failed: %s", type(error).__name__)
        bare(error)
        return refuse(web, call, WebError(reason=type(error).__name__))


def answer(web: WebServices, call: Call, request: Request, service_id: str) -> Response:
    """The path of a call that goes well.

    Raises:
        WebError: it did not; the error says what to answer.
    """
    limit = call.accepted + web.settings.deadline_s - web.settings.reserve_s
    url = f"{web.settings.public_url}/cds-services/{service_id}"
    caller = call.caller = web.authenticator.authenticate(
        request.headers.get("Authorization"), (url,), limit
    )
    hook = read_hook_request(service_id, read_body(request), caller.tenant)
    call.trail = trail = Trail.of(hook, caller, call.network)
    record(web.audit_log, trail.intent(hook, caller))
    flight = call.flight = web.assessments.begin(hook, caller.tenant, trail)
    standing = (
        web.assessments.standing(flight, limit)
        if flight
        else Assessment(AssessmentState.FAILED, reason="busy")
    )
    card = write_card(web, flight, standing)
    shown = card.to_json()
    outcome = describe_outcome(web, call, hook, standing, shown)
    # Last of all, so that the card that is recorded is the card that is shown.
    (receipt,) = record(web.audit_log, outcome)
    shown["extension"][EXTENSION]["receipt"] = without_empties(receipt.to_json())
    if flight and not has_ended(flight, standing):
        watch(web, call)
    return json_response({"cards": [shown]})


def read_body(request: Request) -> dict[str, Any]:
    """The JSON object of a request's body.

    Raises:
        MediaTypeError: it is not declared as JSON.
        BodyTooLargeError: it has more bytes than a hook may send.
        MalformedRequestError: it is not JSON within our limits.
    """
    if request.mimetype != "application/json":
        raise MediaTypeError()
    try:
        body = request.get_data(cache=False)
    except RequestEntityTooLarge as error:
        raise BodyTooLargeError() from error
    return parse_object(body)


def card_state(standing: Assessment) -> str:
    """The word for the deadline's outcome that stands on the card."""
    if standing.state is AssessmentState.FAILED:
        return COULD_NOT_ASSESS
    if standing.state is not AssessmentState.READY:
        return NOT_READY
    prediction = standing.job.prediction if standing.job else None
    usable = prediction and prediction.estimates and not prediction.abstentions
    return READY if usable else COULD_NOT_ASSESS


def write_card(web: WebServices, flight: Flight | None, standing: Assessment) -> Card:
    """The card for how the assessment stands."""
    job = standing.job
    frame = Frame(
        public_url=web.settings.public_url,
        model=web.model,
        assessment_id=job.job_id if job else _link_id(flight, standing),
        job_id=job.job_id if job else "",
    )
    if standing.state is AssessmentState.FAILED:
        return could_not_assess_card(frame, [standing.reason], record=standing.record)
    if job and job.prediction and standing.record:
        return ready_card(frame, job.prediction, job.explanation, standing.record)
    return not_ready_card(frame, standing.waiting_for, standing.record)


def describe_outcome(
    web: WebServices,
    call: Call,
    hook: HookRequest,
    standing: Assessment,
    shown: dict[str, Any],
) -> AuditEvent:
    """The OUTCOME record: what is shown, by which model, resting on what."""
    assert call.trail is not None
    evidence = {
        "service": hook.service.id,
        "hook": hook.service.hook,
        "hook_instance": hook.hook_instance,
        "state": card_state(standing),
        "waiting_for": list(standing.waiting_for),
        "reason": standing.reason,
        "skipped": standing.record.skip_counts() if standing.record else {},
        "elapsed_ms": round((time.monotonic() - call.accepted) * 1000),
    }
    return call.trail.outcome(
        evidence,
        model=web.model,
        job=standing.job,
        card=shown,
        references=standing.record.references() if standing.record else (),
    )


def refuse(web: WebServices, call: Call, error: WebError) -> Response:
    """Record the failure, then answer it; a record that fails turns it into 503.

    An assessment that was begun goes on without its hook: its end is recorded too.
    """
    flight = call.flight
    try:
        if call.trail is not None:
            model = web.model if flight else None
            record(web.audit_log, call.trail.failure(error, model))
        else:
            web.refusals.note(error, call.network, call.caller)
    except WebError as blocked:
        return error_response(blocked)
    finally:
        if flight and not flight.jobless():
            watch(web, call)
    return error_response(error)


def has_ended(flight: Flight, standing: Assessment) -> bool:
    """True when the OUTCOME record says all that there will be to say."""
    return standing.job.finished if standing.job else flight.jobless()


def watch(web: WebServices, call: Call) -> None:
    """Have the end of the call's assessment recorded when it comes; once a call."""
    if call.flight and call.trail and not call.watched:
        call.watched = True
        web.late_jobs.watch(call.flight, call.trail)


def _link_id(flight: Flight | None, standing: Assessment) -> str:
    """While gathering there is no job yet: the gathering's own id stands in."""
    gathering = standing.state is AssessmentState.GATHERING
    return flight.id if flight and gathering else ""
