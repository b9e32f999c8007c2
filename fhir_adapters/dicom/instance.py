"""What is asked for, what a decoder found, and how the two become a ChestImage.

Free of pydicom, so that the process that never decodes can import it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, tzinfo

import numpy as np
from numpy.typing import NDArray

from fhir_adapters.patient_record import ChestImage, Provenance

MAX_FILE_BYTES = 128 * 1024 * 1024
MAX_PIXELS = 40_000_000  # some four times the largest flat-panel detector

# A UID goes into a URL, so it must not be able to spell "..": PS3.5 section 9.1, less
# its ban on leading zeros, which real archives break.
_UID = re.compile(r"[0-9]+(?:\.[0-9]+)*")


@dataclass(frozen=True, slots=True)
class ExpectedInstance:
    """What the caller asked for; an instance that is something else is refused.

    Attributes:
        study_uid: StudyInstanceUID asked for.
        series_uid: SeriesInstanceUID, None when any series of the study will do.
        sop_uid: SOPInstanceUID, None when any instance will do.
        patient_ids: PatientID values of the patient in context, each "id" or
            "issuer|id"; empty when the site maps no identifiers (then flagged).
        site_zone: Time zone of the site, for instances without an offset of their own.
    """

    study_uid: str
    series_uid: str | None = None
    sop_uid: str | None = None
    patient_ids: frozenset[str] = frozenset()
    site_zone: tzinfo | None = None


@dataclass(frozen=True, slots=True, eq=False)
class DecodedInstance:
    """What decoding one instance gave, without saying whose it is.

    ``pixels`` is (H, W) float32 in [0, 1]. ``acquired`` has no time zone when the
    instance names none.
    """

    pixels: NDArray[np.float32]
    view: str | None
    view_inferred: bool
    study_uid: str
    series_uid: str
    sop_uid: str
    acquired: datetime | None
    transforms: tuple[str, ...]
    flags: tuple[str, ...]


def is_uid(text: str) -> bool:
    """True for a DICOM UID that is safe in a URL path."""
    return len(text) <= 64 and _UID.fullmatch(text) is not None


def to_chest_image(
    decoded: DecodedInstance,
    *,
    expected: ExpectedInstance,
    reference: str,
    origin: str,
    sha256: str,
) -> ChestImage:
    """Add provenance and a time zone to what the decoder found.

    Args:
        decoded: The decoder's result.
        expected: What was asked for; its site zone completes a local time.
        reference: FHIR reference of the study, the SOP instance UID is appended.
        origin: "dicomweb", "fhir", "prefetch" or "folder".
        sha256: Hex digest of the received bytes.
    """
    acquired, flags = decoded.acquired, list(decoded.flags)
    if acquired is not None and acquired.tzinfo is None:
        # A local time without a zone cannot be compared with the cutoff, and guessing
        # the zone could let a film from after the cutoff in.
        if expected.site_zone is None:
            acquired = None
            flags.append("acquired-at-without-zone")
        else:
            acquired = acquired.replace(tzinfo=expected.site_zone)
            flags.append("acquired-at-site-zone")
    base = reference.partition("#")[0]
    return ChestImage(
        pixels=decoded.pixels,
        view=decoded.view,
        view_inferred=decoded.view_inferred,
        study_uid=decoded.study_uid,
        series_uid=decoded.series_uid,
        sop_uid=decoded.sop_uid,
        acquired_at=acquired,
        provenance=Provenance(f"{base}#{decoded.sop_uid}", origin, sha256),
        transforms=decoded.transforms,
        flags=tuple(flags),
    )
