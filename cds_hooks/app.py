"""The web process: composition root.

    gunicorn -c deploy/gunicorn.conf.py "cds_hooks.app:create_app()"

Every part is made here, once, after the fork, and handed down; no module keeps a part
of its own. What is missing or unsafe stops the process here, before its first call.
"""

from __future__ import annotations

import atexit
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from audit.errors import AuditError
from audit.log import AuditLog
from cds_hooks import discovery
from cds_hooks.assessment import Assessments
from cds_hooks.client_auth import ClientAuthenticator
from cds_hooks.doors import TenantDoors
from cds_hooks.errors import SettingsError, WebError
from cds_hooks.evidence import EvidenceCollector
from cds_hooks.key_sets import KeySets
from cds_hooks.late_jobs import LateJobs
from cds_hooks.refusals import Refusals
from cds_hooks.replay import ReplayStore
from cds_hooks.responses import add_headers, error_response, from_http_exception
from cds_hooks.routes import blueprint
from cds_hooks.services import SERVICES
from cds_hooks.settings import WebSettings
from cds_hooks.smart_app import evidence_page
from cds_hooks.smart_app import launch as _launch  # noqa: F401  (adds its routes)
from cds_hooks.web_services import EXTENSION, WebServices, install
from fhir_adapters.dicom.decode_process import shared_pool
from model.errors import ModelError
from model.jobs.model_identity import read_identity
from model.jobs.queue import AssessmentQueue

MODEL_CARD = "MODEL_CARD.md"


def create_app(settings: WebSettings | None = None) -> Flask:
    """The WSGI application.

    Args:
        settings: Read from the environment when left out.

    Raises:
        SettingsError: a setting, key, tenant, checkpoint or store cannot be used.
    """
    settings = settings or WebSettings.from_environment()
    app = Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body_bytes
    services = build_services(settings)
    install(app, services)
    app.register_blueprint(blueprint)
    evidence_page.register(app, services)
    app.register_error_handler(HTTPException, from_http_exception)
    app.register_error_handler(WebError, error_response)
    origins = {origin for t in settings.tenants for origin in t.cors_origins}
    https = settings.public_url.startswith("https:")

    @app.after_request
    def finish(response: Response) -> Response:
        """Add the headers that every answer has."""
        return add_headers(response, request, origins, https)

    atexit.register(close, app)
    return app


def build_services(settings: WebSettings) -> WebServices:
    """Make every part in the order of need; gatherings close before their watcher.

    Raises:
        SettingsError: one of them cannot be made.
    """
    with ExitStack() as opened:
        try:
            model = read_identity(settings.checkpoint)
            log = AuditLog.open(settings.audit)
            opened.callback(log.close)
            queue = AssessmentQueue(settings.jobs)
            opened.callback(queue.close)
        except (ModelError, AuditError) as error:
            raise SettingsError(str(error)) from error
        doors = TenantDoors(settings.tenants, settings.gather_limit_s)
        opened.callback(doors.close)
        replay = ReplayStore(settings.replay_file)
        opened.callback(replay.close)
        key_sets = KeySets(doors.door_for)
        opened.callback(key_sets.close)
        key_sets.warm(settings.tenants)
        shared_pool().warm()
        refusals = Refusals(log)
        opened.callback(refusals.close)
        limit_s = settings.jobs.job_ttl_s + 60.0
        late_jobs = LateJobs(queue, log, model, refusals, limit_s=limit_s)
        opened.callback(late_jobs.close)
        fetching = ThreadPoolExecutor(settings.fetch_threads, "fetch")
        opened.callback(fetching.shutdown)
        assessments = Assessments(
            EvidenceCollector(
                doors.door_for, fetching, limit_s=settings.gather_limit_s
            ),
            queue,
            log,
            model,
            threads=settings.gather_threads,
            reuse_s=settings.reuse_s,
            tenants=len(settings.tenants),
        )
        opened.callback(assessments.close)
        return WebServices(
            settings=settings,
            audit_log=log,
            queue=queue,
            model=model,
            door_for=doors.door_for,
            authenticator=ClientAuthenticator(settings.tenants, key_sets, replay),
            assessments=assessments,
            late_jobs=late_jobs,
            refusals=refusals,
            discovery=discovery.build(SERVICES.values(), model, settings.public_url),
            model_card=read_model_card(settings.checkpoint),
            resources=opened.pop_all(),
        )


def read_model_card(checkpoint: Path) -> str:
    """The model card that travels with the checkpoint.

    Raises:
        SettingsError: there is none: a model without a card is not shown to anybody.
    """
    try:
        return (checkpoint / MODEL_CARD).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{MODEL_CARD} of the checkpoint is missing") from error


def close(app: Flask) -> None:
    """End the process in order: no new work, last records, then the audit log."""
    services: WebServices | None = app.extensions.pop(EXTENSION, None)
    if services is not None:
        services.resources.close()
