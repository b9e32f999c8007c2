"""Open Bundles, and refuse whatever is not about the patient in context.

Rules this module enforces:

* An entry of a searchset counts only as ``match`` (or without a mode); servers add
  unrequested includes, which would otherwise carry other people's resources in.
  Endpoint is the one include that is followed, by reference.
* The subject must be *this* patient: by relative reference, by absolute reference on
  the EHR's own base, by the ``urn:uuid`` of a transaction, or by an identifier that
  the Patient carries. Anything else is skipped with a reason, never used (attack and
  accident alike: a leaked neighbour in a search result).
* OperationOutcome entries are counted, their text is not read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from fhir_adapters.patient_record import PatientIdentity
from fhir_adapters.policy import AdapterPolicy
from fhir_adapters.received import Received
from fhir_adapters.resources.elements import (
    child,
    local_reference,
    resource_id,
    resource_type,
    text,
)

_URN = "urn:uuid:"


def walk(bundle: object, origin: str) -> Iterator[Received]:
    """Every resource of a Bundle in order; a resource that is no Bundle is itself.

    An entry without a readable resource is yielded as an empty one, so that it is
    counted as malformed instead of vanishing. A resource of a transaction may lack an
    id; it then takes the one of its ``urn:uuid`` fullUrl (FHIR R4 2.36.4).
    """
    if resource_type(bundle) != "Bundle":
        yield Received(bundle if isinstance(bundle, dict) else {}, origin)
        return
    entries = bundle.get("entry") if isinstance(bundle, dict) else None
    for entry in entries if isinstance(entries, list) else ():
        resource = child(entry, "resource")
        full_url = text(entry, "fullUrl")
        if resource and "id" not in resource and full_url.startswith(_URN):
            resource = {**resource, "id": full_url.removeprefix(_URN)}
        yield Received(resource, origin, text(child(entry, "search"), "mode"))


def index(received: Iterable[Received]) -> dict[str, dict[str, Any]]:
    """Resources by ``Type/id``, for following references; the first one wins."""
    found: dict[str, dict[str, Any]] = {}
    for item in received:
        kind, key = resource_type(item.resource), resource_id(item.resource)
        if kind and key:
            found.setdefault(f"{kind}/{key}", item.resource)
    return found


def entry_refusal(received: Received) -> str:
    """Reason not to look at an entry at all, or an empty string."""
    kind = resource_type(received.resource)
    if kind == "OperationOutcome" or received.search_mode == "outcome":
        return "operation_outcome"
    if not kind:
        return "malformed_resource"
    if received.search_mode not in ("", "match") and kind != "Endpoint":
        return "not_requested"
    if "id" not in received.resource:
        return "no_id"
    return "" if resource_id(received.resource) else "malformed_id"


def subject_refusal(
    resource: object, patient: PatientIdentity, policy: AdapterPolicy
) -> str:
    """Reason why a resource may not be used for this patient, or an empty string.

    Returns:
        ``no_subject``, ``other_patient``, or ``subject_unresolved`` when it cannot be
        told whose it is.
    """
    subject = child(resource, "subject")
    reference = text(subject, "reference")
    if reference:
        return _reference_refusal(reference, patient, policy)
    identifier = child(subject, "identifier")
    value = text(identifier, "value")
    if not value:
        return "no_subject"
    system = text(identifier, "system")
    if system and (system, value) in patient.identifiers:
        return ""
    if any(system == known for known, _ in patient.identifiers if known):
        return "other_patient"
    return "subject_unresolved"


def _reference_refusal(
    reference: str, patient: PatientIdentity, policy: AdapterPolicy
) -> str:
    if reference == f"Patient/{patient.patient_id}":
        return ""
    if reference.startswith("#"):
        return "subject_unresolved"
    if reference.startswith(_URN):
        own = reference.removeprefix(_URN) == patient.patient_id
        return "" if own else "other_patient"
    local = local_reference(reference)
    if local != f"Patient/{patient.patient_id}":
        return "other_patient"
    base = reference.split("/_history/", 1)[0].removesuffix(local)
    if not base:
        return ""
    # The same id on another server is another person.
    if not policy.fhir_base:
        return "subject_unresolved"
    return "" if base == policy.fhir_base.rstrip("/") + "/" else "other_patient"
