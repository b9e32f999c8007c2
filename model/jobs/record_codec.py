"""One patient record as bytes and back: JSON, then the pixels as npy, never pickle.

Layout: magic, version, length of the JSON (4 bytes, big endian), JSON, and for each
image the length of its npy block (8 bytes) and the block. Decoding rebuilds exactly
what was encoded: decimals keep their digits, times their offset, pixels every bit. The
bytes are plain; the store seals them (``cipher.py``).
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Iterator
from dataclasses import fields
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fhir_adapters.patient_record import (
    ChestImage,
    ClinicalNote,
    CodedValue,
    Modality,
    ModalityState,
    ModalityStatus,
    PatientIdentity,
    PatientRecord,
    Provenance,
    Section,
    Skip,
)
from model.errors import RecordCodecError

MAGIC = b"TRIVREC"
VERSION = 1
_HEAD = struct.Struct(">7sBI")
_BLOCK = struct.Struct(">Q")


def encode(record: PatientRecord) -> bytes:
    """Turn one record into bytes."""
    body = json.dumps(_record_json(record), separators=(",", ":")).encode("ascii")
    parts = [_HEAD.pack(MAGIC, VERSION, len(body)), body]
    for image in record.images:
        block = io.BytesIO()
        np.lib.format.write_array(block, image.pixels, allow_pickle=False)
        parts += [_BLOCK.pack(block.tell()), block.getvalue()]
    return b"".join(parts)


def decode(data: bytes) -> PatientRecord:
    """Rebuild the record of :func:`encode`.

    Raises:
        RecordCodecError: not such bytes, cut short, or of a version we do not read.
    """
    try:
        return _decode(data)
    except (
        KeyError,
        TypeError,
        ValueError,
        EOFError,
        InvalidOperation,
        struct.error,
    ):
        # "from None": the text of the cause may quote a value of the record.
        raise RecordCodecError("bytes that are no patient record") from None


def _decode(data: bytes) -> PatientRecord:
    magic, version, length = _HEAD.unpack_from(data)
    if magic != MAGIC or version != VERSION:
        raise ValueError("magic or version")
    start = _HEAD.size + length
    body = json.loads(data[_HEAD.size : start])
    blocks = list(_pixel_blocks(data, start))
    if len(blocks) != len(body["images"]):
        raise ValueError("number of images")
    return PatientRecord(
        patient=_identity(body["patient"]),
        cutoff=datetime.fromisoformat(body["cutoff"]),
        states={
            Modality(name): ModalityState(ModalityStatus(status), reason)
            for name, (status, reason) in body["states"].items()
        },
        images=tuple(map(_image, body["images"], blocks)),
        notes=tuple(map(_note, body["notes"])),
        values=tuple(map(_value, body["values"])),
        history=tuple(map(_value, body["history"])),
        skipped=tuple(Skip(*item) for item in body["skipped"]),
    )


def _pixel_blocks(data: bytes, start: int) -> Iterator[NDArray[np.float32]]:
    view = memoryview(data)
    while start < len(data):
        (length,) = _BLOCK.unpack_from(data, start)
        start += _BLOCK.size
        if len(data) - start < length:
            raise ValueError("pixels cut short")
        block = io.BytesIO(view[start : start + length])
        pixels = np.lib.format.read_array(block, allow_pickle=False)
        if pixels.dtype != np.float32 or pixels.ndim != 2:
            raise ValueError("pixels of another kind")
        start += length
        yield pixels


def _record_json(record: PatientRecord) -> dict[str, Any]:
    patient = record.patient
    return {
        "patient": {
            "patient_id": patient.patient_id,
            "identifiers": patient.identifiers,
            "sex": patient.sex,
            "birth_date": _time_text(patient.birth_date),
        },
        "cutoff": record.cutoff.isoformat(),
        "states": {
            modality.value: (state.status.value, state.reason)
            for modality, state in record.states.items()
        },
        "images": [_flat(image, leave_out="pixels") for image in record.images],
        "notes": [_flat(note) for note in record.notes],
        "values": [_flat(value) for value in record.values],
        "history": [_flat(value) for value in record.history],
        "skipped": [(s.reference, s.reason, s.detail) for s in record.skipped],
    }


def _flat(item: Any, leave_out: str = "") -> dict[str, Any]:
    """One dataclass of the record as JSON types, without copying its arrays."""
    flat: dict[str, Any] = {}
    for field in fields(item):
        value = getattr(item, field.name)
        if field.name == leave_out:
            continue
        if isinstance(value, Provenance):
            value = (value.reference, value.origin, value.sha256)
        elif isinstance(value, Decimal):
            value = str(value)
        elif isinstance(value, date):
            value = value.isoformat()
        elif field.name == "sections":
            value = [(s.title, s.start, s.end) for s in value]
        flat[field.name] = value
    return flat


def _identity(data: dict[str, Any]) -> PatientIdentity:
    born = data["birth_date"]
    return PatientIdentity(
        patient_id=_text(data["patient_id"]),
        identifiers=tuple((system, value) for system, value in data["identifiers"]),
        sex=data["sex"],
        birth_date=date.fromisoformat(born) if born is not None else None,
    )


def _image(data: dict[str, Any], pixels: NDArray[np.float32]) -> ChestImage:
    return ChestImage(
        **{
            **data,
            "pixels": pixels,
            "acquired_at": _time(data["acquired_at"]),
            "provenance": Provenance(*data["provenance"]),
            "transforms": tuple(data["transforms"]),
            "flags": tuple(data["flags"]),
        }
    )


def _note(data: dict[str, Any]) -> ClinicalNote:
    return ClinicalNote(
        **{
            **data,
            "text": _text(data["text"]),
            "written_at": _time(data["written_at"]),
            "provenance": Provenance(*data["provenance"]),
            "sections": tuple(Section(*section) for section in data["sections"]),
            "flags": tuple(data["flags"]),
        }
    )


def _value(data: dict[str, Any]) -> CodedValue:
    return CodedValue(
        **{
            **data,
            "value": Decimal(data["value"]),
            "measured_at": datetime.fromisoformat(data["measured_at"]),
            "provenance": Provenance(*data["provenance"]),
            "reference_low": _decimal(data["reference_low"]),
            "reference_high": _decimal(data["reference_high"]),
            "flags": tuple(data["flags"]),
        }
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("text")
    return value


def _decimal(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _time_text(value: date | None) -> str | None:
    return None if value is None else value.isoformat()
