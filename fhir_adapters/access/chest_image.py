"""The step of a gathering that finds, fetches and decodes one frontal chest radiograph.

Rules this module enforces:

* The newest chest study is the one that counts. If its image fails, an older one is
  not put in its place without a word: the failure is reported. Only a study without a
  frontal view lets the next older one be looked at.
* Pixels come from allow-listed DICOMweb bases. An Endpoint elsewhere is refused, and
  the token goes along only when the Endpoint asks for it (SMART Imaging Access).
* A film that a key object document rejects is not used; presentation states, which are
  not applied, are said (:mod:`.film_choice`).
* The instance must be the one asked for and this patient's; the decoder checks that
  again in the file itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from fhir_adapters.access.archive_search import studies_by_accession
from fhir_adapters.access.dicomweb import DicomWebClient
from fhir_adapters.access.film_choice import (
    FilmInstance,
    choose_frontal,
    companions_in,
    companions_of,
)
from fhir_adapters.access.gather_steps import failure_of
from fhir_adapters.access.gather_types import (
    Decode,
    Failure,
    GatherContext,
    StepResult,
)
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
    ImagingStudySummary,
    WadoEndpoint,
    endpoint_references,
    radiograph_series,
    read_imaging_study,
)
from fhir_adapters.resources.patient import read_patient

_EPOCH = datetime(1, 1, 2, tzinfo=UTC)
_MAX_ENDPOINTS = 5


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
        received: The result of the imaging step: studies and endpoints; and reports,
            whose accession numbers find a study that FHIR does not show.
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
    studies = _newest_first(own, known, context)
    if not studies:
        found = studies_by_accession(
            context,
            identity,
            _patient_ids(identity, context),
            received,
            deadline,
            result,
        )
        studies = _newest_first(found, known, context)
        result.received += [Received(study, "dicomweb") for study in studies]
    for resource in studies:
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
    client = DicomWebClient(base, context.door, token)
    chosen, companions = _only_instance(study), None
    if chosen is None:
        only = series[0].series_uid if len(series) == 1 else None
        metadata = client.instances(study.study_uid, only, deadline)
        if only is None:
            companions = companions_in(metadata)
        chosen = choose_frontal(
            metadata, companions.rejected if companions else frozenset()
        )
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
    if companions is None:
        companions = companions_of(client, study.study_uid, deadline)
    if chosen.sop_uid in companions.rejected:
        return ImageOutcome.failed(study.reference, "film_rejected")
    flags = (*image.flags, *companions.flags)
    return ImageOutcome.decoded(replace(image, flags=flags))


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


def _only_instance(study: ImagingStudySummary) -> FilmInstance | None:
    """The one instance of the one radiograph series, which spares a request."""
    series = radiograph_series(study)
    if len(series) != 1 or series[0].chest is not True:
        return None
    found = series[0].instances
    if len(found) != 1 or not is_uid(found[0]) or not is_uid(series[0].series_uid):
        return None
    return FilmInstance(series[0].series_uid, found[0], "", 0)
