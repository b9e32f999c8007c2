"""Everything received on one patient -> one :class:`PatientRecord`. No IO.

Rules this module enforces:

* **One patient.** A second Patient resource with another id stops everything
  (:class:`WrongPatientError`); every other resource must name this patient.
* **Nothing after the cutoff**, be it a value, a note or an image.
* **Nothing vanishes.** What is not used is in ``skipped`` with a reason; each received
  Observation is either used or skipped, exactly once (:func:`observation_account`).
* **Absent, unreadable and present stay apart.** "Nobody measured it", "it exists and
  we could not read it" and "here it is" are three different things to a clinician.
* **No label leakage.** The radiology report of the image to be scored is left out, and
  so is any document with the same words.

    record = assemble(patient, received, images, cutoff=datetime.now(timezone.utc))
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from fhir_adapters.bundle import entry_refusal, index, subject_refusal
from fhir_adapters.errors import (
    AdapterError,
    MalformedResourceError,
    ResourceTooLargeError,
)
from fhir_adapters.images import images_and_skips, studies_and_skips
from fhir_adapters.notes import notes_and_skips
from fhir_adapters.patient_record import (
    ChestImage,
    Modality,
    PatientIdentity,
    PatientRecord,
    Provenance,
    Skip,
)
from fhir_adapters.policy import AdapterPolicy
from fhir_adapters.received import ImageOutcome, Received
from fhir_adapters.resources.elements import (
    Json,
    canonical_sha256,
    children,
    reference_to,
    resource_type,
    text,
)
from fhir_adapters.resources.patient import read_patient
from fhir_adapters.states import evidence_state, image_state
from fhir_adapters.values import values_and_skips

__all__ = [
    "AdapterPolicy",
    "ImageOutcome",
    "ObservationAccount",
    "Received",
    "assemble",
    "observation_account",
]

_WITH_SUBJECT = frozenset(
    {"Observation", "DiagnosticReport", "DocumentReference", "ImagingStudy"}
)
# Who and where: they stand around the evidence and are none themselves.
_CONTEXT = frozenset(
    {"Encounter", "Location", "Organization", "Practitioner", "PractitionerRole"}
)
_SEVERITIES = ("fatal", "error", "warning", "information")
_STRICT = AdapterPolicy()

Admitted = dict[str, list[tuple[Received, Provenance]]]


@dataclass(frozen=True, slots=True)
class ObservationAccount:
    """How many Observations were used, and why the others were not."""

    used: int
    skipped: Mapping[str, int]

    @property
    def received(self) -> int:
        """All Observations that came in: used and skipped."""
        return self.used + sum(self.skipped.values())


def observation_account(record: PatientRecord) -> ObservationAccount:
    """Count Observations of a record; refused components do not count as one."""
    used = {value.provenance.reference for value in record.history}
    whole = (
        skip.reason
        for skip in record.skipped
        if skip.reference.startswith("Observation/") and "#" not in skip.reference
    )
    return ObservationAccount(len(used), dict(sorted(Counter(whole).items())))


def assemble(
    patient: Json,
    resources: Iterable[Received],
    images: Iterable[ChestImage | ImageOutcome],
    *,
    cutoff: datetime,
    policy: AdapterPolicy = _STRICT,
    unavailable: Mapping[Modality, str] | None = None,
) -> PatientRecord:
    """Build the record of one patient.

    Args:
        patient: The Patient resource in context, plain JSON.
        resources: Observations, reports, documents, imaging studies and endpoints;
            other types are skipped with a reason.
        images: Decoded images, or the typed failure of an image that exists.
        cutoff: Aware time; nothing later is used.
        policy: Site policy.
        unavailable: Reason code per modality whose source failed to answer; such a
            modality without evidence is UNREADABLE, not ABSENT.

    Returns:
        The record. ``images`` and ``notes`` are newest first, ``values`` in the order
        of the code table, ``history`` newest first.

    Raises:
        MalformedResourceError: ``patient`` is no usable Patient.
        WrongPatientError: ``resources`` holds another Patient.
        ResourceTooLargeError: More resources than the policy allows.
        ValueError: ``cutoff`` has no time zone (a bug of the caller).
    """
    if cutoff.utcoffset() is None:
        raise ValueError("cutoff needs a time zone")
    identity = read_patient(patient)
    received = list(resources)
    if len(received) > policy.max_resources:
        raise ResourceTooLargeError("too_many_resources")
    usable, skips = _admit(received, identity, policy)
    endpoints = index(item for item, _ in usable.get("Endpoint", ()))
    failed = unavailable or {}

    values = values_and_skips(usable.get("Observation", ()), cutoff, policy)
    studies, study_skips = studies_and_skips(
        usable.get("ImagingStudy", ()), endpoints, policy
    )
    outcomes = [
        ImageOutcome.decoded(image) if isinstance(image, ChestImage) else image
        for image in images
    ]
    pictures, image_skips = images_and_skips(outcomes, studies, cutoff, policy)
    notes, note_skips = notes_and_skips(
        usable.get("DiagnosticReport", ()),
        usable.get("DocumentReference", ()),
        studies,
        pictures,
        cutoff=cutoff,
        policy=policy,
    )
    skips += [*values.skips, *study_skips, *image_skips, *note_skips]
    text_state = evidence_state(Modality.TEXT, bool(notes), skips, failed)
    values_state = evidence_state(Modality.VALUES, bool(values.latest), skips, failed)
    states = {
        Modality.IMAGE: image_state(bool(pictures), image_skips, studies, failed),
        Modality.TEXT: text_state,
        Modality.VALUES: values_state,
    }
    return PatientRecord(
        patient=identity,
        cutoff=cutoff,
        states=states,
        images=pictures,
        notes=notes,
        values=values.latest,
        history=values.history,
        skipped=tuple(skips),
    )


def _admit(
    received: list[Received], identity: PatientIdentity, policy: AdapterPolicy
) -> tuple[Admitted, list[Skip]]:
    """Sort resources by type; refuse strangers and broken shapes, keep one version."""
    chosen: dict[str, tuple[Received, Provenance]] = {}
    skips: list[Skip] = []
    for item in received:
        kind = resource_type(item.resource)
        if kind == "Patient":
            read_patient(item.resource, identity.patient_id)
            continue
        if kind in _CONTEXT:
            continue
        reference = reference_to(item.resource)
        try:
            digest = _checked_digest(item, kind, identity, policy)
        except AdapterError as error:
            skips.append(Skip(reference, error.reason, error.detail))
            continue
        # Strangers were refused above: they cannot displace this patient's resource.
        other = chosen.get(reference)
        if other is not None:
            skips.append(Skip(reference, "duplicate", "same id"))
        if other is None or _version(item.resource) > _version(other[0].resource):
            chosen[reference] = item, Provenance(reference, item.origin, digest)
    usable: Admitted = {}
    for item, provenance in chosen.values():
        usable.setdefault(resource_type(item.resource), []).append((item, provenance))
    return usable, skips


def _checked_digest(
    item: Received, kind: str, identity: PatientIdentity, policy: AdapterPolicy
) -> str:
    """Digest of a resource that may be read.

    Raises:
        MalformedResourceError: It may not; ``reason`` says why.
    """
    reason = entry_refusal(item)
    if reason == "operation_outcome":
        raise MalformedResourceError(reason, _severity(item.resource))
    if not reason and kind in _WITH_SUBJECT:
        reason = subject_refusal(item.resource, identity, policy)
    elif not reason and kind != "Endpoint":
        reason = "unused_type"
    if reason:
        raise MalformedResourceError(reason)
    return canonical_sha256(item.resource)


def _severity(outcome: Json) -> str:
    """The worst severity an OperationOutcome states; its text is never repeated."""
    said = {text(issue, "severity") for issue in children(outcome, "issue")}
    return next((severity for severity in _SEVERITIES if severity in said), "")


def _version(resource: Json) -> tuple[str, int, bool]:
    """What makes one version newer; between equals an erratum wins.

    Otherwise an older copy in a prefetch could bring a withdrawn value back.
    """
    meta = resource.get("meta")
    version = text(meta, "versionId")
    count = int(version) if version.isascii() and version.isdigit() else 0
    withdrawn = text(resource, "status") in ("entered-in-error", "cancelled")
    return text(meta, "lastUpdated"), count, withdrawn
