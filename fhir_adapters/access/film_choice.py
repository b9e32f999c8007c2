"""Which instance of a study is the frontal film, and what else lies in the study.

Loader rules 8 and 14 (the numbers of the image-loader list):

- 14 The frontal film with the most pixels; PA before AP, stated before silent. One that
  a key object document rejects for its quality or for the patient's safety is never
  chosen (DICOM PS3.16 CID 7011); an instance that is listed twice is one instance.
- 8 A softcopy presentation state says how a person saw the film (window, inversion,
  rotation, shutters). None is applied, so its presence is a flag on the image.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from fhir_adapters.access.dicomweb import DicomWebClient
from fhir_adapters.dicom.instance import is_uid
from fhir_adapters.errors import AdapterError
from fhir_adapters.images import FRONTAL_VIEWS
from fhir_adapters.resources.imaging_study import RADIOGRAPH_MODALITIES

# DICOM JSON tags (PS3.6) of the metadata that decides which instance is asked for.
_SOP_UID, _SERIES_UID = "00080018", "0020000E"
_MODALITY, _VIEW, _BODY = "00080060", "00185101", "00180015"
_ROWS, _COLUMNS, _SERIES_TEXT = "00280010", "00280011", "0008103E"
# A key object document: its title, and what it speaks of.
_TITLE, _CODE, _SCHEME = "0040A043", "00080100", "00080102"
_EVIDENCE, _OF_SERIES, _OF_SOP = "0040A375", "00081115", "00081199"
_REFERENCED = "00081155"
# Rejected for quality reasons, rejected for patient safety reasons.
_REJECTIONS = frozenset({"113001", "113037"})
_MAX_KEY_OBJECTS = 3

PRESENTATION_STATE = "presentation-state-not-applied"
UNCHECKED = "study-companions-unchecked"


@dataclass(frozen=True, slots=True)
class FilmInstance:
    """One candidate of a study."""

    series_uid: str
    sop_uid: str
    view: str
    pixels: int


@dataclass(frozen=True, slots=True)
class Companions:
    """What a study holds beside its films.

    ``rejected`` are SOP instance UIDs that must not be used; ``flags`` go on the image.
    """

    rejected: frozenset[str] = frozenset()
    flags: tuple[str, ...] = ()


def companions_in(metadata: Sequence[dict[str, Any]]) -> Companions:
    """Read them from the metadata of the whole study."""
    modalities = {first(item, _MODALITY) for item in metadata}
    return Companions(
        rejected=frozenset(uid for item in metadata for uid in _rejected(item)),
        flags=(PRESENTATION_STATE,) if "PR" in modalities else (),
    )


def companions_of(
    client: DicomWebClient, study_uid: str, deadline: float
) -> Companions:
    """Ask the archive which other series the study has (QIDO-RS).

    An archive that cannot say leaves the film usable and flagged: many offer WADO only.
    """
    try:
        series = client.find_series(study_uid, deadline)
        flags = (PRESENTATION_STATE,) if _uids(series, "PR") else ()
        rejected: set[str] = set()
        for uid in _uids(series, "KO")[:_MAX_KEY_OBJECTS]:
            for item in client.instances(study_uid, uid, deadline):
                rejected.update(_rejected(item))
    except AdapterError:
        return Companions(flags=(UNCHECKED,))
    return Companions(frozenset(rejected), flags)


def _uids(series: Iterable[dict[str, Any]], modality: str) -> list[str]:
    """Series of one modality, well-formed UIDs only, in order."""
    found = {
        first(item, _SERIES_UID)
        for item in series
        if first(item, _MODALITY) == modality
    }
    return sorted(uid for uid in found if is_uid(uid))


def _rejected(item: dict[str, Any]) -> Iterator[str]:
    """The instances that a key object document rejects; none for anything else."""
    titles = [
        first(title, _CODE)
        for title in nested(item, _TITLE)
        if first(title, _SCHEME) == "DCM"
    ]
    if first(item, _MODALITY) != "KO" or not _REJECTIONS.intersection(titles):
        return
    for study in nested(item, _EVIDENCE):
        for series in nested(study, _OF_SERIES):
            for reference in nested(series, _OF_SOP):
                yield first(reference, _REFERENCED)


def nested(item: dict[str, Any], tag: str) -> list[dict[str, Any]]:
    """The items of a DICOM JSON sequence, none when it is no sequence."""
    return [value for value in values_of(item, tag) if isinstance(value, dict)]


def values_of(item: dict[str, Any], tag: str) -> list[Any]:
    """The values of a DICOM JSON attribute, none when it has none."""
    attribute = item.get(tag)
    values = attribute.get("Value") if isinstance(attribute, dict) else None
    return values if isinstance(values, list) else []


def choose_frontal(
    metadata: Sequence[dict[str, Any]], rejected: frozenset[str] = frozenset()
) -> FilmInstance | None:
    """The frontal radiograph with the most pixels; PA before AP, stated before silent.

    An instance that does not say its view is kept as a last choice: the decoder reads
    more tags than the metadata of every archive holds.
    """
    candidates = [
        found
        for item in metadata
        if (found := _candidate(item)) and found.sop_uid not in rejected
    ]
    order = {"PA": 3, "AP": 2, "": 1}
    return max(
        candidates,
        key=lambda found: (order[found.view], found.pixels, found.sop_uid),
        default=None,
    )


def _candidate(item: dict[str, Any]) -> FilmInstance | None:
    view = first(item, _VIEW).upper()
    body = first(item, _BODY).upper()
    described = first(item, _SERIES_TEXT).upper().split()
    lateral = not view and any(word.startswith("LAT") for word in described)
    if first(item, _MODALITY) not in RADIOGRAPH_MODALITIES or lateral:
        return None
    if view not in ("", *FRONTAL_VIEWS):
        return None
    if body and not any(word in body for word in ("CHEST", "THORAX", "LUNG")):
        return None
    series_uid, sop_uid = first(item, _SERIES_UID), first(item, _SOP_UID)
    if not is_uid(series_uid) or not is_uid(sop_uid):
        return None
    return FilmInstance(series_uid, sop_uid, view, _count(item, _ROWS, _COLUMNS))


def first(item: dict[str, Any], tag: str) -> str:
    """The first value of a DICOM JSON attribute as text (PS3.18 F.2)."""
    values = values_of(item, tag)
    value = values[0] if values else ""
    return value.strip() if isinstance(value, str) else ""


def _count(item: dict[str, Any], *tags: str) -> int:
    """The product of whole numbers, 0 when one is missing."""
    product = 1
    for tag in tags:
        values = values_of(item, tag)
        value = values[0] if values else 0
        product *= value if isinstance(value, int) else 0
    return product
