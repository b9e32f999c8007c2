"""One DICOM instance in, one chest image out: the loader rules in order.

Pure: bytes and expectations in, pixels and provenance out, or a typed refusal. Meant to
run in the limited child process (:mod:`.decode_process`): the codecs below are C code
that reads hostile bytes.

Order matters, and is the order of :func:`decode`:

1. transfer syntax from the file meta, before pydicom sees the file (deflate bomb);
2. SOP class, identity and sizes from the tags, before any pixel is decoded;
3. the codestream's own header against the tags (JPEG 2000 bomb);
4. decoding by a named plugin;
5. modality LUT, padding, VOI, one inversion, orientation, pixel aspect;
6. quality flags.

Softcopy presentation states are other instances and so the caller's business.
"""

from __future__ import annotations

import hashlib
import logging
import warnings
from dataclasses import replace
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID

from fhir_adapters.dicom import checks, view
from fhir_adapters.dicom.codestream import announced_size
from fhir_adapters.dicom.file_meta import FileMeta, read_file_meta
from fhir_adapters.dicom.histogram import histogram, look_up
from fhir_adapters.dicom.instance import (
    MAX_FILE_BYTES,
    DecodedInstance,
    ExpectedInstance,
    to_chest_image,
)
from fhir_adapters.dicom.quality import quality_flags
from fhir_adapters.dicom.resample import square_pixels
from fhir_adapters.dicom.tags import TAGS_READ, number, numbers, text
from fhir_adapters.dicom.transfer_syntax import (
    Decoding,
    decoding_of,
    for_precision,
)
from fhir_adapters.dicom.voi import grey_table, padding_mask
from fhir_adapters.errors import ImageUnreadableError
from fhir_adapters.patient_record import ChestImage

__all__ = ["ExpectedInstance", "decode", "load_image"]

# ITU-R BT.601 luma, for the colour that a secondary capture may have.
_LUMA = (0.299, 0.587, 0.114)

# pydicom's messages quote what it read, names and numbers among it, and they would end
# up in our logs. What it noticed is kept as a flag instead.
logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)


def load_image(
    data: bytes, *, expected: ExpectedInstance, reference: str, origin: str
) -> ChestImage:
    """Decode one DICOM file in this process.

    Args:
        data: The file, preamble included.
        expected: What was asked for.
        reference: FHIR reference of the study ("ImagingStudy/<id>").
        origin: "dicomweb", "fhir", "prefetch" or "folder".

    Raises:
        ImageUnreadableError: With the reason; see the modules of this package.
    """
    return to_chest_image(
        decode(data, expected),
        expected=expected,
        reference=reference,
        origin=origin,
        sha256=hashlib.sha256(data).hexdigest(),
    )


def decode(data: bytes, expected: ExpectedInstance) -> DecodedInstance:
    """Apply the loader rules to one file.

    Raises:
        ImageUnreadableError: With the reason.
        MemoryError: The decoder asked for more than the process may have.
    """
    if len(data) > MAX_FILE_BYTES:
        raise ImageUnreadableError("file_too_large")
    meta = read_file_meta(data)
    decoding = decoding_of(meta.transfer_syntax)
    try:
        with warnings.catch_warnings(record=True) as noticed:
            warnings.simplefilter("always")
            decoded = _decode(data, meta, decoding, expected)
    except (ImageUnreadableError, MemoryError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as cause:
        # pydicom and the codecs raise whatever they like on hostile input, a codec in
        # Rust even a panic that is no Exception. All of it means the same here, and
        # their texts may quote the file, so only the class's name goes on.
        raise ImageUnreadableError("dicom_malformed", type(cause).__name__) from None
    if noticed:
        return replace(decoded, flags=(*decoded.flags, "dicom-warnings"))
    return decoded


def _decode(
    data: bytes, meta: FileMeta, decoding: Decoding, expected: ExpectedInstance
) -> DecodedInstance:
    """Check the tags, decode, and turn stored values into grey."""
    dataset = dcmread(BytesIO(data), specific_tags=list(TAGS_READ))
    flags = [*checks.check_sop_class(dataset)]
    flags += checks.check_identity(dataset, meta, expected)
    checks.check_size(dataset, native=not decoding.plugin)
    flags += checks.body_part_flags(dataset)
    flags += checks.exposure_flags(dataset)
    if decoding.codestream:
        decoding = _check_codestream(dataset, decoding)
    stored = _stored_values(dataset, meta, decoding)
    transforms = _provenance(dataset, decoding, stored)
    pixels, steps, grey_flags = _grey_pixels(dataset, stored)
    pixels, turns, turn_flags = view.orient(dataset, pixels)
    pixels, stretch = _square(dataset, pixels)
    seen, inferred = view.view_of(dataset)
    if seen is None:
        flags.append("view-unknown")
    return DecodedInstance(
        pixels=np.ascontiguousarray(pixels, dtype=np.float32),
        view=seen,
        view_inferred=inferred,
        study_uid=text(dataset, "StudyInstanceUID"),
        series_uid=text(dataset, "SeriesInstanceUID"),
        sop_uid=text(dataset, "SOPInstanceUID"),
        acquired=view.acquired(dataset),
        transforms=(*transforms, *steps, *turns, *stretch),
        flags=(*flags, *grey_flags, *turn_flags),
    )


def _stored_values(
    dataset: Dataset, meta: FileMeta, decoding: Decoding
) -> NDArray[Any]:
    """Decode the one frame; (H, W) of 8 or 16 bits, colour already turned to grey."""
    decoder = get_decoder(UID(meta.transfer_syntax))
    stored, _ = decoder.as_array(dataset, decoding_plugin=decoding.plugin)
    if checks.is_colour(dataset):
        # as_array has turned YBR into RGB.
        stored = np.rint(stored @ np.asarray(_LUMA)).astype(np.uint8)
    rows, columns = number(dataset, "Rows", 0), number(dataset, "Columns", 0)
    if stored.shape != (rows, columns) or stored.dtype.itemsize > 2:
        raise ImageUnreadableError("size_mismatch")
    return stored


def _check_codestream(dataset: Dataset, decoding: Decoding) -> Decoding:
    """The frame must announce the size that the tags promised and we allowed."""
    frame = next(generate_frames(dataset.PixelData, number_of_frames=1))
    announced = announced_size(frame)
    wanted = number(dataset, "Rows", 0), number(dataset, "Columns", 0)
    if (announced.rows, announced.columns) != wanted:
        raise ImageUnreadableError("size_mismatch", "codestream")
    chosen = for_precision(decoding, announced.precision)
    if announced.precision > number(dataset, "BitsAllocated", 0):
        raise ImageUnreadableError("bits_not_supported", "codestream")
    return chosen


def _grey_pixels(
    dataset: Dataset, stored: NDArray[Any]
) -> tuple[NDArray[np.float32], list[str], list[str]]:
    """Stored values (H, W) -> grey (H, W) float32 through one table; steps; flags."""
    unsigned = np.dtype(f"u{stored.dtype.itemsize}")
    index = np.ascontiguousarray(stored).view(unsigned)
    levels = np.arange(256**unsigned.itemsize, dtype=unsigned)
    values = levels.view(stored.dtype).astype(np.float64)
    counts = histogram(index.ravel(), levels.size)
    padded = padding_mask(dataset, values)
    has_padding = bool(counts[padded].any())
    counts[padded] = 0
    greys = grey_table(dataset, values, counts)
    flags = [*greys.flags, *quality_flags(greys.table, counts)]
    table = greys.table.astype(np.float32)
    # Padding is outside the film: black, also where the film was inverted.
    table[padded] = 0.0
    steps = [*greys.transforms, *(["padding-to-black"] if has_padding else [])]
    return look_up(table, index), steps, flags


def _square(
    dataset: Dataset, pixels: NDArray[np.float32]
) -> tuple[NDArray[np.float32], list[str]]:
    """Resample oblong pixels; (H, W) -> (H', W') and the step."""
    aspect = numbers(dataset, "PixelAspectRatio")
    if len(aspect) != 2 or aspect[0] == aspect[1]:
        return pixels, []
    step = f"resample aspect={aspect[0]:g}:{aspect[1]:g}"
    return square_pixels(pixels, aspect[0], aspect[1]), [step]


def _provenance(
    dataset: Dataset, decoding: Decoding, stored: NDArray[Any]
) -> list[str]:
    """Rules 15, 17 and 19: decoder, shape, spacing and loss, as received."""
    rows, columns = stored.shape
    plugin = decoding.plugin or "numpy"
    steps = [f"decode {decoding.label} by {plugin} {rows}x{columns}"]
    spacing = numbers(dataset, "ImagerPixelSpacing")
    if len(spacing) == 2:
        steps.append(f"imager spacing {spacing[0]:g}x{spacing[1]:g} mm")
    ratio = numbers(dataset, "LossyImageCompressionRatio")
    if ratio:
        steps.append(f"lossy ratio {ratio[-1]:g}")
    if checks.is_colour(dataset):
        steps.append("colour-to-grey")
    return steps
