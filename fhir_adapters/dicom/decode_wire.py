"""The few bytes that cross between a decoding child and its parent.

A message is two lengths (4 bytes header, 8 bytes body, big endian), a JSON header and a
raw body: the file on the way in, float32 pixels on the way out. No pickle: a decoder
that was taken over by a hostile file must not be able to send the parent objects.
"""

from __future__ import annotations

import json
import re
import struct
from datetime import datetime
from typing import Any

import numpy as np

from fhir_adapters.dicom.instance import (
    MAX_PIXELS,
    DecodedInstance,
    ExpectedInstance,
    is_uid,
)
from fhir_adapters.errors import ImageUnreadableError

PREFIX = struct.Struct(">IQ")
MAX_HEADER_BYTES = 256 * 1024
MAX_BODY_BYTES = 4 * MAX_PIXELS
_REASON = re.compile(r"[a-z0-9_]{1,64}")
_VIEWS = frozenset({"PA", "AP", "LATERAL", "DECUBITUS", "OBLIQUE", None})


def frame(header: dict[str, Any], body_length: int) -> bytes:
    """The bytes that go before a body of ``body_length`` bytes."""
    encoded = json.dumps(header).encode("ascii")
    return PREFIX.pack(len(encoded), body_length) + encoded


def request_header(expected: ExpectedInstance) -> dict[str, Any]:
    """What the child needs to know; neither reference nor origin is among it."""
    return {
        "study": expected.study_uid,
        "series": expected.series_uid,
        "sop": expected.sop_uid,
        "patients": sorted(expected.patient_ids),
    }


def expected_of(header: dict[str, Any]) -> ExpectedInstance:
    """The child's side of :func:`request_header`."""
    return ExpectedInstance(
        header["study"],
        header["series"],
        header["sop"],
        frozenset(header["patients"]),
    )


def answer_header(decoded: DecodedInstance) -> dict[str, Any]:
    """Everything of a decoded instance except its pixels."""
    return {
        "shape": list(decoded.pixels.shape),
        "view": decoded.view,
        "inferred": decoded.view_inferred,
        "uids": [decoded.study_uid, decoded.series_uid, decoded.sop_uid],
        "acquired": decoded.acquired.isoformat() if decoded.acquired else None,
        "transforms": list(decoded.transforms),
        "flags": list(decoded.flags),
    }


def decoded_of(header: bytes, body: bytearray) -> DecodedInstance:
    """Read a child's answer, believing none of it.

    Args:
        header: The JSON header.
        body: The pixels; the array shares its memory.

    Raises:
        ImageUnreadableError: The child's own reason, or "decoder_answer_malformed".
    """
    try:
        answer = json.loads(header)
        if "reason" in answer:
            raise ImageUnreadableError(_reason(answer["reason"]))
        rows, columns = answer["shape"]
        uids = [str(uid) for uid in answer["uids"]]
        pixels = np.frombuffer(body, dtype="<f4").reshape(int(rows), int(columns))
        acquired = answer["acquired"]
        decoded = DecodedInstance(
            pixels=pixels,
            view=answer["view"],
            view_inferred=answer["inferred"] is True,
            study_uid=uids[0],
            series_uid=uids[1],
            sop_uid=uids[2],
            acquired=datetime.fromisoformat(acquired) if acquired else None,
            transforms=tuple(str(step) for step in answer["transforms"]),
            flags=tuple(str(flag) for flag in answer["flags"]),
        )
    except (KeyError, IndexError, TypeError, ValueError, RecursionError) as cause:
        raise ImageUnreadableError("decoder_answer_malformed") from cause
    if decoded.view not in _VIEWS or not all(is_uid(uid) for uid in uids):
        raise ImageUnreadableError("decoder_answer_malformed")
    return decoded


def _reason(reason: object) -> str:
    """A reason code may be logged, so it is a code or it is not passed on."""
    if isinstance(reason, str) and _REASON.fullmatch(reason):
        return reason
    return "decoder_answer_malformed"
