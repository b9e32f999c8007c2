"""The words of gathering: what to gather, what came of it, what is still missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from fhir_adapters.access.door import Door
from fhir_adapters.access.fhir_client import FhirClient
from fhir_adapters.dicom.instance import ExpectedInstance
from fhir_adapters.patient_record import ChestImage, Modality
from fhir_adapters.policy import AdapterPolicy
from fhir_adapters.prefetched import PrefetchedKey
from fhir_adapters.received import ImageOutcome, Received

KEYS = ("patient", "observations", "reports", "documents", "imaging", "endpoints")
"""The prefetch keys."""

STEPS = ("patient", "observations", "reports", "documents", "imaging", "image")
"""The steps of a gathering, in the order in which they are reported."""


class Decode(Protocol):
    """Turn one DICOM file into an image, in a place where it can do no harm."""

    def __call__(
        self,
        data: bytes,
        *,
        expected: ExpectedInstance,
        reference: str,
        origin: str,
        deadline: float | None = None,
    ) -> ChestImage:
        """See :func:`fhir_adapters.dicom.decode_process.decode_in_child`."""


@dataclass(frozen=True, slots=True)
class GatherPolicy:
    """Limits of one gathering.

    Args:
        max_seconds: Hard end of all network work, counted from construction.
        observation_pages: Pages of Observations at most.
        other_pages: Pages of each other search at most.
        page_size: ``_count`` for Observations (Oracle Health caps it at 200).
        attachments: Report and document texts fetched by URL at most.
        look_back_days: Age of the oldest chest study that may be chosen.
        studies_tried: Studies looked into for a frontal view, newest first.
        patient_parameter: "id" or "reference": how the site wants ``patient=``. An
            empty answer is asked for once more in the other form, because a server
            that does not know a form answers with nothing.
        fetch_image: False leaves DICOMweb alone.
    """

    max_seconds: float = 30.0
    observation_pages: int = 5
    other_pages: int = 2
    page_size: int = 200
    attachments: int = 10
    look_back_days: float = 3650.0
    studies_tried: int = 3
    patient_parameter: str = "id"
    fetch_image: bool = True


@dataclass(frozen=True, slots=True)
class GatherContext:
    """What to gather and the doors to gather it through.

    Args:
        patient_id: The patient that the EHR has open.
        prefetched: State per key of :data:`KEYS`; a key left out counts as ABSENT.
        fhir: The EHR's FHIR server, None when the hook named none.
        door: The door for DICOMweb.
        dicomweb_bases: Allow-list of DICOMweb bases; the first is used when an
            ImagingStudy names no Endpoint.
        access_token: Goes to a DICOMweb base only when the Endpoint says that it is
            required *and* the base is in the allow-list.
        patient_identifier_systems: Identifier systems that DICOM's PatientID may hold;
            empty: every identifier of the Patient, and its id.
        not_after: Studies started later are not chosen; None: no limit.
        policy: Limits.
        adapters: The policy that ``assemble`` will get, for zones and caps.
    """

    patient_id: str
    prefetched: Mapping[str, PrefetchedKey]
    fhir: FhirClient | None
    door: Door
    dicomweb_bases: tuple[str, ...] = ()
    access_token: str | None = field(default=None, repr=False)
    patient_identifier_systems: tuple[str, ...] = ()
    not_after: datetime | None = None
    policy: GatherPolicy = GatherPolicy()
    adapters: AdapterPolicy = AdapterPolicy()


@dataclass(frozen=True, slots=True)
class Failure:
    """A step that failed, or gave less than asked for, with a safe reason code.

    ``status`` is the HTTP status, 0 when there was no answer. ``partial`` is True
    when something did arrive, for example the first pages of a search.
    """

    step: str
    reason: str
    status: int = 0
    partial: bool = False


@dataclass(frozen=True, slots=True)
class Gathered:
    """All that could be had; hand ``patient, received, images`` to ``assemble``.

    Args:
        patient: None only when the Patient could not be had (see ``failures``).
        received: Everything else, from prefetch and server.
        images: The chosen image or its typed failure; empty when there is no study.
        missing: Keys that the EHR did not send and that nobody could be asked for.
        failures: What failed, with reasons.
        unavailable: Reason per modality whose source failed; for ``assemble``, so
            that "failed" is never shown as "absent".
    """

    patient: dict[str, Any] | None
    received: tuple[Received, ...] = ()
    images: tuple[ImageOutcome, ...] = ()
    missing: tuple[str, ...] = ()
    failures: tuple[Failure, ...] = ()
    unavailable: Mapping[Modality, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pending:
    """The deadline passed first: ``waiting_for`` names the steps still running."""

    waiting_for: tuple[str, ...]


@dataclass(slots=True)
class StepResult:
    """What one step gave."""

    patient: dict[str, Any] | None = None
    received: list[Received] = field(default_factory=list)
    images: list[ImageOutcome] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
