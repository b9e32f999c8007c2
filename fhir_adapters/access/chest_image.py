"""The step of a gathering that finds, fetches and decodes one frontal chest radiograph.

Rules this module enforces:

* The newest chest study is the one that counts. If its image fails, an older one is
  not put in its place without a word: the failure is reported. Only a study without a
  frontal view lets the next older one be looked at.
* Pixels come from allow-listed DICOMweb bases. An Endpoint elsewhere is refused, and
  the token goes along only when the Endpoint asks for it (SMART Imaging Access).
* The instance must be the one asked for and this patient's; the decoder checks that
  again in the file itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from fhir_adapters.access.dicomweb import DicomWebClient
from fhir_adapters.access.gather_steps import failure_of
from fhir_adapters.access.gather_types import (
    Decode,
    Failure,
    GatherContext,
    StepResult,
)
from fhir_adapters.access.outbound import OutboundDoor
from fhir_adapters.access.outbound_url import parse_url
from fhir_adapters.bundle import entry_refusal, index, subject_refusal
from fhir_adapters.dicom.instance import ExpectedInstance, is_uid
from fhir_adapters.errors import (
    AdapterError,
    OutboundRefusedError,
    ValueRejectedError,
)
from fhir_adapters.images import FRONTAL_VIEWS
from fhir_adapters.patient_record import PatientIdentity
from fhir_adapters.received import ImageOutcome, Received
from fhir_adapters.resources.elements import resource_type
from fhir_adapters.resources.imaging_study import (
    RADIOGRAPH_MODALITIES,
    ImagingStudySummary,
    WadoEndpoint,
    endpoint_references,
    radiograph_series,
    read_imaging_study,
)
from fhir_adapters.resources.patient import read_patient

_EPOCH = datetime(1, 1, 2, tzinfo=UTC)
_MAX_ENDPOINTS = 5
# DICOM JSON tags (PS3.6) of the metadata that decides which instance is asked for.
_SOP_UID, _SERIES_UID = "00080018", "0020000E"
_MODALITY, _VIEW, _BODY = "00080060", "00185101", "00180015"
_ROWS, _COLUMNS, _SERIES_TEXT = "00280010", "00280011", "0008103E"


@dataclass(frozen=True, slots=True)
class _Instance:
    """One candidate of a study."""

    series_uid: str
    sop_uid: str
    view: str
    pixels: int


def fetch_image(
    context: GatherContext,
    patient: dict[str, Any],
    received: Sequence[Received],
    deadline: float,
    decode: Decode,
) -> StepResult:
    """Find the newest frontal chest radiograph and decode it.

    Args:
        context: What to gather.
        patient: The Patient, already checked.
        received: The result of the imaging step: studies and endpoints.
        deadline: ``time.monotonic()`` seconds.
        decode: Runs the decoder in its limited child.

    Returns:
        One outcome, or none when there is no study or nobody to ask for pixels (then
        with a ``no_endpoint`` failure). Endpoints that were read are in ``received``.
    """
    identity = read_patient(patient)
    result = StepResult()
    if not context.policy.fetch_image:
        return result
    known = index(received)
    own = _own_studies(received, identity, context)
    for resource in _newest_first(own, known, context):
        known.update(_endpoints(resource, known, context, deadline, result))
        study = read_imaging_study(resource, known, context.adapters)
        try:
            outcome = _from_study(study, identity, context, deadline, decode)
        except AdapterError as error:
            outcome = ImageOutcome.failed(study.reference, error.reason)
            result.failures.append(failure_of("image", error))
        if outcome is None:
            continue
        if outcome.reason == "no_endpoint":
            result.failures.append(Failure("image", "no_endpoint"))
        else:
            result.images.append(outcome)
        break
    return result


def _own_studies(
    received: Sequence[Received], identity: PatientIdentity, context: GatherContext
) -> list[dict[str, Any]]:
    """Studies of this patient; a stranger's is never asked pixels for."""
    return [
        item.resource
        for item in received
        if resource_type(item.resource) == "ImagingStudy"
        and not entry_refusal(item)
        and not subject_refusal(item.resource, identity, context.adapters)
    ]


def _endpoints(
    study: dict[str, Any],
    known: Mapping[str, dict[str, Any]],
    context: GatherContext,
    deadline: float,
    result: StepResult,
) -> dict[str, dict[str, Any]]:
    """The Endpoints of one study that were not received yet, read from the server."""
    found: dict[str, dict[str, Any]] = {}
    wanted = sorted(endpoint_references(study) - known.keys())
    if context.fhir is None:
        return found
    for reference in wanted[:_MAX_ENDPOINTS]:
        try:
            resource = context.fhir.read(
                "Endpoint", reference.removeprefix("Endpoint/"), deadline
            )
        except AdapterError as error:
            result.failures.append(failure_of("image", error, partial=True))
            continue
        found[reference] = resource
        result.received.append(Received(resource, "fhir"))
    return found


def _newest_first(
    studies: Sequence[dict[str, Any]],
    known: Mapping[str, dict[str, Any]],
    context: GatherContext,
) -> list[dict[str, Any]]:
    """Studies that may hold a chest radiograph, newest first, within the look-back."""
    usable: list[tuple[datetime, dict[str, Any]]] = []
    for resource in studies:
        try:
            study = read_imaging_study(resource, known, context.adapters)
        except ValueRejectedError:
            continue  # assemble reads it again and says why
        if study.may_be_chest_radiograph() and _in_time(study, context):
            usable.append((study.started or _EPOCH, resource))
    usable.sort(key=lambda dated: dated[0], reverse=True)
    return [resource for _, resource in usable[: context.policy.studies_tried]]


def _in_time(study: ImagingStudySummary, context: GatherContext) -> bool:
    if study.started is None:
        return True
    latest = context.not_after
    if latest is not None and study.started > latest:
        return False
    oldest = (latest or datetime.now(UTC)) - timedelta(
        days=context.policy.look_back_days
    )
    return study.started >= oldest


def _from_study(
    study: ImagingStudySummary,
    identity: PatientIdentity,
    context: GatherContext,
    deadline: float,
    decode: Decode,
) -> ImageOutcome | None:
    """The frontal image of one study; None when the study has no frontal view."""
    series = radiograph_series(study)
    endpoint = series[0].endpoint if series else study.endpoint
    base, token = _base(endpoint, context)
    if not base:
        return ImageOutcome.failed(study.reference, "no_endpoint")
    # The client uses no more of a door than check and get.
    client = DicomWebClient(base, cast(OutboundDoor, context.door), token)
    chosen = _only_instance(study)
    if chosen is None:
        only = series[0].series_uid if len(series) == 1 else None
        metadata = client.instances(study.study_uid, only, deadline)
        chosen = choose_frontal(metadata)
    if chosen is None:
        return None
    data = client.retrieve_instance(
        study.study_uid, chosen.series_uid, chosen.sop_uid, deadline
    )
    patient_ids = _patient_ids(identity, context)
    if not patient_ids:
        # The site names the systems of its PACS and this patient has none of them: a
        # film that cannot be matched is not used (harm: somebody else's film).
        return ImageOutcome.failed(study.reference, "patient_unmatched")
    image = decode(
        data,
        expected=ExpectedInstance(
            study_uid=study.study_uid,
            series_uid=chosen.series_uid,
            sop_uid=chosen.sop_uid,
            patient_ids=patient_ids,
            site_zone=context.adapters.site_zone,
        ),
        reference=study.reference,
        origin="dicomweb",
        deadline=deadline,
    )
    if image.view is not None and image.view not in FRONTAL_VIEWS:
        return None
    return ImageOutcome.decoded(image)


def _base(
    endpoint: WadoEndpoint | None, context: GatherContext
) -> tuple[str, str | None]:
    """The DICOMweb base to ask and the token to send along.

    Raises:
        OutboundRefusedError: The Endpoint's address is not in the allow-list (SSRF
            through a FHIR resource that anybody with write access could plant).
    """
    allowed = {
        str(parse_url(base)).rstrip("/"): base for base in context.dicomweb_bases
    }
    if endpoint is None:
        return (context.dicomweb_bases or ("",))[0], None
    address = str(parse_url(endpoint.address)).rstrip("/")
    if address not in allowed:
        raise OutboundRefusedError("endpoint_not_allowed")
    token = context.access_token if endpoint.requires_access_token else None
    return allowed[address], token


def _patient_ids(identity: PatientIdentity, context: GatherContext) -> frozenset[str]:
    systems = context.patient_identifier_systems
    values = {
        value
        for system, value in identity.identifiers
        if not systems or system in systems
    }
    return frozenset(values if systems else values | {identity.patient_id})


def _only_instance(study: ImagingStudySummary) -> _Instance | None:
    """The one instance of the one radiograph series, which spares a request."""
    series = radiograph_series(study)
    if len(series) != 1 or series[0].chest is not True:
        return None
    found = series[0].instances
    if len(found) != 1 or not is_uid(found[0]) or not is_uid(series[0].series_uid):
        return None
    return _Instance(series[0].series_uid, found[0], "", 0)


def choose_frontal(metadata: Sequence[dict[str, Any]]) -> _Instance | None:
    """The frontal radiograph with the most pixels; PA before AP, stated before silent.

    An instance that does not say its view is kept as a last choice: the decoder reads
    more tags than the metadata of every archive holds.
    """
    candidates = [found for item in metadata if (found := _candidate(item))]
    order = {"PA": 3, "AP": 2, "": 1}
    return max(
        candidates,
        key=lambda found: (order[found.view], found.pixels, found.sop_uid),
        default=None,
    )


def _candidate(item: dict[str, Any]) -> _Instance | None:
    view = _first(item, _VIEW).upper()
    body = _first(item, _BODY).upper()
    described = _first(item, _SERIES_TEXT).upper().split()
    lateral = not view and any(word.startswith("LAT") for word in described)
    if _first(item, _MODALITY) not in RADIOGRAPH_MODALITIES or lateral:
        return None
    if view not in ("", *FRONTAL_VIEWS):
        return None
    if body and not any(word in body for word in ("CHEST", "THORAX", "LUNG")):
        return None
    series_uid, sop_uid = _first(item, _SERIES_UID), _first(item, _SOP_UID)
    if not is_uid(series_uid) or not is_uid(sop_uid):
        return None
    return _Instance(series_uid, sop_uid, view, _count(item, _ROWS, _COLUMNS))


def _first(item: dict[str, Any], tag: str) -> str:
    """The first value of a DICOM JSON attribute as text (PS3.18 F.2)."""
    attribute = item.get(tag)
    values = attribute.get("Value") if isinstance(attribute, dict) else None
    first = values[0] if isinstance(values, list) and values else ""
    return first.strip() if isinstance(first, str) else ""


def _count(item: dict[str, Any], *tags: str) -> int:
    """The product of whole numbers, 0 when one is missing."""
    product = 1
    for tag in tags:
        attribute = item.get(tag)
        values = attribute.get("Value") if isinstance(attribute, dict) else None
        first = values[0] if isinstance(values, list) and values else 0
        product *= first if isinstance(first, int) else 0
    return product
