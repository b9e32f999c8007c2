"""The routes of the CDS Hooks service: parse, call one function, serialise."""

from __future__ import annotations

import html
import time

from flask import Blueprint, Response, request

from cds_hooks.audit_trail import record
from cds_hooks.errors import UnavailableError, UnknownServiceError, WebError
from cds_hooks.feedback import feedback_events, read_feedback
from cds_hooks.responses import error_response, json_response
from cds_hooks.service_call import Call, call_service, read_body, refuse
from cds_hooks.services import hooks_of
from cds_hooks.web_services import web_services
from model.errors import ModelError

blueprint = Blueprint("cds_hooks", __name__)
NO_SUCH_JOB = "0" * 32


@blueprint.get("/cds-services")
def discover() -> Response:
    """D1: what is offered. Public: it holds nothing about anybody.

    J1: a token is not demanded here, but one that is sent must be good.
    """
    web = web_services()
    sent = request.headers.get("Authorization")
    if sent is not None:
        call = Call(time.monotonic(), request.remote_addr or "unknown")
        url = f"{web.settings.public_url}/cds-services"
        try:
            web.authenticator.authenticate(
                sent, (url,), call.accepted + web.settings.deadline_s
            )
        except WebError as error:
            return refuse(web, call, error)
    response = Response(web.discovery.body, mimetype="application/json")
    response.set_etag(web.discovery.etag)
    response.headers["Cache-Control"] = "no-cache"
    response.make_conditional(request)
    return response


@blueprint.post("/cds-services/<service_id>")
def hook(service_id: str) -> Response:
    """D5: one hook call."""
    return call_service(web_services(), request, service_id)


@blueprint.post("/cds-services/<service_id>/feedback")
def feedback(service_id: str) -> Response:
    """B1: what was done with cards; recorded before it is acknowledged."""
    web = web_services()
    call = Call(time.monotonic(), request.remote_addr or "unknown")
    base = f"{web.settings.public_url}/cds-services/{service_id}"
    try:
        # J4: the specification names no audience for feedback; both forms occur.
        call.caller = web.authenticator.authenticate(
            request.headers.get("Authorization"),
            (f"{base}/feedback", base),
            call.accepted + web.settings.deadline_s,
        )
        if not hooks_of(service_id):
            raise UnknownServiceError()
        entries = read_feedback(read_body(request))
        events = feedback_events(entries, service_id, call.caller, call.network)
        record(web.audit_log, *events)
    except WebError as error:
        return refuse(web, call, error)
    return json_response({})


@blueprint.get("/model-card")
def model_card() -> Response:
    """K4: about the model and never about a patient, so it needs no login."""
    text = html.escape(web_services().model_card)
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        f"<title>Trivium: model card</title><pre>{text}</pre></html>"
    )
    return Response(page, mimetype="text/html")


@blueprint.get("/health")
def health() -> Response:
    """Alive: the process answers. Says nothing about what it depends on."""
    return json_response({"status": "alive"})


@blueprint.get("/ready")
def ready() -> Response:
    """Ready: the job store answers, so hooks can be served."""
    try:
        web_services().queue.view(NO_SUCH_JOB)
    except ModelError:
        return error_response(UnavailableError(reason="job_store"))
    return json_response({"status": "ready"})
