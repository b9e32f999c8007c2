"""The sandbox's patients: FHIR resources and DICOM instances in one folder.

Layout::

    FOLDER/resources/<Type>/<id>.json
    FOLDER/dicom/<study>/<series>/<sop>.dcm
    FOLDER/keys/                      made by :mod:`deploy.sandbox.keys`, mode 0600
    FOLDER/CREDITS.txt                licences and credits of imported cases

Everything is read into memory once, with an index by type and by patient. Writes go
to disk first (temporary file, then rename) and are visible at once in this process; a
second process sees them when it opens the folder. Decimal places of numbers are kept
as Python's ``json`` module keeps them (1.10 becomes 1.1).
"""

from __future__ import annotations

import json
import os
import re
import tempfile
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
from pydicom.errors import InvalidDicomError

from deploy.sandbox.errors import StoreError

Resource = dict[str, Any]

_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")
_TYPE = re.compile(r"[A-Z][A-Za-z]{2,63}")
_UID = re.compile(r"[0-9]+(\.[0-9]+)*")


@dataclass(frozen=True, slots=True)
class StoredInstance:
    """One DICOM file of the store."""

    study_uid: str
    series_uid: str
    sop_uid: str
    path: Path

    def read(self) -> bytes:
        """The file as stored (DICOM part 10)."""
        return self.path.read_bytes()

    def dataset(self, *, pixels: bool = True) -> pydicom.Dataset:
        """The parsed file, with or without its pixel data."""
        return pydicom.dcmread(self.path, stop_before_pixels=not pixels)


def patient_of(resource: Resource) -> str | None:
    """Id of the patient whose compartment holds ``resource``, None if none does."""
    if resource.get("resourceType") == "Patient":
        return str(resource["id"])
    for key in ("subject", "patient", "securityContext"):
        reference = resource.get(key)
        if isinstance(reference, dict):
            match = re.fullmatch(
                r"(?:.*/)?Patient/([A-Za-z0-9\-.]{1,64})",
                str(reference.get("reference", "")),
            )
            if match:
                return match.group(1)
    return None


class Store:
    """Resources and instances of one folder, indexed in memory; thread-safe."""

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self._lock = threading.RLock()
        self._resources: dict[str, dict[str, Resource]] = {}
        self._by_patient: dict[str, dict[str, set[str]]] = {}
        self._instances: dict[str, dict[tuple[str, str], StoredInstance]] = {}
        (self.folder / "resources").mkdir(parents=True, exist_ok=True)
        (self.folder / "dicom").mkdir(exist_ok=True)
        self._load()

    def put(self, resource: Resource) -> Resource:
        """Store one resource and return it with its new ``meta``.

        Raises:
            StoreError: no valid ``resourceType`` or ``id``.
        """
        kind, name = resource.get("resourceType"), resource.get("id")
        if not isinstance(kind, str) or not _TYPE.fullmatch(kind):
            raise StoreError("a resource needs a resourceType")
        if not isinstance(name, str) or not _ID.fullmatch(name):
            raise StoreError(f"a {kind} needs an id of FHIR's id type")
        with self._lock:
            before = self._resources.get(kind, {}).get(name)
            version = int(before["meta"]["versionId"]) + 1 if before else 1
            # A copy in plain JSON types (a Decimal becomes a float), so that a caller
            # who goes on changing its resource does not change the store.
            stored: Resource = json.loads(json.dumps(resource, default=float))
            stored["meta"] = {
                **stored.get("meta", {}),
                "versionId": str(version),
                "lastUpdated": datetime.now(UTC).isoformat(timespec="seconds"),
            }
            text = json.dumps(stored, ensure_ascii=False, indent=1)
            self._write(
                self.folder / "resources" / kind / f"{name}.json", text.encode()
            )
            self._index(stored)
        return stored

    def put_instance(self, data: bytes) -> StoredInstance:
        """Store one DICOM file under its own UIDs.

        Raises:
            StoreError: not DICOM, or without well-formed study, series and SOP UIDs.
        """
        try:
            header = pydicom.dcmread(BytesIO(data), stop_before_pixels=True)
        except (InvalidDicomError, OSError, ValueError) as error:
            raise StoreError("not a DICOM file") from error
        uids = [
            str(header.get(key, ""))
            for key in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
        ]
        # UIDs become folder names: nothing but digits and dots may get there.
        if not all(len(uid) <= 64 and _UID.fullmatch(uid) for uid in uids):
            raise StoreError("a DICOM instance needs well-formed UIDs")
        study, series, sop = uids
        path = self.folder / "dicom" / study / series / f"{sop}.dcm"
        with self._lock:
            self._write(path, data)
            return self._index_instance(path)

    def get(self, kind: str, name: str) -> Resource | None:
        """The resource ``kind/name``; treat it as read-only."""
        with self._lock:
            return self._resources.get(kind, {}).get(name)

    def all(self, kind: str, patient: str | None = None) -> list[Resource]:
        """Every resource of a type, or those of one patient, ordered by id."""
        with self._lock:
            of_type = self._resources.get(kind, {})
            if patient is None:
                return [of_type[name] for name in sorted(of_type)]
            names = self._by_patient.get(patient, {}).get(kind, set())
            return [of_type[name] for name in sorted(names)]

    def types(self) -> dict[str, int]:
        """Number of resources by type."""
        with self._lock:
            return {k: len(v) for k, v in sorted(self._resources.items()) if v}

    def instances(
        self, study: str, series: str | None = None, sop: str | None = None
    ) -> list[StoredInstance]:
        """Instances of a study, narrowed to a series and an instance if given."""
        with self._lock:
            found = self._instances.get(study, {}).values()
            return [
                item
                for item in sorted(found, key=lambda i: (i.series_uid, i.sop_uid))
                if series in (None, item.series_uid) and sop in (None, item.sop_uid)
            ]

    def studies(self) -> list[str]:
        """Study instance UIDs that have at least one instance."""
        with self._lock:
            return sorted(self._instances)

    def study_patient(self, study: str) -> str | None:
        """FHIR patient id of a DICOM study, by the ImagingStudy that names it."""
        wanted = f"urn:oid:{study}"
        for resource in self.all("ImagingStudy"):
            values = (i.get("value") for i in resource.get("identifier", []))
            if wanted in values:
                return patient_of(resource)
        return None

    def _load(self) -> None:
        for path in sorted((self.folder / "resources").glob("*/*.json")):
            try:
                self._index(json.loads(path.read_bytes()))
            except (ValueError, KeyError) as error:
                raise StoreError(f"cannot read {path.name}") from error
        for path in sorted((self.folder / "dicom").glob("*/*/*.dcm")):
            self._index_instance(path)

    def _index(self, resource: Resource) -> None:
        kind, name = resource["resourceType"], resource["id"]
        of_type = self._resources.setdefault(kind, {})
        before = patient_of(of_type[name]) if name in of_type else None
        if before is not None:
            self._by_patient[before][kind].discard(name)
        of_type[name] = resource
        patient = patient_of(resource)
        if patient is not None:
            kinds = self._by_patient.setdefault(patient, {})
            kinds.setdefault(kind, set()).add(name)

    def _index_instance(self, path: Path) -> StoredInstance:
        series_folder = path.parent
        instance = StoredInstance(
            series_folder.parent.name, series_folder.name, path.stem, path
        )
        of_study = self._instances.setdefault(instance.study_uid, {})
        of_study[instance.series_uid, instance.sop_uid] = instance
        return instance

    @staticmethod
    def _write(path: Path, data: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".part")
        with os.fdopen(handle, "wb") as out:
            out.write(data)
        os.replace(temporary, path)
