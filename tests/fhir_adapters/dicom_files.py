"""Chest films as DICOM files, made on the spot in every transfer syntax we read."""

from __future__ import annotations

import base64
import io
import json
import struct
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gdcm
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    HTJ2K,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from fhir_adapters.dicom.instance import ExpectedInstance

CR = "1.2.840.10008.5.1.4.1.1.1"
DX = "1.2.840.10008.5.1.4.1.1.1.1"
STUDY = "1.2.826.0.1.3680043.10.1.1"
SERIES = "1.2.826.0.1.3680043.10.1.2"
SOP = "1.2.826.0.1.3680043.10.1.3"
PATIENT = "MRN-42"
EXPECTED = ExpectedInstance(STUDY, SERIES, SOP, frozenset({PATIENT}))

LOSSLESS = {
    "implicit": ImplicitVRLittleEndian,
    "explicit": ExplicitVRLittleEndian,
    "jpeg-2000": JPEG2000Lossless,
    "jpeg-ls": JPEGLSLossless,
    "jpeg-lossless": JPEGLossless,
    "jpeg-lossless-sv1": JPEGLosslessSV1,
    "htj2k": HTJ2KLossless,
    "htj2k-rpcl": HTJ2KLosslessRPCL,
    "rle": RLELossless,
}
# :func:`film` as OpenJPH encodes it: no other part of the tests can write HTJ2K.
_HTJ2K = Path(__file__).with_name("htj2k_films.json")
_GDCM = {
    JPEGLossless: gdcm.TransferSyntax.JPEGLosslessProcess14,
    JPEGLosslessSV1: gdcm.TransferSyntax.JPEGLosslessProcess14_1,
    JPEGBaseline8Bit: gdcm.TransferSyntax.JPEGBaselineProcess1,
    JPEGExtended12Bit: gdcm.TransferSyntax.JPEGExtendedProcess2_4,
}


def film(rows: int = 48, columns: int = 40, bits: int = 12) -> NDArray[np.uint16]:
    """A ramp with a bright disc, (rows, columns), spanning all of ``bits``."""
    y, x = np.mgrid[0:rows, 0:columns]
    ramp = (x + y) / (rows + columns - 2) * 0.7
    disc = (y - rows / 2) ** 2 + (x - columns / 2) ** 2 < (rows / 6) ** 2
    grey = np.where(disc, 1.0, ramp)
    return np.rint(grey * (2**bits - 1)).astype(np.uint16)


def dataset(pixels: NDArray[Any] | None = None, *, bits: int = 12) -> Dataset:
    """A complete CR instance, native explicit little endian."""
    pixels = film(bits=bits) if pixels is None else pixels
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID, ds.SOPInstanceUID = CR, SOP
    ds.StudyInstanceUID, ds.SeriesInstanceUID = STUDY, SERIES
    ds.PatientID, ds.PatientName, ds.Modality = PATIENT, "Doe^Secret", "CR"
    ds.StudyDate, ds.StudyTime = "20260102", "030405"
    ds.TimezoneOffsetFromUTC = "+0100"
    ds.ViewPosition = "PA"
    ds.PatientOrientation = ["L", "F"]
    ds.BurnedInAnnotation = "NO"
    ds.Rows, ds.Columns = pixels.shape[:2]
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.BitsAllocated = 8 * pixels.dtype.itemsize
    ds.BitsStored = min(bits, ds.BitsAllocated)
    ds.HighBit = ds.BitsStored - 1
    ds.PixelRepresentation = int(pixels.dtype.kind == "i")
    ds.WindowCenter, ds.WindowWidth = 2 ** (bits - 1), 2**bits
    ds.PixelData = pixels.tobytes()
    ds["PixelData"].VR = "OW" if ds.BitsAllocated == 16 else "OB"
    return ds


def file_bytes(ds: Dataset) -> bytes:
    """The dataset as a DICOM file."""
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def cr(change: Callable[[Dataset], None] | None = None, **made: Any) -> bytes:
    """A native CR file, after ``change`` had its way with the dataset."""
    ds = dataset(**made)
    if change is not None:
        change(ds)
    return file_bytes(ds)


def in_syntax(syntax: str, ds: Dataset | None = None) -> bytes:
    """The film in one of :data:`LOSSLESS`."""
    ds = dataset() if ds is None else ds
    uid = LOSSLESS[syntax]
    if uid in (HTJ2KLossless, HTJ2KLosslessRPCL):
        if ds.PixelData != film().tobytes():
            raise ValueError("HTJ2K is at hand for film() alone")
        return encapsulated(ds, uid, htj2k("lossless"))
    if uid in _GDCM:
        return by_gdcm(ds, uid)
    if uid.is_encapsulated:
        # Named, because GDCM's RLE encoder aborts the process on noise.
        plugin = "pyjpegls" if uid == JPEGLSLossless else "pylibjpeg"
        ds.compress(uid, encoding_plugin=plugin, generate_instance_uid=False)
    else:
        ds.file_meta.TransferSyntaxUID = uid
    return file_bytes(ds)


def htj2k(name: str) -> bytes:
    """The film "lossless" or "lossy" as HTJ2K, or "lossy_decoded" by its encoder."""
    packed = base64.b64decode(json.loads(_HTJ2K.read_text())[name])
    return zlib.decompress(packed) if name == "lossy_decoded" else packed


def htj2k_lossy() -> bytes:
    """The film in lossy HTJ2K."""
    return encapsulated(dataset(), HTJ2K, htj2k("lossy"))


def by_gdcm(ds: Dataset, uid: str) -> bytes:
    """The film in a syntax that GDCM writes and pydicom does not."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "film.dcm")
        Path(path).write_bytes(file_bytes(ds))
        reader = gdcm.ImageReader()
        reader.SetFileName(path)
        change = gdcm.ImageChangeTransferSyntax()
        change.SetTransferSyntax(gdcm.TransferSyntax(_GDCM[uid]))
        if not reader.Read():
            raise ValueError("gdcm cannot read the film")
        change.SetInput(reader.GetImage())
        if not change.Change():
            raise ValueError("gdcm cannot encode the film")
        writer = gdcm.ImageWriter()
        writer.SetFileName(path)
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        writer.Write()
        return file_bytes(dcmread(path))


def encapsulated(ds: Dataset, uid: str, codestream: bytes) -> bytes:
    """The dataset around a codestream made by hand."""
    ds.file_meta.TransferSyntaxUID = uid
    ds.PixelData = encapsulate([codestream])
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True
    return file_bytes(ds)


def jpeg_baseline(pixels: NDArray[np.uint8], uid: str = JPEGBaseline8Bit) -> bytes:
    """An 8-bit film as JPEG baseline, compressed by Pillow."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95)
    ds = dataset(pixels, bits=8)
    ds.LossyImageCompression = "01"
    ds.LossyImageCompressionRatio = 4.5
    return encapsulated(ds, uid, buffer.getvalue())


def with_jpeg_precision(data: bytes, precision: int) -> bytes:
    """The same file, its JPEG frame header announcing another sample precision."""
    at = data.index(b"\xff\xc0", data.index(b"\xff\xd8"))
    return data[: at + 4] + bytes([precision]) + data[at + 5 :]


def with_jpeg2000_size(data: bytes, columns: int, rows: int, tile: int) -> bytes:
    """The same file, its JPEG 2000 header announcing another size and tile grid."""
    at = data.index(b"\xff\x4f\xff\x51")
    sizes = struct.pack(">6I", columns, rows, 0, 0, tile, tile)
    return data[: at + 8] + sizes + data[at + 32 :]
