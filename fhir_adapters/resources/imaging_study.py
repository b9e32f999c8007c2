"""ImagingStudy -> what is needed to find and choose a frontal chest radiograph.

After the SMART Imaging Access draft: the StudyInstanceUID is an identifier with system
``urn:dicom:uid`` and value ``urn:oid:<uid>``; pixels are behind an Endpoint of type
``dicom-wado-rs``, contained or referenced; a series' own Endpoint overrides the
study's. UIDs are checked before anyone builds a URL from them (path injection).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fhir_adapters.errors import ValueRejectedError
from fhir_adapters.policy import AdapterPolicy
from fhir_adapters.resources.elements import (
    Json,
    child,
    children,
    codings,
    local_reference,
    reference_to,
    references,
    resource_type,
    text,
)
from fhir_adapters.resources.moment import parse_moment

RADIOGRAPH_MODALITIES = frozenset({"CR", "DX"})
# Reports, key objects and presentation states (PS3.3 C.7.3.1.1.1) are no pictures.
_NOT_ACQUIRED = frozenset({"SR", "KO", "PR", "DOC", "SEG", "RTSTRUCT", ""})
_UID = re.compile(r"[0-9.]{1,64}")
_CHEST_CODES = frozenset(
    # SNOMED CT: thorax, chest wall, lung, both lungs, chest; LOINC chest radiographs.
    {"51185008", "78904004", "39607008", "74101002", "43799004", "816094009", "CHEST"}
    | {"36643-5", "36554-4", "42272-5", "24627-2", "30745-4", "36589-0"}
)
_CHEST_WORDS = re.compile(r"\b(chest|thorax|thoracic|lungs?|cxr)\b", re.IGNORECASE)
_TOKEN_EXTENSION = (
    "http://fhir.org/argonaut/smart-imaging/StructureDefinition/requires-access-token"
)


@dataclass(frozen=True, slots=True)
class WadoEndpoint:
    """Where pixels are: a DICOMweb base, and whether it wants the SMART token."""

    address: str
    requires_access_token: bool


@dataclass(frozen=True, slots=True)
class SeriesSummary:
    """One series: ``chest`` is None when nothing says which part of the body it is."""

    series_uid: str
    modality: str
    chest: bool | None
    instances: tuple[str, ...]
    endpoint: WadoEndpoint | None


@dataclass(frozen=True, slots=True)
class ImagingStudySummary:
    """One study with its radiograph series, endpoints resolved."""

    reference: str
    study_uid: str
    started: datetime | None
    series: tuple[SeriesSummary, ...]
    accessions: frozenset[str]
    based_on: frozenset[str]
    modalities: frozenset[str] = frozenset()
    chest: bool | None = None
    endpoint: WadoEndpoint | None = None

    def may_be_chest_radiograph(self) -> bool:
        """Whether a frontal chest radiograph may be in it, by what FHIR says."""
        if self.series:
            return bool(radiograph_series(self))
        # Some servers list no series: then the study's own modalities must do.
        return bool(self.modalities & RADIOGRAPH_MODALITIES)

    def unsupported_modalities(self) -> frozenset[str]:
        """What was acquired when none of it is a radiograph: CT, MR, US and so on."""
        acquired = self.modalities | {item.modality for item in self.series}
        if acquired & RADIOGRAPH_MODALITIES:
            return frozenset()
        return acquired - _NOT_ACQUIRED


def dicom_uid(value: str) -> str:
    """A DICOM UID, with or without ``urn:oid:``; empty when it is none."""
    uid = value.removeprefix("urn:oid:")
    return uid if _UID.fullmatch(uid) else ""


def accessions(resource: object) -> frozenset[str]:
    """Accession numbers: identifiers of type ACSN."""
    return frozenset(
        text(item, "value")
        for item in children(resource, "identifier")
        if any(code == "ACSN" for _, code in codings(item, "type"))
        and text(item, "value")
    )


def _study_uid(resource: Json) -> str:
    """The StudyInstanceUID; the RFC 3986 system is what older servers send."""
    for system in ("urn:dicom:uid", "urn:ietf:rfc:3986"):
        for item in children(resource, "identifier"):
            value = text(item, "value")
            if text(item, "system") == system and value.startswith("urn:oid:"):
                return dicom_uid(value)
    return ""


def read_imaging_study(
    resource: Json,
    by_reference: Mapping[str, dict[str, Any]],
    policy: AdapterPolicy,
) -> ImagingStudySummary:
    """Read one study whose subject is already known to be the patient.

    Args:
        resource: The ImagingStudy as plain JSON.
        by_reference: Endpoints by ``Endpoint/<id>``.
        policy: Site policy, for times without a zone.

    Raises:
        ValueRejectedError: ``not_available``, ``missing_status``, ``entered_in_error``,
            ``no_study_uid`` or ``modifier_extension``.
    """
    status = text(resource, "status")
    if status != "available":
        reason = status.replace("-", "_") if status == "entered-in-error" else ""
        raise ValueRejectedError(
            reason or ("not_available" if status else "missing_status")
        )
    if resource.get("modifierExtension"):
        raise ValueRejectedError("modifier_extension")
    study_uid = _study_uid(resource)
    if not study_uid:
        raise ValueRejectedError("no_study_uid")
    study_endpoint = _endpoint(resource, resource, by_reference)
    study_chest = _is_chest(resource)
    series = tuple(
        _series(item, resource, study_endpoint, study_chest, by_reference)
        for item in children(resource, "series")
    )
    return ImagingStudySummary(
        reference=reference_to(resource),
        study_uid=study_uid,
        started=_started(resource, policy),
        series=tuple(item for item in series if item.series_uid),
        accessions=accessions(resource),
        based_on=frozenset(
            {local_reference(ref) for ref in references(resource, "basedOn")} - {""}
        ),
        modalities=frozenset(
            text(item, "code").upper() for item in children(resource, "modality")
        ),
        chest=study_chest,
        endpoint=study_endpoint,
    )


def _started(resource: Json, policy: AdapterPolicy) -> datetime | None:
    """The start of the study; a time nobody can place leaves it unknown."""
    starts = [text(resource, "started")]
    starts += [text(item, "started") for item in children(resource, "series")]
    for value in filter(None, starts):
        try:
            return parse_moment(value, policy).at
        except ValueRejectedError:
            continue
    return None


def _series(
    item: Json,
    study: Json,
    study_endpoint: WadoEndpoint | None,
    study_chest: bool | None,
    by_reference: Mapping[str, dict[str, Any]],
) -> SeriesSummary:
    uids = (dicom_uid(text(instance, "uid")) for instance in children(item, "instance"))
    own_chest = _body_site(item)
    if own_chest is None:
        own_chest = _words(text(item, "description"))
    return SeriesSummary(
        series_uid=dicom_uid(text(item, "uid")),
        modality=text(child(item, "modality"), "code").upper(),
        chest=study_chest if own_chest is None else own_chest,
        instances=tuple(uid for uid in uids if uid),
        endpoint=_endpoint(item, study, by_reference) or study_endpoint,
    )


def _body_site(item: Json) -> bool | None:
    """What ``bodySite`` (a Coding) says; any other named site is not the chest."""
    site = child(item, "bodySite")
    code, display = text(site, "code"), text(site, "display")
    if not code and not display:
        return None
    return code in _CHEST_CODES or bool(_CHEST_WORDS.search(display))


def _words(description: str) -> bool | None:
    """True when a description speaks of the chest; silence proves nothing."""
    return True if _CHEST_WORDS.search(description) else None


def _is_chest(resource: Json) -> bool | None:
    """What the study says of itself as a whole."""
    if {code for _, code in codings(resource, "procedureCode")} & _CHEST_CODES:
        return True
    spoken = [text(item, "text") for item in children(resource, "procedureCode")]
    return _words(" ".join((text(resource, "description"), *spoken)))


def _endpoint(
    holder: Json, study: Json, by_reference: Mapping[str, dict[str, Any]]
) -> WadoEndpoint | None:
    """The first active dicom-wado-rs Endpoint that ``holder`` refers to."""
    contained = {
        "#" + text(item, "id"): item
        for item in children(study, "contained")
        if resource_type(item) == "Endpoint"
    }
    for reference in references(holder, "endpoint"):
        found = contained.get(reference) or by_reference.get(local_reference(reference))
        if found is not None and _is_wado(found):
            return WadoEndpoint(text(found, "address"), _requires_token(found))
    return None


def _is_wado(endpoint: Json) -> bool:
    connection = text(child(endpoint, "connectionType"), "code")
    usable = connection == "dicom-wado-rs" and text(endpoint, "status") == "active"
    return usable and bool(text(endpoint, "address"))


def _requires_token(endpoint: Json) -> bool:
    """Only the boolean true: the token is not sent on a maybe."""
    return any(
        text(extension, "url") == _TOKEN_EXTENSION
        and extension.get("valueBoolean") is True
        for extension in children(endpoint, "extension")
    )


def endpoint_references(resource: Json) -> frozenset[str]:
    """``Endpoint/<id>`` of every Endpoint that a study refers to outside itself."""
    named = references(resource, "endpoint")
    for item in children(resource, "series"):
        named.extend(references(item, "endpoint"))
    found = {local_reference(reference) for reference in named}
    return frozenset(ref for ref in found if ref.startswith("Endpoint/"))


def radiograph_series(study: ImagingStudySummary) -> tuple[SeriesSummary, ...]:
    """Series that may hold a chest radiograph, those that say so first."""
    usable = [
        item
        for item in study.series
        if item.modality in RADIOGRAPH_MODALITIES and item.chest is not False
    ]
    return tuple(sorted(usable, key=lambda item: item.chest is not True))
