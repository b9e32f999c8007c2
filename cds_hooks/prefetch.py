"""Step 2: what the EHR sent along, key by key, in four states that never blur (P3).

Rules, from CDS Hooks 2.0 "Prefetch Template":

1. present: used as sent, never fetched again; absent: fetched; null: the query ran and
   found nothing, so it is not asked again; OperationOutcome: the EHR tried and failed,
   so it is known to be missing and not fetched blindly.
2. P6 a required key that is null, failed, or absent without a server to ask ends in 412
   naming the key. An optional one is a missing modality, and the card says so.
3. The Patient must be the patient in context. Harm: one patient's name over another's
   evidence.
4. A key holds the kind of resource that its template asks for. Attack: a resource
   smuggled in under another key's rules.

Bundles that the EHR has paged are continued by ``fhir_adapters.access.gather`` (P4), on
the origin of ``fhirServer`` only.
"""

from __future__ import annotations

from collections.abc import Mapping

from cds_hooks.errors import MalformedRequestError, MissingDataError
from cds_hooks.hook_request import HookRequest
from cds_hooks.services import PrefetchTemplate
from fhir_adapters.prefetched import PrefetchedKey, PrefetchState


def read_prefetch(request: HookRequest) -> Mapping[str, PrefetchedKey]:
    """The state of every key that the service declares; other keys are not looked at.

    Raises:
        MalformedRequestError: the Patient is somebody else, or a key holds a resource
            of another kind.
        MissingDataError: a required key cannot be had.
    """
    found = {}
    for template in request.service.prefetch:
        key = PrefetchedKey.read(request.prefetch, template.key)
        if key.state is PrefetchState.PRESENT:
            _check_kind(template, key, request.patient_id)
        elif template.required:
            _check_obtainable(template, key, request)
        found[template.key] = key
    return found


def _check_obtainable(
    template: PrefetchTemplate, key: PrefetchedKey, request: HookRequest
) -> None:
    """Rule 2: 412 at once when there is nothing that could be tried."""
    if key.state is PrefetchState.ABSENT and request.fhir is not None:
        return
    raise missing(template.key)


def missing(key: str) -> MissingDataError:
    """The 412 that names ``key``."""
    return MissingDataError(
        f"The prefetch key {key} is required; it was not sent and cannot be fetched.",
        expression=f"prefetch.{key}",
    )


def _check_kind(
    template: PrefetchTemplate, key: PrefetchedKey, patient_id: str
) -> None:
    resource = key.resource or {}
    single = "?" not in template.query
    expected = template.query.partition("/")[0] if single else "Bundle"
    if resource.get("resourceType") != expected:
        raise MalformedRequestError(
            f"The prefetch key {template.key} must hold a {expected}.",
            expression=f"prefetch.{template.key}",
        )
    if expected == "Patient" and resource.get("id") != patient_id:
        raise MalformedRequestError(
            "The prefetched Patient is not the patient in context.",
            expression=f"prefetch.{template.key}",
        )
