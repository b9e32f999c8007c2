"""What the service offers, as data: one entry for each pair of service id and hook.

D3: one id may stand under several hooks, which is how a newer card replaces an older
one, so nothing here is keyed by id alone or by hook alone. The prefetch templates stay
inside the specification's recommended subset (P2): an instance read, or a search by
patient with ``_sort`` and ``_count``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from fhir_adapters.patient_record import Modality


@dataclass(frozen=True, slots=True)
class PrefetchTemplate:
    """One prefetch key; ``modality`` is what is lost without it, None: everything."""

    key: str
    query: str
    modality: Modality | None

    @property
    def required(self) -> bool:
        """True where the service cannot answer at all without this key."""
        return self.modality is None


@dataclass(frozen=True, slots=True)
class Service:
    """One service under one hook, as discovery shows it."""

    id: str
    hook: str
    title: str
    description: str
    usage_requirements: str
    prefetch: tuple[PrefetchTemplate, ...]


_PATIENT = "patient={{context.patientId}}"
CHEST_PREFETCH = (
    PrefetchTemplate("patient", "Patient/{{context.patientId}}", None),
    PrefetchTemplate(
        "observations",
        f"Observation?{_PATIENT}&_sort=-date&_count=200",
        Modality.VALUES,
    ),
    PrefetchTemplate(
        "reports", f"DiagnosticReport?{_PATIENT}&_sort=-date&_count=20", Modality.TEXT
    ),
    PrefetchTemplate(
        "documents",
        f"DocumentReference?{_PATIENT}&_sort=-date&_count=20",
        Modality.TEXT,
    ),
    PrefetchTemplate(
        "imaging", f"ImagingStudy?{_PATIENT}&_sort=-started&_count=10", Modality.IMAGE
    ),
)
CHEST = Service(
    id="trivium-chest",
    hook="patient-view",
    title="Trivium chest assessment",
    description=(
        "Estimates the probability of conditions of the chest from the newest frontal "
        "radiograph, the notes and reports, and coded measurements of one patient. "
        "Says how much each of the three contributed and what was missing."
    ),
    usage_requirements=(
        "Investigational. Not cleared or approved by any regulator; analyses a medical "
        "image. For evaluation by health professionals who can review the evidence "
        "themselves: it informs and does not direct. Works from prefetch or from the "
        "FHIR server; images come through DICOMweb."
    ),
    prefetch=CHEST_PREFETCH,
)
SERVICES: Mapping[tuple[str, str], Service] = MappingProxyType(
    {(service.id, service.hook): service for service in (CHEST,)}
)


def hooks_of(service_id: str) -> frozenset[str]:
    """The hooks under which this id is offered; empty for an unknown id."""
    return frozenset(hook for known, hook in SERVICES if known == service_id)
