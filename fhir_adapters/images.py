"""Imaging studies and image outcomes of one record -> usable frontal images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from fhir_adapters.errors import ValueRejectedError
from fhir_adapters.patient_record import ChestImage, Provenance, Skip
from fhir_adapters.policy import AdapterPolicy
from fhir_adapters.received import ImageOutcome, Received
from fhir_adapters.resources.imaging_study import (
    ImagingStudySummary,
    read_imaging_study,
)

FRONTAL_VIEWS = frozenset({"PA", "AP"})
IDENTIFYING_FLAGS = ("burned-in-annotation", "recognizable-features")
"""Flags of films whose pixels may name or show the patient (loader rule 12)."""


def studies_and_skips(
    items: Iterable[tuple[Received, Provenance]],
    endpoints: Mapping[str, dict[str, Any]],
    policy: AdapterPolicy,
) -> tuple[tuple[ImagingStudySummary, ...], list[Skip]]:
    """Read all imaging studies; one that no radiograph model reads is named."""
    studies: list[ImagingStudySummary] = []
    skips: list[Skip] = []
    for item, provenance in items:
        try:
            study = read_imaging_study(item.resource, endpoints, policy)
        except ValueRejectedError as error:
            skips.append(Skip(provenance.reference, error.reason, error.detail))
            continue
        studies.append(study)
        other = ", ".join(sorted(study.unsupported_modalities()))
        if other:
            skips.append(Skip(provenance.reference, "modality_not_supported", other))
    return tuple(studies), skips


def images_and_skips(
    outcomes: Iterable[ImageOutcome],
    studies: Sequence[ImagingStudySummary],
    cutoff: datetime,
    policy: AdapterPolicy,
) -> tuple[tuple[ChestImage, ...], list[Skip]]:
    """Frontal images up to the cutoff, newest first, undated ones last.

    A film that shows who it is of is used only where the site's policy allows that. A
    lateral view never reaches a model of frontal views, and an unknown view is not
    assumed to be frontal.
    """
    usable: list[ChestImage] = []
    skips: list[Skip] = []
    started = {study.study_uid: study.started for study in studies}
    for outcome in outcomes:
        reason = outcome.reason
        image = outcome.image
        if image is not None:
            reason = _image_refusal(image, started, cutoff, policy)
        if image is None or reason:
            skips.append(Skip(outcome.reference, reason))
        else:
            usable.append(image)
    dated = [image for image in usable if image.acquired_at is not None]
    dated.sort(key=lambda image: image.acquired_at or cutoff, reverse=True)
    undated = [image for image in usable if image.acquired_at is None]
    return (*dated, *undated), skips


def _image_refusal(
    image: ChestImage,
    started: Mapping[str, datetime | None],
    cutoff: datetime,
    policy: AdapterPolicy,
) -> str:
    for flag in IDENTIFYING_FLAGS if not policy.identifying_films else ():
        if flag in image.flags:
            return flag.replace("-", "_")
    if image.view is None:
        return "view_unknown"
    if image.view not in FRONTAL_VIEWS:
        return "not_frontal"
    # A film without a zoned time of its own is as old as its study says.
    taken = image.acquired_at or started.get(image.study_uid)
    return "after_cutoff" if taken is not None and taken > cutoff else ""
