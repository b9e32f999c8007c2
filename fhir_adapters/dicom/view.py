"""Which projection a film is, which way round it lies, and when it was taken.

Loader rule 11: ViewPosition, else ViewCodeSequence, else SeriesDescription, marked as
inferred. A lateral is typed as LATERAL so that it never reaches a frontal model.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from fhir_adapters.dicom.tags import text, texts

_POSITIONS = {
    "PA": "PA",
    "AP": "AP",
    "LL": "LATERAL",
    "RL": "LATERAL",
    "LAT": "LATERAL",
    "LATERAL": "LATERAL",
    "LLD": "DECUBITUS",
    "RLD": "DECUBITUS",
    "LLO": "OBLIQUE",
    "RLO": "OBLIQUE",
}
# Context group 4010 (DX View), in SNOMED CT and in the older SNOMED RT codes.
_CODES = {
    "272479007": "PA",
    "R-10214": "PA",
    "399348003": "AP",
    "R-10206": "AP",
    "399173006": "LATERAL",
    "R-10236": "LATERAL",
    "399198007": "LATERAL",
    "R-10232": "LATERAL",
    "399067008": "LATERAL",
    "49370004": "LATERAL",
}
_WORDS = re.compile(r"\b(PA|AP|LAT|LATERAL)\b")
_CODING_SCHEMES = frozenset({"SCT", "SRT", "SNM3", "99SDM"})
_DATE_TIME = re.compile(r"([0-9]{14})(?:\.([0-9]{1,6}))?([+-][0-9]{4})?")
_OFFSET = re.compile(r"([+-])([0-9]{2})([0-9]{2})")
_DATED = ("Acquisition", "Content", "Series", "Study")


def view_of(dataset: Dataset) -> tuple[str | None, bool]:
    """The projection (PA, AP, LATERAL, ...) or None, and whether it was inferred."""
    stated = _POSITIONS.get(text(dataset, "ViewPosition").upper())
    if stated:
        return stated, False
    for item in dataset.get("ViewCodeSequence") or ():
        coded = _CODES.get(text(item, "CodeValue"))
        if coded and text(item, "CodingSchemeDesignator") in _CODING_SCHEMES:
            return coded, False
    words = _WORDS.findall(text(dataset, "SeriesDescription").upper())
    views = {_POSITIONS[word] for word in words}
    # "PA/LAT" names a study of two films and says nothing about this one.
    return (views.pop(), True) if len(views) == 1 else (None, False)


def orient(
    dataset: Dataset, pixels: NDArray[np.float32]
) -> tuple[NDArray[np.float32], list[str], list[str]]:
    """Lay a frontal film the usual way round: patient's left on the right, head up.

    Only what PatientOrientation states is undone; nothing is guessed from content.

    Args:
        dataset: The instance's tags.
        pixels: (H, W).

    Returns:
        Pixels (H, W), transforms, flags.
    """
    values = [value.upper() for value in texts(dataset, "PatientOrientation")]
    if len(values) != 2 or not all(values):
        return pixels, [], ["orientation-unknown"]
    row, column = values[0][0], values[1][0]
    if column not in "FH" or row not in "LRAP":
        return pixels, [], ["orientation-unusual"]
    transforms = []
    if row == "R":
        pixels = pixels[:, ::-1]
        transforms.append("flip-horizontal")
    if column == "H":
        pixels = pixels[::-1]
        transforms.append("flip-vertical")
    return pixels, transforms, []


def acquired(dataset: Dataset) -> datetime | None:
    """When the film was taken; without a time zone when the instance names none."""
    candidates = [text(dataset, "AcquisitionDateTime")]
    for name in _DATED:
        day, time = text(dataset, f"{name}Date"), text(dataset, f"{name}Time")
        # A date alone would read as midnight and could pass a cutoff it should not.
        if day and time:
            whole, _, fraction = time.partition(".")
            candidates.append(
                f"{day}{whole:0<6}" + (f".{fraction}" if fraction else "")
            )
    for candidate in candidates:
        match = _DATE_TIME.fullmatch(candidate)
        if match is None:
            continue
        try:
            moment = datetime.fromisoformat(f"{match[1][:8]}T{match[1][8:]}")
        except ValueError:
            continue
        moment = moment.replace(microsecond=int(f"{match[2] or '0':0<6}"))
        offset = match[3] or text(dataset, "TimezoneOffsetFromUTC")
        return moment.replace(tzinfo=_zone(offset))
    return None


def _zone(offset: str) -> timezone | None:
    """Read "+0130" as a fixed zone, None when absent or malformed."""
    match = _OFFSET.fullmatch(offset)
    if match is None:
        return None
    span = timedelta(hours=int(match[2]), minutes=int(match[3]))
    if span >= timedelta(hours=15):
        return None
    return timezone(-span if match[1] == "-" else span)
