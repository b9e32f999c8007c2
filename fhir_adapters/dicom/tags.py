"""Typed reading of single tags: absent, empty and malformed values have one meaning.

Also the list of all tags that are read at all. pydicom skips the rest unparsed, so
names, comments and private tags never become objects in this process.
"""

from __future__ import annotations

import math

from pydicom.dataset import Dataset

TAGS_READ = (
    "SpecificCharacterSet",
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "StudyDate",
    "StudyTime",
    "SeriesDate",
    "SeriesTime",
    "AcquisitionDate",
    "AcquisitionTime",
    "AcquisitionDateTime",
    "ContentDate",
    "ContentTime",
    "TimezoneOffsetFromUTC",
    "SeriesDescription",
    "BodyPartExamined",
    "ViewPosition",
    "ViewCodeSequence",
    "PatientOrientation",
    "PatientID",
    "IssuerOfPatientID",
    "ImagerPixelSpacing",
    "PixelAspectRatio",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "BurnedInAnnotation",
    "RecognizableVisualFeatures",
    "LossyImageCompression",
    "LossyImageCompressionRatio",
    "RescaleSlope",
    "RescaleIntercept",
    "ModalityLUTSequence",
    "VOILUTSequence",
    "WindowCenter",
    "WindowWidth",
    "VOILUTFunction",
    "PresentationLUTShape",
    "PixelData",
)


def text(dataset: Dataset, keyword: str) -> str:
    """The value as stripped text, "" when absent; of several values the first."""
    values = texts(dataset, keyword)
    return values[0] if values else ""


def texts(dataset: Dataset, keyword: str) -> list[str]:
    """All values as stripped text."""
    value = dataset.get(keyword)
    if value is None or value == "":
        return []
    many = [value] if isinstance(value, str | int | float) else list(value)
    return [str(item).strip() for item in many]


def numbers(dataset: Dataset, keyword: str) -> list[float]:
    """All values as finite floats.

    Raises:
        ValueError: A value is no number or not finite.
    """
    values = [float(item) for item in texts(dataset, keyword)]
    if not all(math.isfinite(value) for value in values):
        raise ValueError(keyword)
    return values


def number(dataset: Dataset, keyword: str, default: int) -> int:
    """The first value as an integer, ``default`` when absent."""
    values = texts(dataset, keyword)
    return int(values[0]) if values else default
