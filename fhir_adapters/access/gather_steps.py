"""The steps of a gathering that read FHIR: one prefetch key each.

A present key is used as it came (and paged on, where the EHR cut it short), a null or
failed one is believed, only an absent one is asked for (CDS Hooks 2.0, prefetch).
"""

from __future__ import annotations

from typing import Any

from fhir_adapters.access.fhir_client import FhirClient, SearchPages, next_link
from fhir_adapters.access.gather_types import Failure, GatherContext, StepResult
from fhir_adapters.bundle import walk
from fhir_adapters.errors import AdapterError, MalformedResourceError, UpstreamError
from fhir_adapters.prefetched import ABSENT_KEY, PrefetchedKey, PrefetchState
from fhir_adapters.received import Received
from fhir_adapters.resources.attachment import READABLE, media_type
from fhir_adapters.resources.elements import child, children, resource_type, text
from fhir_adapters.resources.patient import read_patient

_SEARCHES = {
    "observations": ("Observation", {"_sort": "-date"}),
    "reports": ("DiagnosticReport", {"_sort": "-date", "_count": "50"}),
    "documents": ("DocumentReference", {"_sort": "-date", "_count": "50"}),
    "imaging": ("ImagingStudy", {"_sort": "-started", "_count": "50"}),
}


def failure_of(step: str, error: AdapterError, *, partial: bool = False) -> Failure:
    """A failure with the HTTP status, where the error has one."""
    status = error.status if isinstance(error, UpstreamError) else 0
    return Failure(step, error.reason, status, partial)


def fetch_patient(context: GatherContext, deadline: float) -> StepResult:
    """The Patient in context.

    Raises:
        WrongPatientError: The EHR sent somebody else (two charts open, or an attack).
        AdapterError: It could not be had.
    """
    key = context.prefetched.get("patient", ABSENT_KEY)
    if key.state is PrefetchState.ABSENT:
        if context.fhir is None:
            return StepResult(missing=["patient"])
        resource = context.fhir.read("Patient", context.patient_id, deadline)
    elif key.state is PrefetchState.PRESENT and key.resource is not None:
        resource = dict(key.resource)
    else:
        raise MalformedResourceError(key.reason or "patient_not_found")
    read_patient(resource, context.patient_id)
    return StepResult(patient=resource)


def fetch_list(step: str, context: GatherContext, deadline: float) -> StepResult:
    """The resources of one search key, from prefetch or from the server.

    Raises:
        AdapterError: Nothing of it could be had.
    """
    key = context.prefetched.get(step, ABSENT_KEY)
    if key.state is PrefetchState.FAILED:
        raise UpstreamError(key.reason or "prefetch_failed")
    if key.state is PrefetchState.NULL:
        result = StepResult()
    elif key.state is PrefetchState.PRESENT:
        result = _from_prefetch(step, key, context, deadline)
    elif context.fhir is None:
        result = StepResult(missing=[step])
    else:
        result = _from_server(step, context.fhir, context, deadline)
    if step == "imaging":
        _add_endpoints(result, context)
    if step in ("reports", "documents") and context.fhir is not None:
        _inline_texts(step, result, context.fhir, context, deadline)
    return result


def _from_prefetch(
    step: str, key: PrefetchedKey, context: GatherContext, deadline: float
) -> StepResult:
    bundle = dict(key.resource or {})
    result = StepResult(received=list(walk(bundle, "prefetch")))
    if not next_link(bundle):
        return result
    if context.fhir is None:
        result.failures.append(Failure(step, "prefetch_paged", partial=True))
        return result
    try:
        pages = context.fhir.more_pages(
            bundle, deadline, max_pages=_max_pages(step, context)
        )
    except AdapterError as error:
        result.failures.append(failure_of(step, error, partial=True))
        return result
    _add_pages(step, result, pages)
    return result


def _from_server(
    step: str, fhir: FhirClient, context: GatherContext, deadline: float
) -> StepResult:
    kind, fixed = _SEARCHES[step]
    if step == "observations":
        fixed = {**fixed, "_count": str(context.policy.page_size)}
    forms = [context.patient_id, f"Patient/{context.patient_id}"]
    if context.policy.patient_parameter == "reference":
        forms.reverse()
    result = StepResult()
    for place, patient in enumerate(forms):
        try:
            pages = fhir.search_pages(
                kind,
                {"patient": patient, **fixed},
                deadline,
                max_pages=_max_pages(step, context),
            )
        except AdapterError as error:
            if place == 0 or not _rejects_the_form(error):
                raise
            break
        _add_pages(step, result, pages)
        if any(resource_type(item.resource) == kind for item in result.received):
            break
    return result


def _rejects_the_form(error: AdapterError) -> bool:
    """True where a server does not take the second form of ``patient=``.

    Only then the first answer, "nothing", stands. A server error, no answer, an expired
    token (401) or "later" (408, 429) says nothing about the form.
    """
    status = error.status if isinstance(error, UpstreamError) else 0
    return 400 <= status < 500 and status not in (401, 408, 429)


def _max_pages(step: str, context: GatherContext) -> int:
    policy = context.policy
    observations = step == "observations"
    return policy.observation_pages if observations else policy.other_pages


def _add_pages(step: str, result: StepResult, pages: SearchPages) -> None:
    for bundle in pages.bundles:
        result.received.extend(walk(bundle, "fhir"))
    if pages.incomplete:
        result.failures.append(Failure(step, pages.incomplete, partial=True))


def _add_endpoints(result: StepResult, context: GatherContext) -> None:
    """Endpoints that came in a prefetch key of their own."""
    key = context.prefetched.get("endpoints", ABSENT_KEY)
    if key.state is PrefetchState.PRESENT:
        result.received.extend(walk(dict(key.resource or {}), "prefetch"))


def _inline_texts(
    step: str,
    result: StepResult,
    fhir: FhirClient,
    context: GatherContext,
    deadline: float,
) -> None:
    """Fetch the texts that reports and documents only point to.

    Only text types are asked for, only within the FHIR base, and only so many: a
    chart may hold hundreds. What is not fetched stays a URL and is skipped later
    with ``attachment_not_fetched``.
    """
    left = context.policy.attachments
    for place, item in enumerate(result.received):
        for attachment in _pointers(item.resource):
            if left <= 0:
                return
            left -= 1
            try:
                data = fhir.attachment_data(
                    text(attachment, "url"),
                    deadline,
                    max_bytes=context.adapters.max_attachment_bytes * 2,
                )
            except AdapterError as error:
                result.failures.append(failure_of(step, error, partial=True))
                continue
            inlined = _with_data(item.resource, attachment, data)
            item = Received(inlined, item.origin, item.search_mode)
            result.received[place] = item


def _pointers(resource: dict[str, Any]) -> list[dict[str, Any]]:
    """Text attachments with a URL and without data."""
    attachments = children(resource, "presentedForm")
    attachments += [child(item, "attachment") for item in children(resource, "content")]
    return [
        attachment
        for attachment in attachments
        if media_type(attachment) in READABLE
        and text(attachment, "url")
        and "data" not in attachment
    ]


def _with_data(
    resource: dict[str, Any], attachment: dict[str, Any], data: str
) -> dict[str, Any]:
    """A copy of the resource whose ``attachment`` (by identity) carries its data."""

    def filled(node: Any) -> Any:
        if node is attachment:
            return {**attachment, "data": data}
        return node

    copy = dict(resource)
    for key in ("presentedForm",):
        if isinstance(copy.get(key), list):
            copy[key] = [filled(node) for node in copy[key]]
    if isinstance(copy.get("content"), list):
        copy["content"] = [
            (
                {**node, "attachment": filled(node.get("attachment"))}
                if isinstance(node, dict)
                else node
            )
            for node in copy["content"]
        ]
    return copy
