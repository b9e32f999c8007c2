"""FHIR files of a folder -> resources by patient.

Two layouts: Bundles, one or more patients a file (Synthea), and NDJSON, one resource
type a file and patients mixed (bulk export, MIMIC-IV on FHIR).
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from fhir_adapters.bundle import walk
from fhir_adapters.errors import MalformedResourceError, ResourceTooLargeError
from fhir_adapters.fhir_json import parse_json
from fhir_adapters.received import Received
from fhir_adapters.resources.elements import (
    child,
    local_reference,
    resource_id,
    resource_type,
    text,
)

_SUFFIXES = (".json", ".json.gz", ".ndjson", ".ndjson.gz")
_READ = frozenset(
    {"Observation", "DiagnosticReport", "DocumentReference", "ImagingStudy"}
)
# A year of one intensive-care patient is some 10 MB; a file beyond this is no record.
_MAX_FILE_BYTES = 512 * 1024 * 1024
_URN = "urn:uuid:"


@dataclass(slots=True)
class PatientFolder:
    """One patient of a folder: the Patient resource and everything about them."""

    patient: dict[str, Any]
    received: list[Received] = field(default_factory=list)


@dataclass(slots=True)
class FolderContent:
    """All patients by id; ``strays`` are Observations of patients not in the folder."""

    patients: dict[str, PatientFolder] = field(default_factory=dict)
    strays: int = 0


def read_folder(
    folder: Path, *, progress: bool = True, max_file_bytes: int = _MAX_FILE_BYTES
) -> FolderContent:
    """Read every FHIR file below ``folder``.

    Raises:
        MalformedResourceError: No FHIR file, or one that is no JSON.
        ResourceTooLargeError: A file above the cap.
    """
    files = sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and path.name.endswith(_SUFFIXES)
    )
    if not files:
        raise MalformedResourceError("no_files", "no FHIR file in the folder")
    content = FolderContent()
    waiting: list[Received] = []
    endpoints: list[Received] = []
    for path in tqdm(files, desc="reading", unit="file", disable=not progress):
        for received in _resources(path, max_file_bytes):
            kind = resource_type(received.resource)
            if kind == "Patient":
                key = resource_id(received.resource)
                content.patients[key] = PatientFolder(received.resource)
            elif kind == "Endpoint":
                endpoints.append(received)
            elif kind in _READ:
                waiting.append(received)
    _assign(content, waiting)
    for owner in content.patients.values():
        owner.received.extend(endpoints)
    return content


def _assign(content: FolderContent, waiting: list[Received]) -> None:
    """Give each resource to the patient it names; the rest are strays."""
    for received in waiting:
        owner = content.patients.get(_subject_id(received.resource))
        if owner is not None:
            owner.received.append(received)
        elif resource_type(received.resource) == "Observation":
            content.strays += 1


def _subject_id(resource: Mapping[str, Any]) -> str:
    reference = text(child(resource, "subject"), "reference")
    if reference.startswith(_URN):
        return reference.removeprefix(_URN)
    return local_reference(reference).removeprefix("Patient/")


def _resources(path: Path, cap: int) -> Iterator[Received]:
    data = _bytes(path, cap)
    if ".ndjson" not in path.name:
        yield from walk(parse_json(data), "folder")
        return
    for line in data.splitlines():
        if line.strip():
            yield from walk(parse_json(line), "folder")


def _bytes(path: Path, cap: int) -> bytes:
    """The file's content, inflated up to the cap (a bomb stops there)."""
    opener = gzip.open if path.name.endswith(".gz") else open
    try:
        with opener(path, "rb") as stream:
            data = bytes(stream.read(cap + 1))
    except (OSError, EOFError, zlib.error) as error:
        raise MalformedResourceError("unreadable_file") from error
    if len(data) > cap:
        raise ResourceTooLargeError("file_too_large")
    return data
