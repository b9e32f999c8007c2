"""DICOM files that no archive should send, through the decoding child.

Seeds are films made on the spot in every transfer syntax and the real files that
pydicom ships for its own tests, these both as they are and dressed as the film that was
asked for, so that damage reaches the codecs and not only the first check. Each example
is made from ``(seed, number)`` alone and can be made again with :func:`example`.
"""

from __future__ import annotations

import functools
import io
import struct
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
from pydicom import dcmread
from pydicom.errors import InvalidDicomError
from tqdm import tqdm

from fhir_adapters.dicom.decode_process import DecodeLimits, DecodePool
from fhir_adapters.errors import AdapterError, ImageUnreadableError
from tests.fhir_adapters import dicom_files as films
from tests.fuzz.outcome import Fuzzed

LIMITS = DecodeLimits(
    children=1,
    memory_bytes=2 * 1024**3,
    cpu_seconds=3,
    wall_seconds=4.5,
    files_per_child=500,
)
"""Those of the service, with the times that the bar of five seconds leaves."""

_MAX_SEED_BYTES = 200_000
_DEEP = (
    # Elements whose value decides what is allocated or which path is taken.
    *("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit"),
    *("SamplesPerPixel", "PixelRepresentation", "PlanarConfiguration"),
)
_TEXTS = (
    *("NumberOfFrames", "WindowCenter", "WindowWidth", "RescaleSlope"),
    *("RescaleIntercept", "PhotometricInterpretation", "PixelAspectRatio"),
    *("ViewPosition", "SpecificCharacterSet", "AcquisitionDateTime", "StudyTime"),
)
_VALUES = (
    *(b"", b"0", b"-1", b"1e308", b"nan", b"inf", b"9" * 16, b"1\\0", b"\\\\\\"),
    *(b"\xff\xfe\xfd\xfc", b"ISO 2022 IR 87", b"PALETTE COLOR", b"RGB", b"2"),
)
# Refusals after which the child is another one: worth a line of their own.
_ENDINGS = frozenset(
    {"decode_timeout", "decode_cpu_limit", "decode_memory_limit", "decoder_crashed"}
)

Random = np.random.Generator


@functools.cache
def real_files() -> tuple[bytes, ...]:
    """The files that pydicom ships, as they are, always in the same order."""
    folder = Path(pydicom.__file__).parent / "data" / "test_files"
    found = (path.read_bytes() for path in sorted(folder.glob("*.dcm")))
    return tuple(data for data in found if len(data) <= _MAX_SEED_BYTES)


@functools.cache
def seeds() -> tuple[bytes, ...]:
    """Undamaged films that pass the first checks, always in the same order."""
    made = [films.in_syntax(name) for name in films.LOSSLESS]
    made.append(films.jpeg_baseline(films.film(bits=8).astype(np.uint8)))
    made.append(films.htj2k_lossy())
    dressed = (_dressed(data) for data in real_files())
    made += [data for data in dressed if data is not None]
    return tuple(made)


def _dressed(data: bytes) -> bytes | None:
    """A real file as the film that is asked for, None where it holds no pixels."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            ds = dcmread(io.BytesIO(data))
            if "PixelData" not in ds or "TransferSyntaxUID" not in ds.file_meta:
                return None
            colour = ds.get("SamplesPerPixel", 1) != 1
            # Colour is looked at in secondary captures only.
            ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7" if colour else films.CR
            ds.SOPInstanceUID, ds.PatientID = films.SOP, films.PATIENT
            ds.StudyInstanceUID, ds.SeriesInstanceUID = films.STUDY, films.SERIES
            return films.file_bytes(ds)
        except (AttributeError, KeyError, TypeError, ValueError, InvalidDicomError):
            return None  # pydicom's own broken samples cannot be written again


def example(seed: int, number: int) -> bytes:
    """The file number ``number`` of the run ``seed``."""
    rng = np.random.default_rng([seed, number])
    # Most of them get past the first checks when they are not damaged.
    files = seeds() if rng.random() < 0.8 else real_files()
    data = files[int(rng.integers(len(files)))]
    for _ in range(int(rng.integers(1, 3))):
        data = _WAYS[int(rng.integers(len(_WAYS)))](data, rng)
    return data


def fuzz_dicom(examples: int, seed: int, progress: bool) -> Fuzzed:
    """Send ``examples`` damaged files through one reused, recycled child.

    Args:
        examples: How many files.
        seed: Decides all of them.
        progress: Show a bar.

    Returns:
        What came of it; ``peak_mib`` is the largest resident memory of a child.
    """
    found = Fuzzed()
    pool = DecodePool(LIMITS)
    try:
        for number in tqdm(range(examples), "DICOM files", disable=not progress):
            _try_one(pool, example(seed, number), f"dicom {seed}:{number}", found)
    finally:
        pool.close()
    return found


def _try_one(pool: DecodePool, data: bytes, label: str, found: Fuzzed) -> None:
    found.examples += 1
    pool.warm()
    started = time.monotonic()
    try:
        image = pool.decode(
            data, expected=films.EXPECTED, reference="ImagingStudy/s1", origin="folder"
        )
    except ImageUnreadableError as error:
        if error.reason in _ENDINGS:
            key = f"ImageUnreadableError {error.reason}"
            found.refused[key] = found.refused.get(key, 0) + 1
        else:
            found.refuse(error)
    except AdapterError as error:
        found.refuse(error)
    except Exception as error:  # noqa: BLE001 - the finding this run looks for
        found.escape(label, f"{type(error).__name__}")
    else:
        found.read += 1
        if not (np.isfinite(image.pixels).all() and 0 <= image.pixels.min()):
            found.escape(label, "a grey that is none")
    found.took(time.monotonic() - started, label)
    found.peak_mib = max(found.peak_mib, *map(resident_mib, children(pool)), 0.0)


def children(pool: DecodePool) -> list[int]:
    """Process ids of the idle children."""
    return [child.process_id for child in pool.idle()]


def resident_mib(process_id: int) -> float:
    """The most memory that a process has had in use, 0 once it has ended."""
    try:
        status = Path(f"/proc/{process_id}/status").read_text(encoding="ascii")
    except OSError:
        return 0.0
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


# --- ways to damage a file ------------------------------------------------------------


def flipped(data: bytes, rng: Random) -> bytes:
    """Some bits turned, anywhere behind the preamble."""
    hurt = bytearray(data)
    if len(hurt) > 132:
        for place in rng.integers(132, len(hurt), int(rng.integers(1, 33))):
            hurt[place] ^= 1 << int(rng.integers(8))
    return bytes(hurt)


def corrupted(data: bytes, rng: Random) -> bytes:
    """Some bytes of the pixel data replaced: work for the codecs."""
    start = data.find(_element("PixelData")) + 12
    if not 12 <= start < len(data):
        return data
    hurt = bytearray(data)
    for place in rng.integers(start, len(hurt), int(rng.integers(1, 9))):
        hurt[place] = int(rng.integers(256))
    return bytes(hurt)


def truncated(data: bytes, rng: Random) -> bytes:
    """The file up to somewhere."""
    return data[: int(rng.integers(0, len(data) + 1))]


def overwritten(data: bytes, rng: Random) -> bytes:
    """A stretch of the file replaced by noise or by one byte."""
    if not data:
        return data
    start = int(rng.integers(len(data)))
    length = int(rng.integers(1, 65))
    byte = rng.integers(256, size=length, dtype=np.uint8).tobytes()
    filler = byte if rng.random() < 0.5 else byte[:1] * length
    return data[:start] + filler + data[start + length :]


def repeated(data: bytes, rng: Random) -> bytes:
    """A stretch of the file twice, so that every later offset is wrong."""
    start = int(rng.integers(len(data) + 1))
    length = int(rng.integers(1, 257))
    return data[: start + length] + data[start:]


def _element(keyword: str) -> bytes:
    """Group and element as a little endian file spells them."""
    tag = pydicom.tag.Tag(keyword)
    return struct.pack("<HH", tag.group, tag.element)


def retagged(data: bytes, rng: Random) -> bytes:
    """A number that decides about memory, replaced by another one."""
    keyword = _DEEP[int(rng.integers(len(_DEEP)))]
    at = data.find(_element(keyword) + b"US\x02\x00")
    if at < 0:
        return data
    choice = (0, 1, 7, 8, 16, 32, 255, 4096, 16384, 32767, 65535)
    value = struct.pack("<H", choice[int(rng.integers(len(choice)))])
    return data[: at + 8] + value + data[at + 10 :]


def retold(data: bytes, rng: Random) -> bytes:
    """A short text element with another value, or put in before the pixels."""
    keyword = _TEXTS[int(rng.integers(len(_TEXTS)))]
    value = _VALUES[int(rng.integers(len(_VALUES)))]
    value += b" " * (len(value) % 2)
    tag = _element(keyword)
    vr = pydicom.datadict.dictionary_VR(keyword).encode()
    whole = tag + vr + struct.pack("<H", len(value)) + value
    at = data.find(tag + vr)
    if at >= 0 and at + 8 <= len(data):
        (length,) = struct.unpack_from("<H", data, at + 6)
        return data[:at] + whole + data[at + 8 + length :]
    at = data.find(_element("PixelData"))
    return data if at < 0 else data[:at] + whole + data[at:]


def lied(data: bytes, rng: Random) -> bytes:
    """A length of an element, sequence or fragment that is not true."""
    places = (b"OW\0\0", b"OB\0\0", b"SQ\0\0", b"\xfe\xff\x00\xe0")
    at = data.find(places[int(rng.integers(len(places)))])
    if at < 0 or at + 8 > len(data):
        return data
    choice = (0, 1, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1, len(data) * 2)
    length = struct.pack("<I", choice[int(rng.integers(len(choice)))] & 0xFFFFFFFF)
    return data[: at + 4] + length + data[at + 8 :]


def bombed(data: bytes, rng: Random) -> bytes:
    """A codestream that announces a frame or a grid far beyond the tags."""
    at = data.find(b"\xff\x4f\xff\x51")
    if at >= 0 and at + 32 <= len(data):
        side = int(rng.choice([1, 48, 4096, 65535, 2**31 - 1, 2**32 - 1]))
        tile = int(rng.choice([0, 1, 3, 48, 2**32 - 1]))
        sizes = struct.pack(">6I", side, side, 0, 0, tile, tile)
        return data[: at + 8] + sizes + data[at + 32 :]
    for marker in (b"\xff\xc0", b"\xff\xc1", b"\xff\xc3", b"\xff\xf7"):
        at = data.find(marker, 300)
        if 0 <= at <= len(data) - 9:
            sizes = struct.pack(">HH", *rng.integers(0, 65536, 2).tolist())
            return data[: at + 5] + sizes + data[at + 9 :]
    return flipped(data, rng)


def deep(data: bytes, rng: Random) -> bytes:
    """Sequences within sequences, a thousand times, put in before the pixels."""
    at = data.find(_element("PixelData"))
    if at < 0:
        return data
    open_one = _element("VOILUTSequence") + b"SQ\0\0\xff\xff\xff\xff"
    item = b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    depth = int(rng.choice([1, 50, 1000, 5000]))
    return data[:at] + (open_one + item) * depth + data[at:]


_WAYS: tuple[Callable[[bytes, Random], bytes], ...] = (
    *(corrupted, corrupted, corrupted, corrupted, corrupted),
    *(flipped, truncated, overwritten, repeated),
    *(retagged, retold, lied, bombed, deep),
)
