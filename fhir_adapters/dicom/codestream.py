"""What a compressed frame says of its own size, before a decoder believes it.

Decoders allocate from the codestream's header, not from the DICOM tags: a few crafted
bytes made one of them quote 3.8e12 pixels and another 14 million tiles. So the header
is read here, and a frame that announces another size than the tags is refused.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from fhir_adapters.errors import ImageUnreadableError

_MAX_TILES = 4096
_MAX_SEGMENTS = 512
_NOT_FRAME_HEADERS = frozenset({0xC4, 0xC8, 0xCC})


@dataclass(frozen=True, slots=True)
class Announced:
    """Size of a frame as its codestream states it; precision in bits a sample."""

    rows: int
    columns: int
    precision: int


def announced_size(frame: bytes) -> Announced:
    """Read the frame header of a JPEG, JPEG-LS or JPEG 2000 codestream.

    Raises:
        ImageUnreadableError: "codestream_malformed" or "codestream_too_many_tiles".
    """
    if frame[:4] == b"\xff\x4f\xff\x51":
        return _jpeg2000(frame)
    if frame[:2] == b"\xff\xd8":
        return _jpeg(frame)
    raise ImageUnreadableError("codestream_malformed")


def _jpeg2000(frame: bytes) -> Announced:
    """The SIZ segment (ISO/IEC 15444-1 A.5.1)."""
    if len(frame) < 43:
        raise ImageUnreadableError("codestream_malformed")
    right, bottom, left, top, tile_w, tile_h = struct.unpack_from(">6I", frame, 8)
    columns, rows = right - left, bottom - top
    if min(columns, rows, tile_w, tile_h) < 1:
        raise ImageUnreadableError("codestream_malformed")
    # Ceiling division: a tile grid as fine as one pixel is a memory bomb.
    tiles = -(-right // tile_w) * -(-bottom // tile_h)
    if tiles > _MAX_TILES:
        raise ImageUnreadableError("codestream_too_many_tiles")
    return Announced(rows, columns, (frame[42] & 0x7F) + 1)


def _jpeg(frame: bytes) -> Announced:
    """The first frame header, SOF0 to SOF15 or SOF55 (JPEG-LS)."""
    offset = 2
    for _ in range(_MAX_SEGMENTS):
        if offset + 9 > len(frame) or frame[offset] != 0xFF:
            break
        marker = frame[offset + 1]
        if marker == 0xFF:
            offset += 1
            continue
        is_frame_header = 0xC0 <= marker <= 0xCF and marker not in _NOT_FRAME_HEADERS
        if is_frame_header or marker == 0xF7:
            precision, rows, columns = struct.unpack_from(">BHH", frame, offset + 4)
            return Announced(rows, columns, precision)
        (length,) = struct.unpack_from(">H", frame, offset + 2)
        offset += 2 + length
    raise ImageUnreadableError("codestream_malformed")
