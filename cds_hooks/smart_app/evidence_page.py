"""The evidence of one assessment, to the clinician who launched it for that patient.

Rules this module enforces (attack in brackets):

- Every route asks the session first: it names one tenant, patient, user and assessment,
  and anything else answers 403 with an audit record (a guessed or forwarded link).
- The assessment must belong to the session's tenant and patient even so (appContext of
  another patient's card).
- The view is in the audit log before the page leaves; without that record the answer is
  503 (164.312(b): no unrecorded access).
- No store keeps the page: ``Cache-Control: no-store`` (shared workstation).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from flask import (
    Blueprint,
    Flask,
    Response,
    current_app,
    render_template,
    request,
    url_for,
)

from audit.event import (
    Action,
    Agent,
    AuditEvent,
    Entity,
    EventType,
    ModelRef,
    Outcome,
    Phase,
    Purpose,
    Subject,
    new_correlation_id,
)
from cds_hooks.audit_trail import record
from cds_hooks.errors import NotYoursError, WebError
from cds_hooks.responses import error_response
from cds_hooks.smart_app.evidence_view import evidence_view
from cds_hooks.smart_app.messages import (
    could_not_assess,
    no_longer_kept,
    private,
    refused,
    running,
)
from cds_hooks.smart_app.pictures import film_png, overlay_png
from cds_hooks.smart_app.sessions import SessionStore
from cds_hooks.web_services import WebServices, web_services
from fhir_adapters.access.smart_oauth import Registration, SmartClient
from fhir_adapters.patient_record import PatientRecord
from model.errors import ModelError
from model.jobs.queue import JobView

blueprint = Blueprint(
    "smart",
    __name__,
    url_prefix="/smart",
    template_folder="templates",
    static_folder="static",
)
COOKIE = "trivium_smart"
EXTENSION = "trivium.smart"
SESSION_FILE = "sessions.sqlite3"


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who looks, at which patient's assessment; from the sealed session."""

    tenant: str
    issuer: str
    patient: str
    user: str
    assessment: str


@blueprint.get("/evidence/<assessment>")
def evidence(assessment: str) -> Response:
    """The page itself; refreshes while the assessment is still being computed."""
    # Asked first: a gathering that lands meanwhile is found among those that ended.
    gathering = web_services().assessments.is_gathering(assessment)
    viewer, job = _admitted(assessment)
    if job is None:
        return running("the evidence") if gathering else _without_job(assessment)
    if not job.finished:
        return running(f"the model ({job.state})")
    if job.prediction is None:
        return could_not_assess(job.error or "model_error")
    evidence_of = web_services().queue.record(job.job_id)
    _audit_view(viewer, job, evidence_of, part="page")
    page = evidence_view(
        job.prediction,
        job.explanation,
        evidence_of,
        film_url=url_for("smart.film", assessment=assessment),
        overlay_url=url_for("smart.overlay", assessment=assessment),
    )
    return private(Response(render_template("evidence.html", page=page)))


@blueprint.get("/evidence/<assessment>/film.png")
def film(assessment: str) -> Response:
    """The film that the model saw."""
    seen = _evidence(assessment, part="film")[1]
    if not seen.images:
        return private(Response(status=404))
    body = film_png(seen.images[0].pixels)
    return private(Response(body, mimetype="image/png"))


@blueprint.get("/evidence/<assessment>/overlay.png")
def overlay(assessment: str) -> Response:
    """The heat map over the film; 404 where nothing rose above the floor."""
    job, seen = _evidence(assessment, part="overlay")
    for image in seen.images[:1]:
        for heat_map in job.explanation.heat_maps if job.explanation else ():
            if heat_map.reference != image.provenance.reference:
                continue
            body = overlay_png(heat_map, image.pixels.shape)
            if body is not None:
                return private(Response(body, mimetype="image/png"))
    return private(Response(status=404))


@blueprint.errorhandler(NotYoursError)
def refuse(error: NotYoursError) -> Response:
    """403 in words, and a record of what was refused."""
    text = "This link belongs to another session. Open it from the patient's chart."
    return refused(error, "Not available", text)


@dataclass(frozen=True, slots=True)
class SmartParts:
    """What the SMART app holds beside the web services, one client a tenant."""

    sessions: SessionStore
    clients: Mapping[str, SmartClient]


def register(app: Flask, services: WebServices) -> None:
    """Add the SMART app to the web process: its routes, sessions and clients."""
    settings = services.settings
    key = hashlib.sha256(b"trivium.smart.sessions\0" + settings.session_key).digest()
    clients = {
        tenant.id: SmartClient(
            services.door_for(tenant),
            [
                Registration(
                    tenant.smart.issuer,
                    tenant.smart.client_id,
                    f"{settings.public_url}/smart/callback",
                    keys=(
                        settings.smart_keys
                        if tenant.smart.client_auth == "private_key_jwt"
                        else None
                    ),
                )
            ],
        )
        for tenant in settings.tenants
        if tenant.smart is not None
    }
    folder = settings.replay_file.parent
    sessions = SessionStore(folder / SESSION_FILE, key)
    app.extensions[EXTENSION] = SmartParts(sessions, clients)
    app.register_blueprint(blueprint)


def smart_parts() -> SmartParts:
    """The SMART app's parts of the application that handles this request."""
    parts = current_app.extensions[EXTENSION]
    assert isinstance(parts, SmartParts)
    return parts


def _admitted(assessment: str) -> tuple[Viewer, JobView | None]:
    """The viewer and the job of ``assessment``, or :class:`NotYoursError`."""
    content = smart_parts().sessions.get(request.cookies.get(COOKIE, ""))
    if content is None:
        raise NotYoursError(reason="no_session")
    viewer = Viewer(**content)
    if viewer.assessment != assessment:
        raise NotYoursError(reason="other_assessment")
    job = web_services().queue.view(_job_id(assessment))
    if job is not None and job.tenant != viewer.tenant:
        raise NotYoursError(reason="other_tenant")
    return viewer, job


def _evidence(assessment: str, *, part: str) -> tuple[JobView, PatientRecord]:
    viewer, job = _admitted(assessment)
    if job is None or job.prediction is None:
        raise NotYoursError(reason="not_ready")
    seen = web_services().queue.record(job.job_id)
    _audit_view(viewer, job, seen, part=part)
    return job, seen


def _audit_view(
    viewer: Viewer, job: JobView, seen: PatientRecord, *, part: str
) -> None:
    """SMART view: user, patient, purpose, prediction and everything shown."""
    if seen.patient.patient_id != viewer.patient:
        raise NotYoursError(reason="other_patient")
    prediction = job.prediction
    if prediction is None:
        raise NotYoursError(reason="not_ready")
    model = prediction.model
    shown = tuple(Entity(reference, "shown") for reference in prediction.inputs)
    record(
        web_services().audit_log,
        AuditEvent(
            EventType.SMART_VIEW,
            Action.READ,
            Outcome.OK,
            Phase.SINGLE,
            agent=Agent("human", viewer.issuer, viewer.user),
            subject=Subject(viewer.issuer, viewer.patient),
            purpose=Purpose.TREAT,
            correlation_id=new_correlation_id(),
            model=ModelRef(model.name, model.version, model.sha256, prediction.device),
            entities=shown,
            evidence={
                "prediction_id": prediction.prediction_id,
                "assessment": viewer.assessment,
                "part": part,
            },
        ),
    )


def _job_id(assessment: str) -> str:
    """A card written while gathering names the gathering; its job comes later."""
    return web_services().assessments.job_of(assessment) or assessment


def _without_job(assessment: str) -> Response:
    """It ended without a job, or nothing is known of it any more."""
    ending = web_services().assessments.ending_of(assessment)
    if ending is None or ending.job_id:
        return no_longer_kept()
    return could_not_assess(ending.reason)


@blueprint.errorhandler(WebError)
def unavailable(error: WebError) -> Response:
    """No durable audit record: 503 and nothing of the page."""
    return error_response(error)


@blueprint.errorhandler(ModelError)
def unreadable(_error: ModelError) -> Response:
    """The stored evidence has expired or does not authenticate: show nothing."""
    return no_longer_kept()
