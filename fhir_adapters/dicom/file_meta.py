"""Read the file meta group, and nothing behind it.

pydicom inflates a deflated data set before any tag can be looked at (292 kB became
300 MB), so the transfer syntax has to be known before pydicom sees the file. The group
is always explicit VR little endian (PS3.10 section 7.1) and small, so reading it takes
a few lines that allocate nothing.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from fhir_adapters.errors import ImageUnreadableError

_PREAMBLE = 128
_MAX_META_BYTES = 64 * 1024
_LONG_VRS = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"UN", b"UT"})
_MEDIA_STORAGE_SOP_INSTANCE = 0x0003
_TRANSFER_SYNTAX = 0x0010


@dataclass(frozen=True, slots=True)
class FileMeta:
    """The two values of the group that decide what happens next."""

    transfer_syntax: str
    sop_uid: str


def read_file_meta(data: bytes) -> FileMeta:
    """Parse the group of the DICOM file ``data``.

    Raises:
        ImageUnreadableError: "not_dicom", "dicom_malformed" or
            "transfer_syntax_missing".
    """
    if data[_PREAMBLE : _PREAMBLE + 4] != b"DICM":
        raise ImageUnreadableError("not_dicom")
    elements = _elements(data[: _PREAMBLE + 4 + _MAX_META_BYTES], _PREAMBLE + 4)
    syntax = elements.get(_TRANSFER_SYNTAX, "")
    if not syntax:
        raise ImageUnreadableError("transfer_syntax_missing")
    return FileMeta(syntax, elements.get(_MEDIA_STORAGE_SOP_INSTANCE, ""))


def _elements(data: bytes, offset: int) -> dict[int, str]:
    """Element number to text of every element of group 2, up to the next group."""
    found: dict[int, str] = {}
    while offset + 8 <= len(data):
        group, element, vr = struct.unpack_from("<HH2s", data, offset)
        if group != 0x0002:
            break
        if vr in _LONG_VRS:
            if offset + 12 > len(data):
                raise ImageUnreadableError("dicom_malformed", "file meta")
            (length,) = struct.unpack_from("<I", data, offset + 8)
            offset += 12
        else:
            (length,) = struct.unpack_from("<H", data, offset + 6)
            offset += 8
        if offset + length > len(data):
            raise ImageUnreadableError("dicom_malformed", "file meta")
        value = data[offset : offset + length]
        found[element] = value.decode("latin-1").rstrip("\0 ")
        offset += length
    return found
