"""Every transfer syntax against the pixels before encoding, or a second decoder."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import (
    JPEG2000,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSNearLossless,
)

from fhir_adapters.dicom import transfer_syntax
from fhir_adapters.dicom.image import load_image
from fhir_adapters.dicom.transfer_syntax import DECODINGS, has_twelve_bit_jpeg
from fhir_adapters.errors import ImageUnreadableError
from fhir_adapters.patient_record import ChestImage
from model.inference.tensors import letterbox, to_tensors
from tests.fhir_adapters.dicom_files import (
    EXPECTED,
    LOSSLESS,
    cr,
    dataset,
    file_bytes,
    film,
    htj2k,
    htj2k_lossy,
    in_syntax,
    jpeg_baseline,
)
from tests.model.network_samples import records, vocabulary

GREY_LEVELS = 3


def load(data: bytes) -> ChestImage:
    return load_image(
        data, expected=EXPECTED, reference="ImagingStudy/s1", origin="dicomweb"
    )


def exact(ds: Dataset, span: int = 65536, center: int = 32768) -> Dataset:
    """A window under which grey times ``span`` is the stored value, bit for bit."""
    ds.WindowCenter, ds.WindowWidth, ds.VOILUTFunction = center, span, "LINEAR_EXACT"
    return ds


def stored(data: bytes, span: int = 65536) -> NDArray[np.int64]:
    """The stored values that the loader saw, out of its grey."""
    values = load(data).pixels.astype(np.float64) * span
    assert (values == np.rint(values)).all()
    return values.astype(np.int64)


def noise(bits: int, rows: int = 60, columns: int = 53) -> NDArray[np.uint16]:
    """What no codec can foresee: every bit of every pixel counts."""
    rng = np.random.default_rng(bits)
    return rng.integers(0, 2**bits, (rows, columns)).astype(np.uint16)


# --- lossless -------------------------------------------------------------------------


@pytest.mark.parametrize("syntax", LOSSLESS)
def test_lossless_syntax_gives_the_source_pixels_bit_for_bit(syntax: str) -> None:
    data = in_syntax(syntax, exact(dataset()))
    np.testing.assert_array_equal(stored(data), film())


@pytest.mark.parametrize("bits", [10, 12, 16])
@pytest.mark.parametrize("syntax", [s for s in LOSSLESS if not s.startswith("htj2k")])
def test_lossless_noise_of_every_depth_survives(syntax: str, bits: int) -> None:
    pixels = noise(bits)
    ds = exact(dataset(pixels, bits=bits))
    np.testing.assert_array_equal(stored(in_syntax(syntax, ds)), pixels)


@pytest.mark.parametrize("syntax", [s for s in LOSSLESS if not s.startswith("htj2k")])
def test_bytes_are_read_as_bytes(syntax: str) -> None:
    pixels = noise(8).astype(np.uint8)
    ds = exact(dataset(pixels, bits=8))
    np.testing.assert_array_equal(stored(in_syntax(syntax, ds)), pixels)


@pytest.mark.parametrize("syntax", ["implicit", "explicit", "rle", "jpeg-2000"])
def test_signed_pixels_survive(syntax: str) -> None:
    pixels = noise(12).astype(np.int16) - 2048
    ds = exact(dataset(pixels, bits=12), center=0)
    values = stored(in_syntax(syntax, ds)) - 32768
    np.testing.assert_array_equal(values, pixels)


def test_every_syntax_of_the_reader_is_tried() -> None:
    lossy = {JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless, JPEG2000}
    tried = {str(uid) for uid in LOSSLESS.values()} | {str(uid) for uid in lossy}
    assert tried | {"1.2.840.10008.1.2.4.203"} == set(DECODINGS)


@pytest.mark.service("dcmtk")
@pytest.mark.parametrize(
    ("option", "uid"), [("+e1", JPEGLosslessSV1), ("+el", JPEGLossless)]
)
def test_jpeg_lossless_of_an_independent_encoder(
    option: str, uid: str, tmp_path: Path
) -> None:
    program = shutil.which("dcmcjpeg")
    if program is None:
        pytest.skip("dcmtk is not installed: its encoder is not tried")
    pixels = noise(12)
    source, made = tmp_path / "in.dcm", tmp_path / "out.dcm"
    source.write_bytes(file_bytes(exact(dataset(pixels))))
    options = [option] if option == "+e1" else [option, "+sv", "4"]
    subprocess.run([program, *options, "+un", source, made], check=True)
    data = made.read_bytes()
    assert dcmread(made).file_meta.TransferSyntaxUID == uid
    np.testing.assert_array_equal(stored(data), pixels)


# --- lossy ----------------------------------------------------------------------------


def by_second_decoder(data: bytes, plugin: str) -> NDArray[np.int64]:
    ds = dcmread(BytesIO(data))
    ds.pixel_array_options(decoding_plugin=plugin)
    return ds.pixel_array.astype(np.int64)


def soft(bits: int) -> NDArray[np.uint16]:
    """A film without edges, as a lossy codec meets them."""
    return film(96, 80, bits) // 2 + noise(bits, 96, 80) // 64


def lossy_pydicom(uid: str, **options: object) -> bytes:
    ds = exact(dataset(soft(12)))
    plugin = "pylibjpeg" if uid == JPEG2000 else "pyjpegls"
    ds.compress(uid, encoding_plugin=plugin, generate_instance_uid=False, **options)
    return file_bytes(ds)


def lossy_jpeg(uid: str) -> bytes:
    ds = dcmread(BytesIO(jpeg_baseline(soft(8).astype(np.uint8), uid)))
    return file_bytes(exact(ds))


@pytest.mark.parametrize(
    ("make", "first", "second"),
    [
        (lambda: lossy_jpeg(JPEGBaseline8Bit), "jpeg-baseline by pillow", "gdcm"),
        (lambda: lossy_jpeg(JPEGExtended12Bit), "jpeg-extended-8 by pillow", "gdcm"),
        (
            lambda: lossy_pydicom(JPEG2000, j2k_cr=[12]),
            "jpeg-2000-lossy by pylibjpeg",
            "gdcm",
        ),
        (
            lambda: lossy_pydicom(JPEGLSNearLossless, jls_error=4),
            "jpeg-ls-lossy by pyjpegls",
            "gdcm",
        ),
    ],
)
def test_lossy_syntax_agrees_with_a_second_decoder(
    make: object, first: str, second: str
) -> None:
    data = make()  # type: ignore[operator]
    assert f"decode {first} 96x80" in load(data).transforms
    other = by_second_decoder(data, second)
    assert np.abs(stored(data) - other).max() <= GREY_LEVELS


def test_near_lossless_keeps_its_promise() -> None:
    error = 4
    data = lossy_pydicom(JPEGLSNearLossless, jls_error=error)
    assert 0 < np.abs(stored(data) - soft(12)).max() <= error


def test_lossy_htj2k_agrees_with_its_own_encoders_decoder() -> None:
    ds = exact(dcmread(BytesIO(htj2k_lossy())))
    data = file_bytes(ds)
    assert load(data).transforms[0] == "decode htj2k-lossy by pylibjpeg 48x40"
    other = np.frombuffer(htj2k("lossy_decoded"), "<u2").reshape(48, 40)
    assert np.abs(other.astype(int) - film()).max() > 0
    assert np.abs(stored(data) - other).max() <= GREY_LEVELS


def twelve_bits() -> bytes:
    """A real film of 12 bits that pydicom ships, as the film that is asked for."""
    folder = Path(pydicom.__file__).parent / "data" / "test_files"
    ds = dcmread(folder / "JPGExtended.dcm")
    asked = dataset()
    for keyword in ("SOPClassUID", "SOPInstanceUID", "PatientID"):
        setattr(ds, keyword, asked[keyword].value)
    ds.StudyInstanceUID = asked.StudyInstanceUID
    ds.SeriesInstanceUID = asked.SeriesInstanceUID
    return file_bytes(ds)


def test_twelve_bit_extended_without_the_extra_is_not_supported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transfer_syntax, "has_twelve_bit_jpeg", lambda: False)
    with pytest.raises(ImageUnreadableError) as refused:
        load(twelve_bits())
    assert refused.value.reason == "transfer_syntax_not_supported"


def test_twelve_bit_extended_is_read_when_the_extra_is_there() -> None:
    if not has_twelve_bit_jpeg():
        # The default set has no GPL decoder: then this is the whole promise.
        with pytest.raises(ImageUnreadableError) as refused:
            load(twelve_bits())
        assert refused.value.reason == "transfer_syntax_not_supported"
        return
    image = load(twelve_bits())
    assert image.transforms[0] == "decode jpeg-extended-12 by pylibjpeg 1024x256"
    assert "lossy-compressed" in image.flags and image.pixels.std() > 0


# --- grey scale, through to the model -------------------------------------------------


def twin(photometric: str, pixels: NDArray[np.uint16]) -> bytes:
    def change(ds: Dataset) -> None:
        ds.PhotometricInterpretation = photometric
        ds.WindowCenter, ds.WindowWidth = 2048, 4096

    return cr(change, pixels=pixels)


@pytest.mark.loader("R7")
def test_monochrome1_and_its_inverted_twin_are_the_same_film() -> None:
    pixels = noise(12)
    one = load(twin("MONOCHROME1", pixels))
    two = load(twin("MONOCHROME2", 4095 - pixels))
    assert "invert" in one.transforms and "invert" not in two.transforms
    np.testing.assert_array_equal(one.pixels, two.pixels)
    words = vocabulary()
    batch = [replace(records()[0], images=(image,)) for image in (one, two)]
    tensors = to_tensors(batch, words)
    assert tensors.pixel_mask.tolist() == [[True], [True]]
    assert torch.equal(tensors.pixels[0], tensors.pixels[1])
    shown, _ = letterbox(one.pixels, words.image_size)
    np.testing.assert_array_equal(tensors.pixels[0, 0, 0].numpy(), shown)
    assert float(tensors.pixels[0].std()) > 0
