"""Turns a folder of published chest-radiograph cases into patients of the sandbox.

Layout of the folder: ``cases.jsonl`` (one case a line) and ``images/``. Each case
becomes one Patient with whatever the source recorded. What is decided here:

- **Nothing is invented.** The patient has no name and no birth date; a known age
  becomes an Observation (LOINC 30525-0). Unknown DICOM attributes stay empty.
- **Only the masked note** is imported. The raw note often states the diagnosis, and
  findings, outcomes, dates, places, addresses and credits predict it: none of them
  goes into a resource or a DICOM tag. Licence and credit go to ``CREDITS.tsv``.
- **Dates are made up, openly.** Sources give a year at most, so the newest item of a
  case is put on the import day and the others by their offsets in days. Intervals
  within a case are the source's; the calendar dates mean nothing.
- **A value outside the detection limit** of a laboratory that did not state the limit
  has no number: it becomes an Observation with a data-absent-reason and the
  interpretation "off scale low" or "off scale high".
- **A value that is no number, or has no unit,** is an Observation with a
  data-absent-reason; an entry that is no object, or whose day cannot be read, is left
  out.
- A view of ``unknown`` stays empty; films are marked derived, a JPEG also lossy.

Only ``case_id`` (of FHIR's id type) and ``image`` are required. A case that does not
say whether it is ``primary`` is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from tqdm import tqdm

from deploy.sandbox.case_resources import CASE_SYSTEM, case_resources, case_uid
from deploy.sandbox.credits import add_credits
from deploy.sandbox.errors import ImportFolderError
from deploy.sandbox.store import Store
from model.datasets.case_rows import case_rows, entries, is_primary, measured
from model.datasets.grey_image import read_grey
from model.errors import DatasetError
from model.synthetic.dx_writer import FilmFacts, dx_instance

_VIEWS = {"PA": "PA", "AP": "AP", "AP_SUPINE": "AP", "LATERAL": "LATERAL"}


@dataclass(frozen=True, slots=True)
class CaseFilter:
    """Which lines of ``cases.jsonl`` to import; None or False means all of them."""

    split: str | None = None
    primary: bool = False
    limit: int | None = None
    ids: frozenset[str] | None = None

    def accepts(self, row: dict[str, Any]) -> bool:
        """Whether this case is wanted (``limit`` is applied by the caller)."""
        if self.primary and not is_primary(row):
            return False
        if self.ids is not None and row.get("case_id") not in self.ids:
            return False
        return self.split is None or row.get("split") == self.split


def import_folder(
    folder: Path, store: Store, wanted: CaseFilter, day: date, *, quiet: bool = False
) -> list[str]:
    """Import the wanted cases; returns the ids of the patients made.

    Args:
        day: the day on which the newest item of every case is put.

    Raises:
        ImportFolderError: no ``cases.jsonl``, a malformed line, a case id that FHIR
            does not allow, an unreadable image.
    """
    rows = [row for row in _rows(folder) if wanted.accepts(row)][: wanted.limit]
    known_ids = {row["case_id"] for row in rows}
    missing = (wanted.ids or frozenset()) - known_ids
    if missing and wanted.limit is None:
        raise ImportFolderError(f"{len(missing)} of the ids are not in the folder")
    for row in tqdm(rows, desc="import", unit="case", disable=quiet):
        film_at = _film_time(row, day)
        for resource in case_resources(row, film_at):
            store.put(resource)
        store.put_instance(film_of(folder, row, film_at))
    add_credits(store.folder, rows, day)
    return [row["case_id"] for row in rows]


def film_of(folder: Path, row: dict[str, Any], film_at: datetime) -> bytes:
    """The case's image as one DX instance.

    Raises:
        ImportFolderError: the image is missing, outside the folder or unreadable.
    """
    path = (folder / row["image"]).resolve()
    # A path out of the folder would put any picture of this machine into the chart.
    if not path.is_relative_to(folder.resolve()):
        raise ImportFolderError(f"{row['case_id']}: image outside the folder")
    try:
        grey, kind = read_grey(path)
    except DatasetError as error:
        raise ImportFolderError(
            f"{row['case_id']}: image unreadable, {error}"
        ) from error
    view, sex = str(row.get("view")), row.get("sex")
    return dx_instance(
        grey,
        patient_id=row["case_id"],
        study_uid=case_uid(row["case_id"], "study"),
        series_uid=case_uid(row["case_id"], "series"),
        sop_uid=case_uid(row["case_id"], "instance"),
        view=_VIEWS.get(view),
        facts=FilmFacts(
            acquired_at=film_at,
            sex=sex if isinstance(sex, str) else None,
            issuer=CASE_SYSTEM,
            description="Chest AP supine" if view == "AP_SUPINE" else "",
            derived=True,
            lossy=kind == "JPEG",
        ),
    )


def _rows(folder: Path) -> list[dict[str, Any]]:
    try:
        return [row for _, row in case_rows(folder, ("case_id", "image"))]
    except DatasetError as error:
        raise ImportFolderError(str(error)) from error


def _film_time(row: dict[str, Any], day: date) -> datetime:
    """Start of the day of the film: the import day, less the latest offset."""
    found = [measured(entry) for entry in entries(row).values()]
    latest = max([0.0, *(value.day_offset for value in found if value)])
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return start - timedelta(days=math.ceil(latest))
