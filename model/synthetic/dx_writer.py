"""Writes a grey image as a DICOM Digital X-Ray instance, for presentation.

Nothing is invented: what is not known is left empty where the standard allows an empty
attribute (type 2) and is left out where it does not (an imported JPEG has no known
pixel spacing). Twelve bits are stored, and the one window spans all of them, so that a
conforming reader gets the pixels back within one part in 4,095.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from datetime import date, datetime

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import UID, ExplicitVRLittleEndian

DX_FOR_PRESENTATION = "1.2.840.10008.5.1.4.1.1.1.1"
# UUID-derived, as the standard allows for everybody (2.25).
IMPLEMENTATION_UID = "2.25.298203017193346842093427265413320174291"

_UID = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))+")

BITS = 12
FULL_SCALE = 2**BITS - 1

_SEX_CODE = {"female": "F", "male": "M", "other": "O"}

# SNOMED CT codes of the projections in DICOM context group 4010.
_VIEW_CODE = {
    "PA": ("272479007", "postero-anterior"),
    "AP": ("399348003", "antero-posterior"),
    "LL": ("399173006", "left lateral"),
    "RL": ("399198007", "right lateral"),
}


@dataclass(frozen=True, slots=True)
class FilmFacts:
    """What is known of a film besides its pixels; None means not known.

    ``sex`` is a FHIR gender; ``orientation`` the DICOM direction of rows and columns
    (a frontal film in the usual display is ("L", "F")); ``pixel_spacing_mm`` row and
    column spacing at the detector; ``derived`` marks pixels that are not the
    detector's own; ``lossy`` those that went through lossy compression.
    """

    acquired_at: datetime | None = None
    sex: str | None = None
    birth_date: date | None = None
    burned_in_annotation: bool | None = None
    orientation: tuple[str, str] | None = None
    pixel_spacing_mm: tuple[float, float] | None = None
    issuer: str | None = None
    description: str = ""
    derived: bool = False
    lossy: bool = False


UNKNOWN = FilmFacts()


def dx_instance(
    pixels01: NDArray[np.floating],
    *,
    patient_id: str,
    study_uid: str,
    series_uid: str,
    sop_uid: str,
    view: str | None,
    facts: FilmFacts = UNKNOWN,
) -> bytes:
    """One DX instance as a complete DICOM file.

    Args:
        pixels01: (H, W) in [0, 1], bright means dense.
        patient_id: PatientID; the name is always left empty.
        study_uid: Study instance UID.
        series_uid: Series instance UID.
        sop_uid: SOP instance UID.
        view: ViewPosition ("PA", "AP", "LL", "RL") or None when not known.
        facts: Whatever else is known.

    Raises:
        ValueError: The pixels are not a two-dimensional image within [0, 1], or a UID
            is malformed.
    """
    for uid in (study_uid, series_uid, sop_uid):
        if len(uid) > 64 or not _UID.fullmatch(uid):
            raise ValueError("malformed UID")
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(DX_FOR_PRESENTATION)
    meta.MediaStorageSOPInstanceUID = UID(sop_uid)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(IMPLEMENTATION_UID)
    meta.ImplementationVersionName = "TRIVIUM_SYNTH"

    film = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    film.SOPClassUID = meta.MediaStorageSOPClassUID
    film.SOPInstanceUID = UID(sop_uid)
    film.StudyInstanceUID = UID(study_uid)
    film.SeriesInstanceUID = UID(series_uid)
    _describe_patient(film, patient_id, facts)
    _describe_series(film, view, facts)
    _set_pixels(film, pixels01, facts)
    buffer = io.BytesIO()
    film.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _describe_patient(film: Dataset, patient_id: str, facts: FilmFacts) -> None:
    film.SpecificCharacterSet = "ISO_IR 192"
    film.PatientName = ""
    film.PatientID = patient_id
    if facts.issuer is not None:
        film.IssuerOfPatientID = facts.issuer
    film.PatientSex = _SEX_CODE.get(facts.sex or "", "")
    born = facts.birth_date
    film.PatientBirthDate = "" if born is None else born.strftime("%Y%m%d")


def _describe_series(film: Dataset, view: str | None, facts: FilmFacts) -> None:
    at = facts.acquired_at
    day = "" if at is None else at.strftime("%Y%m%d")
    time = "" if at is None else at.strftime("%H%M%S")
    film.StudyDate = film.ContentDate = film.AcquisitionDate = day
    film.StudyTime = film.ContentTime = film.AcquisitionTime = time
    if at is not None and at.utcoffset() is not None:
        film.TimezoneOffsetFromUTC = at.strftime("%z")
    film.AccessionNumber = ""
    film.ReferringPhysicianName = ""
    film.StudyID = ""
    film.Manufacturer = ""
    if facts.description:
        film.SeriesDescription = facts.description
    film.Modality = "DX"
    film.SeriesNumber = 1
    film.InstanceNumber = 1
    film.PresentationIntentType = "FOR PRESENTATION"
    film.BodyPartExamined = "CHEST"
    film.AnatomicRegionSequence = DicomSequence([_code("816094009", "Chest")])
    film.ImageLaterality = "U"
    film.ViewPosition = "" if view is None else view
    if view in _VIEW_CODE:
        film.ViewCodeSequence = DicomSequence([_code(*_VIEW_CODE[view])])
    if facts.orientation is not None:
        film.PatientOrientation = list(facts.orientation)
    film.AcquisitionContextSequence = DicomSequence()
    film.DetectorType = ""


def _set_pixels(
    film: Dataset, pixels01: NDArray[np.floating], facts: FilmFacts
) -> None:
    grey = np.asarray(pixels01, dtype=np.float64)
    if grey.ndim != 2 or not grey.size:
        raise ValueError("a film has two dimensions")
    if not (np.isfinite(grey).all() and grey.min() >= 0.0 and grey.max() <= 1.0):
        raise ValueError("pixels must lie within 0 and 1")
    origin = ["DERIVED", "SECONDARY"] if facts.derived else ["ORIGINAL", "PRIMARY"]
    film.ImageType = [*origin, ""]
    film.Rows, film.Columns = grey.shape
    film.SamplesPerPixel = 1
    film.PhotometricInterpretation = "MONOCHROME2"
    film.BitsAllocated = 16
    film.BitsStored = BITS
    film.HighBit = BITS - 1
    film.PixelRepresentation = 0
    if not facts.derived:
        film.PixelIntensityRelationship = "LOG"
    # More dose gives a lower value: bright means dense.
    film.PixelIntensityRelationshipSign = -1
    film.RescaleIntercept = 0
    film.RescaleSlope = 1
    film.RescaleType = "US"
    film.PresentationLUTShape = "IDENTITY"
    # LINEAR maps centre - width/2 to 0 and centre + width/2 - 1 to full scale.
    film.WindowCenter = 2 ** (BITS - 1)
    film.WindowWidth = 2**BITS
    film.VOILUTFunction = "LINEAR"
    film.LossyImageCompression = "01" if facts.lossy else "00"
    if facts.burned_in_annotation is not None:
        film.BurnedInAnnotation = "YES" if facts.burned_in_annotation else "NO"
    if facts.pixel_spacing_mm is not None:
        film.ImagerPixelSpacing = list(facts.pixel_spacing_mm)
    film.PixelData = np.rint(grey * FULL_SCALE).astype("<u2").tobytes()


def _code(value: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue = value
    item.CodingSchemeDesignator = "SCT"
    item.CodeMeaning = meaning
    return item
