"""What must hold of an instance before its pixels are decoded, and what is noted.

Rules, by the numbers of the image-loader list:

- 1 SOP class: chest films only; a secondary capture is flagged, raw detector data and
  anything that is no image is refused.
- 2 Size from tags before decoding: rows, columns, samples, bits, frames.
- 3 Short PixelData is refused (native syntaxes; the codestream's own header otherwise).
- 10 One frame.
- A body part other than the chest is flagged.
- 12 Burned-in text and recognisable features are flagged.
- 13 The patient and the UIDs are the ones asked for: the wrong patient's film is the
  worst thing this module can let through.
- 17 Lossy compression is recorded.
"""

from __future__ import annotations

from pydicom.dataset import Dataset

from fhir_adapters.dicom.file_meta import FileMeta
from fhir_adapters.dicom.instance import MAX_PIXELS, ExpectedInstance, is_uid
from fhir_adapters.dicom.tags import number, text
from fhir_adapters.errors import ImageUnreadableError

COMPUTED_RADIOGRAPHY = "1.2.840.10008.5.1.4.1.1.1"
DX_FOR_PRESENTATION = "1.2.840.10008.5.1.4.1.1.1.1"
DX_FOR_PROCESSING = "1.2.840.10008.5.1.4.1.1.1.1.1"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"

MAX_SIDE = 16384
_COLOUR = frozenset({"RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"})
_GREY = frozenset({"MONOCHROME1", "MONOCHROME2"})
_CHEST = frozenset({"CHEST", "THORAX", "LUNG", "RIB", "HEART"})
_MAX_TERM = 16  # characters of a code string (VR CS)


def check_sop_class(dataset: Dataset) -> tuple[str, ...]:
    """Rule 1.

    Returns:
        Flags: "secondary-capture" or none.

    Raises:
        ImageUnreadableError: "sop_class_for_processing" or "sop_class_not_supported".
    """
    sop_class = text(dataset, "SOPClassUID")
    if sop_class == DX_FOR_PROCESSING:
        # Raw detector values: another grey scale than any film the model has seen.
        raise ImageUnreadableError("sop_class_for_processing")
    if sop_class == SECONDARY_CAPTURE:
        return ("secondary-capture",)
    if sop_class not in {COMPUTED_RADIOGRAPHY, DX_FOR_PRESENTATION}:
        raise ImageUnreadableError("sop_class_not_supported")
    return ()


def check_identity(
    dataset: Dataset, meta: FileMeta, expected: ExpectedInstance
) -> tuple[str, ...]:
    """Rule 13 (patient mix-up; an archive that answers with another instance).

    Returns:
        Flags: "patient-id-unchecked" when the site maps no patient identifiers.

    Raises:
        ImageUnreadableError: "uid_malformed", "uid_mismatch", "patient_id_missing" or
            "other_patient".
    """
    uids = {
        "StudyInstanceUID": expected.study_uid,
        "SeriesInstanceUID": expected.series_uid,
        "SOPInstanceUID": expected.sop_uid,
    }
    for keyword, wanted in uids.items():
        found = text(dataset, keyword)
        if not is_uid(found):
            raise ImageUnreadableError("uid_malformed", keyword)
        if wanted is not None and found != wanted:
            raise ImageUnreadableError("uid_mismatch", keyword)
    if meta.sop_uid and meta.sop_uid != text(dataset, "SOPInstanceUID"):
        raise ImageUnreadableError("uid_mismatch", "file meta")
    if not expected.patient_ids:
        return ("patient-id-unchecked",)
    patient = text(dataset, "PatientID")
    if not patient:
        raise ImageUnreadableError("patient_id_missing")
    issued = f"{text(dataset, 'IssuerOfPatientID')}|{patient}"
    if not expected.patient_ids & {patient, issued}:
        raise ImageUnreadableError("other_patient")
    return ()


def check_size(dataset: Dataset, *, native: bool) -> None:
    """Rules 2, 3, 9 and 10, from tags alone.

    Args:
        dataset: The instance, pixels still encoded.
        native: The transfer syntax is uncompressed, so the length must fit.

    Raises:
        ImageUnreadableError: "frames_not_supported", "size_not_supported",
            "bits_not_supported", "photometric_not_supported" or "pixel_data_short".
    """
    if number(dataset, "NumberOfFrames", 1) != 1:
        raise ImageUnreadableError("frames_not_supported")
    rows, columns = number(dataset, "Rows", 0), number(dataset, "Columns", 0)
    in_range = 1 <= rows <= MAX_SIDE and 1 <= columns <= MAX_SIDE
    if not in_range or rows * columns > MAX_PIXELS:
        raise ImageUnreadableError("size_not_supported")
    samples = number(dataset, "SamplesPerPixel", 1)
    _check_photometric(dataset, samples)
    allocated = number(dataset, "BitsAllocated", 0)
    stored = number(dataset, "BitsStored", 0)
    fits = allocated in {8, 16} and 1 <= stored <= allocated
    if not fits or number(dataset, "HighBit", stored - 1) != stored - 1:
        raise ImageUnreadableError("bits_not_supported")
    pixel_data = dataset.get("PixelData")
    if not pixel_data:
        raise ImageUnreadableError("pixel_data_missing")
    if native and len(pixel_data) < rows * columns * samples * (allocated // 8):
        # YBR_FULL_422 stores two samples a pixel, yet only in compressed syntaxes here.
        raise ImageUnreadableError("pixel_data_short")


def body_part_flags(dataset: Dataset) -> tuple[str, ...]:
    """The BodyPartExamined where it is another one than the chest.

    Only what has the form of a defined term (DICOM PS3.16 Annex L) is passed on; who
    reads the film decides which parts are wrong.
    """
    part = text(dataset, "BodyPartExamined").upper()
    if not part or part in _CHEST or not (part.isascii() and part.isalpha()):
        return ()
    return (f"body-part:{part[:_MAX_TERM]}",)


def exposure_flags(dataset: Dataset) -> tuple[str, ...]:
    """Rules 12 and 17: what may identify a person, what was lost."""
    flags = []
    burned_in = text(dataset, "BurnedInAnnotation")
    if burned_in == "YES":
        flags.append("burned-in-annotation")
    elif burned_in != "NO":
        flags.append("burned-in-unknown")
    if text(dataset, "RecognizableVisualFeatures") == "YES":
        flags.append("recognizable-features")
    if text(dataset, "LossyImageCompression") == "01":
        flags.append("lossy-compressed")
    return tuple(flags)


def is_colour(dataset: Dataset) -> bool:
    """True when the instance has three samples a pixel."""
    return text(dataset, "PhotometricInterpretation") in _COLOUR


def _check_photometric(dataset: Dataset, samples: int) -> None:
    """Grey anywhere; colour in a secondary capture only; a palette nowhere."""
    photometric = text(dataset, "PhotometricInterpretation")
    if photometric in _GREY and samples == 1:
        return
    captured = text(dataset, "SOPClassUID") == SECONDARY_CAPTURE
    bits = number(dataset, "BitsAllocated", 0)
    if photometric in _COLOUR and samples == 3 and captured and bits == 8:
        return
    raise ImageUnreadableError("photometric_not_supported")
