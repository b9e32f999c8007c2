"""Step 1: the hook request, parsed and validated.

Rules, from CDS Hooks 2.0 "HTTP Request":

1. R1 ``hook``, ``hookInstance`` (a UUID) and ``context`` are there. Harm: an invented
   identifier scores, or blames, somebody who does not exist. Nothing has a default.
2. R2, cds-r-1: ``fhirAuthorization`` needs ``fhirServer``.
3. R3, F5: ``fhirServer`` is one of the calling tenant's. Attack: our service used to
   reach, and to send a token to, a server of the attacker's choice.
4. R4 unknown fields and extensions are accepted and not looked at.
5. R5 the hook must belong to the service id. Harm: another service's advice.
6. R6 the context has the fields that the hook defines, in the form it defines.
7. F2 the token's fields are there; a token for another patient is refused. Harm: one
   patient's evidence on another's card.
8. F3 the token is held in memory only and shows in no representation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cds_hooks.errors import (
    ForeignServerError,
    MalformedRequestError,
    UnknownServiceError,
    WrongHookError,
)
from cds_hooks.services import SERVICES, Service, hooks_of
from cds_hooks.tenants import Tenant

USER_TYPES = ("Practitioner", "PractitionerRole", "Patient", "RelatedPerson")
_UUID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
_FHIR_ID = re.compile(r"[A-Za-z0-9.-]{1,64}")
# RFC 6750 b64token: nothing that could end or split an HTTP header.
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]{1,8192}=*")


@dataclass(frozen=True, slots=True)
class FhirAccess:
    """Where the EHR lets us read, and with what; the token lives in memory only."""

    server: str
    token: str | None = field(default=None, repr=False)
    expires_in_s: int | None = None
    scope: str = ""


@dataclass(frozen=True, slots=True)
class HookRequest:
    """A valid request: who looks at which patient, and what was sent along."""

    service: Service
    hook_instance: str
    user: str
    patient_id: str
    encounter_id: str | None
    fhir: FhirAccess | None
    prefetch: Mapping[str, Any] = field(repr=False)


def read_hook_request(
    service_id: str, body: Mapping[str, Any], tenant: Tenant
) -> HookRequest:
    """Validate ``body`` as a call of ``service_id`` by ``tenant``.

    Raises:
        UnknownServiceError: no service has this id.
        WrongHookError: the service is not offered under the body's hook.
        ForeignServerError: the fhirServer is not the tenant's.
        MalformedRequestError: anything else that the specification forbids.
    """
    if not hooks_of(service_id):
        raise UnknownServiceError()
    hook = _text(body, "hook")
    service = SERVICES.get((service_id, hook))
    if service is None:
        raise WrongHookError(expression="hook")
    instance = _text(body, "hookInstance")
    if not _UUID.fullmatch(instance):
        raise MalformedRequestError(
            "hookInstance must be a UUID.", expression="hookInstance"
        )
    context = _mapping(body, "context")
    patient_id = _fhir_id(context, "patientId")
    prefetch = body.get("prefetch", {})
    if not isinstance(prefetch, dict):
        raise MalformedRequestError(
            "prefetch must be an object.", expression="prefetch"
        )
    return HookRequest(
        service=service,
        hook_instance=instance.lower(),
        user=_user(context),
        patient_id=patient_id,
        encounter_id=(
            _fhir_id(context, "encounterId") if "encounterId" in context else None
        ),
        fhir=_fhir_access(body, tenant, patient_id),
        prefetch=prefetch,
    )


def _user(context: Mapping[str, Any]) -> str:
    """The user as ``ResourceType/id`` (R6)."""
    user = _text(context, "userId", "context.")
    kind, _, user_id = user.partition("/")
    if kind not in USER_TYPES or not _FHIR_ID.fullmatch(user_id):
        raise MalformedRequestError(
            "context.userId must be a resource type, a slash and an id.",
            expression="context.userId",
        )
    return user


def _fhir_access(
    body: Mapping[str, Any], tenant: Tenant, patient_id: str
) -> FhirAccess | None:
    if "fhirServer" not in body:
        if "fhirAuthorization" in body:
            raise MalformedRequestError(
                "fhirAuthorization needs fhirServer (cds-r-1).",
                expression="fhirAuthorization",
            )
        return None
    server = _text(body, "fhirServer").rstrip("/")
    # Attack: request forgery by fhirServer, token sent to a stranger (TM-I4).
    if server not in tenant.fhir_servers:
        raise ForeignServerError(expression="fhirServer")
    if "fhirAuthorization" not in body:
        return FhirAccess(server=server)
    given = _mapping(body, "fhirAuthorization")
    where = "fhirAuthorization."
    token = _text(given, "access_token", where)
    if _text(given, "token_type", where) != "Bearer" or not _TOKEN.fullmatch(token):
        raise MalformedRequestError(
            "fhirAuthorization must hold a bearer token.",
            expression="fhirAuthorization",
        )
    _text(given, "subject", where)
    # Harm: a token for one patient used in the context of another.
    if given.get("patient", patient_id) != patient_id:
        raise MalformedRequestError(
            "fhirAuthorization.patient is not the patient in context.",
            expression="fhirAuthorization.patient",
        )
    return FhirAccess(
        server=server,
        token=token,
        expires_in_s=_seconds(given),
        scope=_text(given, "scope", where),
    )


def _seconds(given: Mapping[str, Any]) -> int:
    value = given.get("expires_in")
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        raise MalformedRequestError(
            "fhirAuthorization.expires_in must be a whole number above 0.",
            expression="fhirAuthorization.expires_in",
        )
    return value


def _text(part: Mapping[str, Any], name: str, where: str = "") -> str:
    value = part.get(name)
    if not isinstance(value, str) or not value:
        raise MalformedRequestError(
            f"{where}{name} is required and must be a text.",
            expression=f"{where}{name}",
        )
    return value


def _mapping(part: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = part.get(name)
    if not isinstance(value, dict):
        raise MalformedRequestError(
            f"{name} is required and must be an object.", expression=name
        )
    return value


def _fhir_id(context: Mapping[str, Any], name: str) -> str:
    value = _text(context, name, "context.")
    if not _FHIR_ID.fullmatch(value):
        raise MalformedRequestError(
            f"context.{name} must be a FHIR id.", expression=f"context.{name}"
        )
    return value
