"""Loads FHIR from other sources: transaction Bundles (Synthea) and NDJSON (MIMIC).

Kept are the types that the sandbox serves; the others are counted and left out.
References of a Bundle that point to its own entries (``urn:uuid:...``) are rewritten
to ``Type/id``; references by search (``Practitioner?identifier=...``) stay as they are.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from deploy.sandbox.errors import ImportFolderError
from deploy.sandbox.fhir_api import READABLE
from deploy.sandbox.store import Resource, Store

_SUFFIXES = (".json", ".json.gz", ".ndjson", ".ndjson.gz")


def load_folder(
    folder: Path, store: Store, *, quiet: bool = False
) -> tuple[Counter[str], Counter[str]]:
    """Load every Bundle and NDJSON file of a folder.

    Returns:
        Resources stored and resources left out, each counted by type.

    Raises:
        ImportFolderError: no such files, or one that is not FHIR JSON.
    """
    paths = sorted(p for p in folder.glob("*") if p.name.endswith(_SUFFIXES))
    if not paths:
        raise ImportFolderError("no .json, .ndjson or .gz file in the folder")
    stored: Counter[str] = Counter()
    left_out: Counter[str] = Counter()
    for path in tqdm(paths, desc="load", unit="file", disable=quiet):
        for resource in _resources(path):
            kind = str(resource.get("resourceType"))
            if kind in READABLE:
                store.put(resource)
                stored[kind] += 1
            else:
                left_out[kind] += 1
    return stored, left_out


def _resources(path: Path) -> Iterator[Resource]:
    opener = gzip.open if path.name.endswith(".gz") else open
    try:
        with opener(path, "rt", encoding="utf-8") as stream:
            if ".ndjson" in path.name:
                for line in stream:
                    if line.strip():
                        yield _object(json.loads(line), path)
                return
            content = _object(json.load(stream), path)
    except (OSError, ValueError, EOFError) as error:
        raise ImportFolderError(f"{path.name} is not JSON") from error
    yield from _unbundled(content) if _is_bundle(content) else [content]


def _object(value: Any, path: Path) -> Resource:
    if not isinstance(value, dict):
        raise ImportFolderError(f"{path.name} holds something that is no resource")
    return value


def _is_bundle(content: Resource) -> bool:
    return content.get("resourceType") == "Bundle"


def _unbundled(bundle: Resource) -> Iterator[Resource]:
    entries = [e for e in bundle.get("entry", []) if "resource" in e]
    targets = {
        entry[
            "fullUrl"
        ]: f"{entry['resource']['resourceType']}/{entry['resource']['id']}"
        for entry in entries
        if "fullUrl" in entry and "id" in entry["resource"]
    }
    for entry in entries:
        yield _rewritten(entry["resource"], targets)


def _rewritten(value: Any, targets: dict[str, str]) -> Any:
    if isinstance(value, list):
        return [_rewritten(item, targets) for item in value]
    if not isinstance(value, dict):
        return value
    changed = {key: _rewritten(item, targets) for key, item in value.items()}
    reference = changed.get("reference")
    if isinstance(reference, str) and reference in targets:
        changed["reference"] = targets[reference]
    return changed
