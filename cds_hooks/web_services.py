"""The parts that the routes work with, put together once in ``cds_hooks.app``."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from flask import Flask, current_app

from audit.log import AuditLog
from cds_hooks.assessment import Assessments
from cds_hooks.client_auth import ClientAuthenticator
from cds_hooks.discovery import Discovery
from cds_hooks.late_jobs import LateJobs
from cds_hooks.refusals import Refusals
from cds_hooks.settings import WebSettings
from cds_hooks.tenants import Tenant
from fhir_adapters.access.outbound import OutboundDoor
from model.jobs.prediction import ModelIdentity
from model.jobs.queue import AssessmentQueue

EXTENSION = "trivium"


@dataclass(frozen=True, slots=True)
class WebServices:
    """Everything a route needs; stored in ``app.extensions["trivium"]``.

    ``door_for`` gives a tenant's guarded way out; ``assessments.job_of`` turns the
    ``appContext`` of a card that was answered while gathering into its job's id.
    """

    settings: WebSettings
    audit_log: AuditLog
    queue: AssessmentQueue
    model: ModelIdentity
    door_for: Callable[[Tenant], OutboundDoor]
    authenticator: ClientAuthenticator
    assessments: Assessments
    late_jobs: LateJobs
    refusals: Refusals
    discovery: Discovery
    model_card: str
    resources: ExitStack
    """Closes everything above, in the reverse order of its making."""


def install(app: Flask, services: WebServices) -> None:
    """Make ``services`` available to the routes of ``app``."""
    app.extensions[EXTENSION] = services


def web_services() -> WebServices:
    """The parts of the application that handles the current request."""
    services = current_app.extensions[EXTENSION]
    assert isinstance(services, WebServices)
    return services
