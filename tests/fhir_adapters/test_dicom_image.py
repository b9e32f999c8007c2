"""The loader rules, one by one, on films made for the purpose."""

from __future__ import annotations

import hashlib
import struct
import traceback
import zlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
)

from fhir_adapters.dicom.codestream import announced_size
from fhir_adapters.dicom.file_meta import read_file_meta
from fhir_adapters.dicom.image import load_image
from fhir_adapters.dicom.instance import ExpectedInstance, is_uid
from fhir_adapters.dicom.resample import square_pixels
from fhir_adapters.errors import ImageUnreadableError
from fhir_adapters.images import images_and_skips
from fhir_adapters.patient_record import ChestImage
from fhir_adapters.policy import AdapterPolicy
from fhir_adapters.received import ImageOutcome
from tests.fhir_adapters.dicom_files import (
    DX,
    EXPECTED,
    LOSSLESS,
    PATIENT,
    SERIES,
    SOP,
    STUDY,
    cr,
    dataset,
    encapsulated,
    film,
    in_syntax,
    jpeg_baseline,
    with_jpeg2000_size,
    with_jpeg_precision,
)


def load(data: bytes, expected: ExpectedInstance = EXPECTED) -> ChestImage:
    return load_image(
        data, expected=expected, reference="ImagingStudy/s1", origin="dicomweb"
    )


def refusal(data: bytes, expected: ExpectedInstance = EXPECTED) -> str:
    with pytest.raises(ImageUnreadableError) as refused:
        load(data, expected)
    return refused.value.reason


def setting(**tags: object) -> Callable[[Dataset], None]:
    def change(ds: Dataset) -> None:
        for keyword, value in tags.items():
            if value is None:
                if keyword in ds:
                    del ds[keyword]
            else:
                setattr(ds, keyword, value)

    return change


def linear(values: NDArray[np.generic], center: float, width: float) -> NDArray:
    """The standard's own pseudo-code, value by value (PS3.3 C.11.2.1.2.1)."""

    def one(x: float) -> float:
        if x <= center - 0.5 - (width - 1) / 2:
            return 0.0
        if x > center - 0.5 + (width - 1) / 2:
            return 1.0
        return (x - (center - 0.5)) / (width - 1) + 0.5

    return np.vectorize(one)(values.astype(float))


# --- decoding -------------------------------------------------------------------------


@pytest.mark.parametrize("syntax", LOSSLESS)
@pytest.mark.loader("R19")
def test_every_lossless_syntax_gives_the_same_pixels(syntax: str) -> None:
    data = in_syntax(syntax)
    image = load(data)
    assert image.pixels.dtype == np.float32 and image.pixels.flags.c_contiguous
    np.testing.assert_allclose(image.pixels, linear(film(), 2048, 4096), atol=1e-6)
    assert image.transforms[0].startswith("decode ")
    assert image.provenance.sha256 == hashlib.sha256(data).hexdigest()
    assert image.provenance.reference == f"ImagingStudy/s1#{SOP}"
    assert image.provenance.origin == "dicomweb"
    assert (image.study_uid, image.series_uid, image.sop_uid) == (STUDY, SERIES, SOP)
    assert image.flags == ()


@pytest.mark.loader("R19")
def test_decoder_is_recorded() -> None:
    steps = {syntax: load(in_syntax(syntax)).transforms[0] for syntax in LOSSLESS}
    assert steps == {
        "implicit": "decode native implicit by numpy 48x40",
        "explicit": "decode native explicit by numpy 48x40",
        "jpeg-2000": "decode jpeg-2000 by pylibjpeg 48x40",
        "jpeg-ls": "decode jpeg-ls by pyjpegls 48x40",
        "jpeg-lossless": "decode jpeg-lossless by gdcm 48x40",
        "jpeg-lossless-sv1": "decode jpeg-lossless-sv1 by gdcm 48x40",
        "htj2k": "decode htj2k by pylibjpeg 48x40",
        "htj2k-rpcl": "decode htj2k-rpcl by pylibjpeg 48x40",
        "rle": "decode rle by pylibjpeg 48x40",
    }


@pytest.mark.parametrize("uid", [JPEGBaseline8Bit, JPEGExtended12Bit])
@pytest.mark.loader("R17")
def test_jpeg_of_eight_bits_is_read_and_its_loss_recorded(uid: str) -> None:
    pixels = film(bits=8).astype(np.uint8)
    image = load(jpeg_baseline(pixels, uid))
    assert np.abs(image.pixels - linear(pixels, 128, 256)).max() < 0.12
    assert "lossy-compressed" in image.flags
    assert "lossy ratio 4.5" in image.transforms


def test_twelve_bit_jpeg_extended_is_a_typed_refusal() -> None:
    data = jpeg_baseline(film(bits=8).astype(np.uint8), JPEGExtended12Bit)
    assert refusal(with_jpeg_precision(data, 12)) == "transfer_syntax_not_supported"


@pytest.mark.parametrize(
    "uid",
    [ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, "1.2.840.10008.1.2.4.94"],
)
def test_syntaxes_that_are_not_read_are_refused(uid: str) -> None:
    data = encapsulated(dataset(), uid, b"\xff\xd8\xff\xd9")
    assert refusal(data) == "transfer_syntax_not_supported"


@pytest.mark.ssrf("X36")
@pytest.mark.loader("R2")
def test_deflated_bomb_is_refused_without_inflating() -> None:
    data = bytearray(cr(setting(PixelData=None)))
    meta = read_file_meta(bytes(data))
    old, new = meta.transfer_syntax.encode(), DeflatedExplicitVRLittleEndian.encode()
    bomb = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = bomb.compress(bytes(200_000_000)) + bomb.flush()
    # Group length and the syntax's own length grow with the longer UID.
    start = data.index(old)
    padded_old = old + b"\0" * (len(old) % 2)
    padded_new = new + b"\0" * (len(new) % 2)
    grown = len(padded_new) - len(padded_old)
    (group,) = struct.unpack_from("<I", data, 140)
    struct.pack_into("<I", data, 140, group + grown)
    struct.pack_into("<H", data, start - 2, len(padded_new))
    data[start : start + len(padded_old)] = padded_new
    end = 144 + group + grown
    assert read_file_meta(bytes(data[:end])).transfer_syntax == new.decode()
    assert refusal(bytes(data[:end]) + packed) == "transfer_syntax_not_supported"


@pytest.mark.parametrize(
    "damage, reason",
    [
        (lambda d: b"", "not_dicom"),
        (lambda d: b"%PDF-1.7" + bytes(300), "not_dicom"),
        (lambda d: d[:132], "transfer_syntax_missing"),
        (lambda d: d[:150], "transfer_syntax_missing"),
        (lambda d: d[:170], "dicom_malformed"),
        (lambda d: d[:132] + b"\x02\x00\x01\x00OB\0\0", "dicom_malformed"),
        (
            lambda d: d[:132] + b"\x02\x00\x01\x00OB\0\0\xff\xff\xff\xff",
            "dicom_malformed",
        ),
        (lambda d: d[: len(d) // 2], "pixel_data_short"),
        (lambda d: d[:-100], "pixel_data_short"),
    ],
)
def test_broken_files_are_typed_refusals(
    damage: Callable[[bytes], bytes], reason: str
) -> None:
    assert refusal(damage(cr())) == reason


def test_file_above_the_cap_is_refused_unread() -> None:
    assert refusal(bytes(128 * 1024 * 1024 + 1)) == "file_too_large"


@pytest.mark.parametrize("keyword", ["Rows", "Columns"])
@pytest.mark.loader("R2")
def test_giant_dimensions_are_refused_from_the_tags(keyword: str) -> None:
    assert refusal(cr(setting(**{keyword: 65535}))) == "size_not_supported"
    assert refusal(cr(setting(**{keyword: 0}))) == "size_not_supported"


@pytest.mark.loader("R2")
def test_too_many_pixels_are_refused_even_with_allowed_sides() -> None:
    assert refusal(cr(setting(Rows=16000, Columns=16000))) == "size_not_supported"


@pytest.mark.parametrize(
    "tags, reason",
    [
        ({"NumberOfFrames": 2}, "frames_not_supported"),
        ({"BitsAllocated": 32}, "bits_not_supported"),
        ({"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0}, "bits_not_supported"),
        ({"BitsStored": 17, "HighBit": 16}, "bits_not_supported"),
        ({"HighBit": 15}, "bits_not_supported"),
        ({"PhotometricInterpretation": "RGB"}, "photometric_not_supported"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "photometric_not_supported"),
        ({"SamplesPerPixel": 3}, "photometric_not_supported"),
        ({"PixelData": None}, "pixel_data_missing"),
        ({"PixelData": bytes(10)}, "pixel_data_short"),
        ({"PixelAspectRatio": [9, 1]}, "pixel_aspect_ratio"),
        ({"PixelAspectRatio": [0, 1]}, "pixel_aspect_ratio"),
        ({"RescaleSlope": 0, "RescaleIntercept": 0}, "modality_lut_malformed"),
        ({"RescaleSlope": "1e308", "RescaleIntercept": 0}, "modality_lut_malformed"),
        ({"RescaleSlope": 1, "RescaleIntercept": "-1e308"}, "modality_lut_malformed"),
        ({"SOPClassUID": DX + ".1"}, "sop_class_for_processing"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.11"}, "sop_class_not_supported"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.66.4"}, "sop_class_not_supported"),
    ],
)
@pytest.mark.loader("R1")
@pytest.mark.loader("R3")
@pytest.mark.loader("R10")
def test_what_is_no_single_chest_film_is_refused(
    tags: dict[str, object], reason: str
) -> None:
    assert refusal(cr(setting(**tags))) == reason


@pytest.mark.loader("R2")
def test_codestream_that_announces_another_size_is_refused_before_decoding() -> None:
    data = in_syntax("jpeg-2000")
    assert refusal(with_jpeg2000_size(data, 2**31, 2**31, 2**31)) == "size_mismatch"
    tiles = with_jpeg2000_size(data, 40_000, 40_000, 1)
    assert refusal(tiles) == "codestream_too_many_tiles"
    assert refusal(with_jpeg2000_size(data, 0, 0, 1)) == "codestream_malformed"


def test_codestream_with_more_bits_than_allocated_is_refused() -> None:
    data = jpeg_baseline(film(bits=8).astype(np.uint8))
    assert refusal(with_jpeg_precision(data, 12)) == "bits_not_supported"


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\xff\xd8",
        b"\xff\xd8" + b"\xff\xe0\x00\x02" * 600,
        b"\xff\xd8\xff\xe0\xff\xff",
        b"\xff\xd8" + b"x" * 40,
        b"\xff\x4f\xff\x51" + b"\0" * 10,
        b"\x00\x00\x00\x0cjP  \r\n\x87\n" + bytes(60),
    ],
)
def test_codestream_without_a_frame_header_is_malformed(frame: bytes) -> None:
    with pytest.raises(ImageUnreadableError) as refused:
        announced_size(frame)
    assert refused.value.reason == "codestream_malformed"


def test_codestream_fill_bytes_are_skipped() -> None:
    frame = b"\xff\xd8\xff\xff\xf7\x00\x0b\x0c\x00\x30\x00\x28\x01\x01\x11\x00"
    size = announced_size(frame)
    assert (size.rows, size.columns, size.precision) == (48, 40, 12)


def test_crafted_frames_never_crash_the_loader() -> None:
    rng = np.random.default_rng(7)
    whole = in_syntax("rle")
    for _ in range(60):
        data = bytearray(whole)
        for place in rng.integers(132, len(data), 12):
            data[place] = rng.integers(256)
        try:
            image = load(bytes(data))
        except ImageUnreadableError as error:
            assert error.reason.replace("_", "").isalnum()
        else:
            assert np.isfinite(image.pixels).all()


# --- identity -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "tags, reason",
    [
        ({"PatientID": "MRN-43"}, "other_patient"),
        ({"PatientID": "mrn-42"}, "other_patient"),
        ({"PatientID": ""}, "patient_id_missing"),
        ({"PatientID": None}, "patient_id_missing"),
        ({"StudyInstanceUID": STUDY + ".9"}, "uid_mismatch"),
        ({"SeriesInstanceUID": SERIES + ".9"}, "uid_mismatch"),
        ({"SOPInstanceUID": SOP + ".9"}, "uid_mismatch"),
        ({"StudyInstanceUID": None}, "uid_malformed"),
    ],
)
@pytest.mark.loader("R13")
def test_somebody_elses_film_is_refused(tags: dict[str, object], reason: str) -> None:
    def change(ds: Dataset) -> None:
        setting(**tags)(ds)

    assert refusal(cr(change)) == reason


def test_file_meta_and_dataset_must_name_the_same_instance() -> None:
    data = cr().replace(SOP.encode(), b"1.2.826.0.1.3680043.10.1.4", 1)
    assert refusal(data) == "uid_mismatch"


@pytest.mark.loader("R13")
def test_refusal_does_not_say_whose_film_it_was() -> None:
    with pytest.raises(ImageUnreadableError) as refused:
        load(cr(setting(PatientID="SSN-123")))
    assert "SSN-123" not in str(refused.value) and "Doe" not in str(refused.value)


@pytest.mark.loader("R13")
def test_issuer_counts_when_the_expected_id_names_one() -> None:
    issued = replace(EXPECTED, patient_ids=frozenset({f"HOSP|{PATIENT}"}))
    assert refusal(cr(), issued) == "other_patient"
    assert load(cr(setting(IssuerOfPatientID="HOSP")), issued).flags == ()


def test_site_without_patient_mapping_is_flagged() -> None:
    unmapped = ExpectedInstance(STUDY)
    assert "patient-id-unchecked" in load(cr(setting(PatientID="X")), unmapped).flags


@pytest.mark.parametrize(
    "text, good",
    [
        ("1.2.840", True),
        ("1.02.3", True),
        ("1" * 64, True),
        ("1" * 65, False),
        ("..", False),
        ("1..2", False),
        (".1", False),
        ("1.", False),
        ("1.2/../3", False),
        ("", False),
        ("1.2\n", False),
    ],
)
@pytest.mark.loader("R16")
def test_uid_cannot_spell_a_path(text: str, good: bool) -> None:
    assert is_uid(text) is good


# --- grey scale -----------------------------------------------------------------------


@pytest.mark.loader("R7")
def test_monochrome1_is_inverted_once() -> None:
    plain = load(cr()).pixels
    for tags in (
        {"PhotometricInterpretation": "MONOCHROME1"},
        {"PresentationLUTShape": "INVERSE"},
        {
            "PhotometricInterpretation": "MONOCHROME1",
            "PresentationLUTShape": "INVERSE",
        },
    ):
        image = load(cr(setting(**tags)))
        np.testing.assert_allclose(image.pixels, 1 - plain, atol=1e-6)
        assert image.transforms.count("invert") == 1
    same = load(cr(setting(PresentationLUTShape="IDENTITY")))
    np.testing.assert_array_equal(same.pixels, plain)


@pytest.mark.parametrize(
    "center, width", [(2048, 4096), (1000, 500), (2048, 1), (9, 2)]
)
def test_linear_window_follows_the_standard(center: float, width: float) -> None:
    image = load(cr(setting(WindowCenter=center, WindowWidth=width)))
    np.testing.assert_allclose(image.pixels, linear(film(), center, width), atol=1e-6)


@pytest.mark.loader("R6")
def test_linear_exact_and_sigmoid_follow_the_standard() -> None:
    values = film().astype(float)
    window = {"WindowCenter": 1500, "WindowWidth": 800}
    exact = load(cr(setting(VOILUTFunction="LINEAR_EXACT", **window)))
    wanted = np.clip((values - 1500) / 800 + 0.5, 0, 1)
    np.testing.assert_allclose(exact.pixels, wanted, atol=1e-6)
    sigmoid = load(cr(setting(VOILUTFunction="SIGMOID", **window)))
    wanted = 1 / (1 + np.exp(-4 * (values - 1500) / 800))
    np.testing.assert_allclose(sigmoid.pixels, wanted, atol=1e-6)


@pytest.mark.loader("R6")
def test_grey_depends_on_the_window_and_not_on_the_rest_of_the_film() -> None:
    pixels = film()
    changed = pixels.copy()
    changed[:4] = 4095
    same = load(cr(pixels=pixels)).pixels[10:]
    np.testing.assert_array_equal(load(cr(pixels=changed)).pixels[10:], same)


@pytest.mark.loader("R6")
def test_first_of_several_windows_is_used_and_recorded() -> None:
    image = load(cr(setting(WindowCenter=[1000, 9], WindowWidth=[500, 9])))
    np.testing.assert_allclose(image.pixels, linear(film(), 1000, 500), atol=1e-6)
    assert "window 0 of 2 LINEAR center=1000 width=500" in image.transforms


@pytest.mark.parametrize(
    "tags",
    [
        {"WindowWidth": 0},
        {"WindowWidth": 0.5},
        {"WindowWidth": 0, "VOILUTFunction": "LINEAR_EXACT"},
        {"WindowWidth": -5, "VOILUTFunction": "SIGMOID"},
        {"VOILUTFunction": "GAMMA"},
    ],
)
@pytest.mark.loader("R6")
def test_unusable_window_falls_back_to_percentiles_and_says_so(
    tags: dict[str, object],
) -> None:
    image = load(cr(setting(**tags)))
    assert {"voi-percentile", "voi-invalid"} <= set(image.flags)
    assert any(step.startswith("percentile") for step in image.transforms)


@pytest.mark.loader("R6")
def test_film_without_voi_uses_percentiles_of_unpadded_pixels() -> None:
    pixels = film()
    pixels[:10] = 4095
    change = setting(WindowCenter=None, WindowWidth=None, PixelPaddingValue=4095)
    image = load(cr(change, pixels=pixels))
    inside = np.sort(pixels[pixels != 4095].astype(float))
    low = inside[int(np.ceil(0.005 * inside.size)) - 1]
    high = inside[int(np.ceil(0.995 * inside.size)) - 1]
    wanted = np.clip((pixels - low) / (high - low), 0, 1)
    wanted[pixels == 4095] = 0
    np.testing.assert_allclose(image.pixels, wanted, atol=1e-6)
    assert image.flags == ("voi-percentile",)


def lut_item(entries: list[int], first: int, bits: int = 16) -> Dataset:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [len(entries) % 65536, first, bits])
    item.add_new("LUTData", "US", entries)
    return item


@pytest.mark.loader("R6")
def test_voi_lut_wins_over_a_window() -> None:
    table = [min(i * 32, 65535) for i in range(2048)]
    image = load(cr(setting(VOILUTSequence=[lut_item(table, 100)])))
    index = np.clip(film().astype(int) - 100, 0, 2047)
    np.testing.assert_allclose(image.pixels, np.array(table)[index] / 65535, atol=1e-6)
    assert "voi-lut 0 of 1" in image.transforms


def test_voi_lut_of_packed_bytes_and_of_65536_entries() -> None:
    packed = Dataset()
    packed.add_new("LUTDescriptor", "US", [4096, 0, 8])
    packed.add_new("LUTData", "OW", bytes(i // 16 for i in range(4096)))
    image = load(cr(setting(VOILUTSequence=[packed])))
    np.testing.assert_allclose(image.pixels, film() // 16 / 255, atol=1e-6)
    full = Dataset()
    full.add_new("LUTDescriptor", "US", [0, 0, 16])
    full.add_new("LUTData", "OW", np.arange(65536, dtype="<u2").tobytes())
    image = load(cr(setting(VOILUTSequence=[full])))
    np.testing.assert_allclose(image.pixels, film() / 65535, atol=1e-6)


@pytest.mark.parametrize(
    "item",
    [lut_item([1, 2, 3], 0, 7), lut_item([1, 2, 3], 0, 17), Dataset()],
)
def test_broken_voi_lut_falls_back_and_says_so(item: Dataset) -> None:
    assert "voi-invalid" in load(cr(setting(VOILUTSequence=[item]))).flags


def test_lut_whose_length_lies_is_not_used() -> None:
    item = lut_item([1, 2, 3, 4], 0)
    item.LUTDescriptor = [400, 0, 16]
    assert "voi-invalid" in load(cr(setting(VOILUTSequence=[item]))).flags
    assert refusal(cr(setting(ModalityLUTSequence=[item]))) == "modality_lut_malformed"


@pytest.mark.loader("R5")
def test_modality_lut_comes_before_the_window() -> None:
    table = [4095 - i for i in range(4096)]
    image = load(cr(setting(ModalityLUTSequence=[lut_item(table, 0)])))
    np.testing.assert_allclose(
        image.pixels, linear(4095 - film().astype(int), 2048, 4096), atol=1e-6
    )
    assert image.transforms[1] == "modality-lut"


@pytest.mark.loader("R5")
def test_rescale_comes_before_the_window() -> None:
    tags = {"RescaleSlope": 2, "RescaleIntercept": -1000}
    image = load(cr(setting(WindowCenter=500, WindowWidth=3000, **tags)))
    values = film().astype(int) * 2 - 1000
    np.testing.assert_allclose(image.pixels, linear(values, 500, 3000), atol=1e-6)


@pytest.mark.loader("R4")
def test_signed_values_and_signed_lut_start_are_read_as_signed() -> None:
    pixels = film().astype(np.int16) - 2048
    image = load(cr(setting(WindowCenter=0, WindowWidth=4096), pixels=pixels))
    np.testing.assert_allclose(image.pixels, linear(pixels, 0, 4096), atol=1e-6)
    table = list(range(0, 65536, 16))
    item = lut_item(table, 65536 - 2048)
    image = load(cr(setting(VOILUTSequence=[item]), pixels=pixels))
    np.testing.assert_allclose(
        image.pixels, np.array(table)[pixels.astype(int) + 2048] / 65535, atol=1e-6
    )


@pytest.mark.loader("R4")
def test_bits_above_the_high_bit_are_masked() -> None:
    noisy = film() | np.uint16(0xF000)
    np.testing.assert_array_equal(load(cr(pixels=noisy)).pixels, load(cr()).pixels)


@pytest.mark.loader("R5")
def test_padding_range_is_black_also_after_inversion() -> None:
    pixels = film()
    pixels[:, :5] = 4000
    pixels[:, 5:8] = 4010
    change = setting(
        PixelPaddingValue=4000,
        PixelPaddingRangeLimit=4010,
        PhotometricInterpretation="MONOCHROME1",
    )
    image = load(cr(change, pixels=pixels))
    assert (image.pixels[:, :8] == 0).all()
    assert image.transforms[-1] == "padding-to-black"


@pytest.mark.loader("R1")
@pytest.mark.loader("R9")
def test_secondary_capture_is_flagged_and_its_colour_turned_to_grey() -> None:
    capture = "1.2.840.10008.5.1.4.1.1.7"
    assert "secondary-capture" in load(cr(setting(SOPClassUID=capture))).flags
    colour = np.zeros((48, 40, 3), np.uint8)
    colour[..., 1] = film(bits=8)

    def rgb(ds: Dataset) -> None:
        ds.SOPClassUID, ds.SamplesPerPixel = capture, 3
        ds.PhotometricInterpretation, ds.PlanarConfiguration = "RGB", 0
        ds.WindowCenter, ds.WindowWidth = 128, 256

    image = load(cr(rgb, pixels=colour, bits=8))
    grey = np.rint(film(bits=8) * 0.587)
    np.testing.assert_allclose(image.pixels, linear(grey, 128, 256), atol=1e-6)
    assert "colour-to-grey" in image.transforms


# --- view, orientation, time ----------------------------------------------------------


@pytest.mark.parametrize(
    "position, view",
    [("PA", "PA"), ("AP", "AP"), ("LL", "LATERAL"), ("RL", "LATERAL")]
    + [("LATERAL", "LATERAL"), ("LLD", "DECUBITUS"), ("RLO", "OBLIQUE")],
)
@pytest.mark.loader("R11")
def test_view_position_decides(position: str, view: str) -> None:
    image = load(cr(setting(ViewPosition=position, SeriesDescription="CHEST AP")))
    assert (image.view, image.view_inferred) == (view, False)


@pytest.mark.parametrize(
    "code, scheme, view",
    [
        ("272479007", "SCT", "PA"),
        ("399348003", "SCT", "AP"),
        ("399173006", "SCT", "LATERAL"),
        ("R-10206", "SRT", "AP"),
        ("272479007", "L", None),
        ("1234", "SCT", None),
    ],
)
@pytest.mark.loader("R11")
def test_view_code_comes_next(code: str, scheme: str, view: str | None) -> None:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator = code, scheme
    image = load(cr(setting(ViewPosition=None, ViewCodeSequence=[item])))
    assert (image.view, image.view_inferred) == (view, False)
    assert ("view-unknown" in image.flags) is (view is None)


@pytest.mark.parametrize(
    "description, view",
    [
        ("Chest PA", "PA"),
        ("CHEST lateral", "LATERAL"),
        ("W chest lat.", "LATERAL"),
        ("PA/LAT chest", None),
        ("Papworth map", None),
    ],
)
@pytest.mark.loader("R11")
def test_series_description_is_marked_as_inferred(
    description: str, view: str | None
) -> None:
    image = load(cr(setting(ViewPosition="", SeriesDescription=description)))
    assert (image.view, image.view_inferred) == (view, view is not None)


@pytest.mark.loader("R11")
def test_film_is_turned_only_when_the_tag_says_so() -> None:
    plain = load(cr()).pixels
    for orientation, wanted, steps in (
        (["R", "F"], plain[:, ::-1], ["flip-horizontal"]),
        (["L", "H"], plain[::-1], ["flip-vertical"]),
        (["R", "H"], plain[::-1, ::-1], ["flip-horizontal", "flip-vertical"]),
        (["A", "F"], plain, []),
    ):
        image = load(cr(setting(PatientOrientation=orientation)))
        np.testing.assert_array_equal(image.pixels, wanted)
        assert [s for s in image.transforms if s.startswith("flip")] == steps
    for orientation, flag in ((None, "unknown"), (["F", "L"], "unusual")):
        image = load(cr(setting(PatientOrientation=orientation)))
        np.testing.assert_array_equal(image.pixels, plain)
        assert f"orientation-{flag}" in image.flags


@pytest.mark.loader("R15")
def test_oblong_pixels_become_square() -> None:
    tall = load(cr(setting(PixelAspectRatio=[2, 1])))
    assert tall.pixels.shape == (96, 40)
    wide = load(cr(setting(PixelAspectRatio=[1, 2])))
    assert wide.pixels.shape == (48, 80)
    assert "resample aspect=1:2" in wide.transforms
    ramp = np.linspace(0, 1, 10, dtype=np.float32)[:, None].repeat(2, axis=1)
    stretched = square_pixels(ramp, 3, 2)
    assert stretched.shape == (15, 2)
    assert (np.diff(stretched[:, 0]) >= 0).all()
    assert load(cr(setting(PixelAspectRatio=[1, 1]))).pixels.shape == (48, 40)


def test_stretching_cannot_exceed_the_pixel_cap() -> None:
    flat = np.broadcast_to(np.float32(0), (6000, 6000))
    with pytest.raises(ImageUnreadableError) as refused:
        square_pixels(flat, 2, 1)
    assert refused.value.reason == "size_not_supported"


@pytest.mark.parametrize(
    "tags, when",
    [
        ({}, datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=1)))),
        (
            {"AcquisitionDateTime": "20260203101112.25-0330"},
            datetime(
                2026,
                2,
                3,
                10,
                11,
                12,
                250000,
                timezone(-timedelta(hours=3, minutes=30)),
            ),
        ),
        (
            {"AcquisitionDate": "20260301", "AcquisitionTime": "0709"},
            datetime(2026, 3, 1, 7, 9, tzinfo=timezone(timedelta(hours=1))),
        ),
        ({"StudyTime": None}, None),
    ],
)
def test_time_of_the_film(tags: dict[str, object], when: datetime | None) -> None:
    assert load(cr(setting(**tags))).acquired_at == when


def test_date_that_is_none_is_no_time() -> None:
    assert load(cr().replace(b"20260102", b"20261399")).acquired_at is None


@pytest.mark.parametrize("offset", [None, "+9900", "1"])
def test_local_time_needs_the_sites_zone(offset: str | None) -> None:
    data = cr(setting(TimezoneOffsetFromUTC=offset))
    image = load(data)
    assert image.acquired_at is None
    assert "acquired-at-without-zone" in image.flags
    sited = load(data, replace(EXPECTED, site_zone=ZoneInfo("Europe/Rome")))
    assert sited.acquired_at == datetime(2026, 1, 2, 2, 4, 5, tzinfo=UTC)
    assert "acquired-at-site-zone" in sited.flags


# --- flags ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "tags, flag",
    [
        ({"BurnedInAnnotation": "YES"}, "burned-in-annotation"),
        ({"BurnedInAnnotation": None}, "burned-in-unknown"),
        ({"RecognizableVisualFeatures": "YES"}, "recognizable-features"),
        ({"LossyImageCompression": "01"}, "lossy-compressed"),
    ],
)
@pytest.mark.loader("R12")
@pytest.mark.loader("R17")
def test_exposure_flags(tags: dict[str, object], flag: str) -> None:
    assert flag in load(cr(setting(**tags))).flags


@pytest.mark.loader("R18")
def test_quality_flags() -> None:
    blank = np.full((48, 40), 1234, np.uint16)
    assert load(cr(pixels=blank)).flags == ("qc-blank",)
    faint = (2000 + film().astype(int) // 16).astype(np.uint16)
    assert load(cr(pixels=faint)).flags == ("qc-low-contrast",)
    burnt = film()
    burnt[:30] = 4095
    assert load(cr(pixels=burnt)).flags == ("qc-saturated",)
    padded = setting(PixelPaddingValue=0, PixelPaddingRangeLimit=4095)
    assert load(cr(padded)).flags == ("qc-blank",)


@pytest.mark.loader("R15")
def test_imager_spacing_is_kept() -> None:
    image = load(cr(setting(ImagerPixelSpacing=[0.143, 0.143])))
    assert "imager spacing 0.143x0.143 mm" in image.transforms


def test_nothing_of_a_damaged_file_reaches_the_log(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    data = cr().replace(b"20260102", b"2026-Doe").replace(STUDY.encode(), b"Doe^" * 6)
    with pytest.raises(ImageUnreadableError) as refused:
        load(data)
    shown = "".join(traceback.format_exception(refused.value))
    assert "Doe" not in caplog.text + shown + "".join(capfd.readouterr())


@pytest.mark.loader("R16")
def test_names_and_private_tags_are_never_read() -> None:
    def private(ds: Dataset) -> None:
        ds.private_block(0x0011, "ACME", create=True).add_new(1, "LO", "Doe^Secret")

    image = load(cr(private))
    assert "Secret" not in repr(image)


@pytest.mark.loader("R16")
@pytest.mark.parametrize(
    ("charset", "patient_id"),
    [
        ("ISO_IR 100", "Mü-42"),
        ("ISO_IR 144", "Ж-42"),
        ("ISO_IR 192", "东-42"),
    ],
)
def test_the_files_own_character_set_decides_whose_film_it_is(
    charset: str, patient_id: str
) -> None:
    data = cr(setting(SpecificCharacterSet=charset, PatientID=patient_id))
    wanted = replace(EXPECTED, patient_ids=frozenset({patient_id}))
    assert load(data, wanted).sop_uid == SOP
    assert refusal(data) == "other_patient"


@pytest.mark.loader("R12")
@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"BurnedInAnnotation": "YES"}, "burned_in_annotation"),
        ({"RecognizableVisualFeatures": "YES"}, "recognizable_features"),
        ({"BurnedInAnnotation": None}, ""),
        ({}, ""),
    ],
)
def test_a_film_that_names_its_patient_is_used_only_where_policy_allows(
    tags: dict[str, object], reason: str
) -> None:
    outcome = ImageOutcome.decoded(load(cr(setting(**tags))))
    cutoff = datetime(2026, 3, 1, tzinfo=UTC)
    for policy, refused in (
        (AdapterPolicy(), reason),
        (AdapterPolicy(identifying_films=True), ""),
    ):
        images, skips = images_and_skips([outcome], (), cutoff, policy)
        assert [skip.reason for skip in skips] == ([refused] if refused else [])
        assert len(images) == (0 if refused else 1)


@pytest.mark.parametrize(
    ("center", "width"),
    [("1e308", "1"), ("-1e308", "1e308"), ("1.7e308", "1.7e308"), ("0", "1e-300")],
)
@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_no_window_however_absurd_makes_a_grey_that_is_none(
    center: str, width: str, function: str
) -> None:
    tags = {"WindowCenter": center, "WindowWidth": width, "VOILUTFunction": function}
    pixels = load(cr(setting(**tags))).pixels
    assert np.isfinite(pixels).all()
    assert 0 <= pixels.min() and pixels.max() <= 1


def test_pydicom_warnings_become_a_flag() -> None:
    extra = setting(PixelData=film().tobytes() + bytes(64))
    assert "dicom-warnings" in load(cr(extra)).flags
