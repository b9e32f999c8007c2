"""What the patient list and the chart show of a patient, computed from resources.

Nothing is filled in: what the source does not say is shown as not recorded.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from datetime import UTC, date, datetime

from deploy.sandbox.ehr import Ehr
from deploy.sandbox.fhir_dates import interval_of
from deploy.sandbox.observation_table import (
    TableRow,
    label_of,
    observation_table,
)
from deploy.sandbox.store import Resource, StoredInstance

_AGE_LOINC = "30525-0"
_SOURCES = {"HTEST": "Synthetic", "published-case": "Published case"}
NOT_RECORDED = "not recorded"


@dataclass(frozen=True, slots=True)
class PatientSummary:
    """One line of the patient list and the banner of the chart."""

    id: str
    name: str
    named: bool
    sex: str
    age: str
    birth_date: str
    source: str
    films: int
    notes: int
    values: int


@dataclass(frozen=True, slots=True)
class NoteView:
    """One note or report as text."""

    title: str
    at: datetime | None
    text: str


@dataclass(frozen=True, slots=True)
class FilmView:
    """One instance that can be shown."""

    sop_uid: str
    at: datetime | None
    description: str
    view: str


def summarise(ehr: Ehr, patient: Resource) -> PatientSummary:
    """Who the patient is and which evidence there is."""
    name = str(patient["id"])
    shown = _human_name(patient)
    observations = ehr.store.all("Observation", name)
    return PatientSummary(
        id=name,
        name=shown or name,
        named=bool(shown),
        sex=str(patient.get("gender", NOT_RECORDED)),
        age=_age(patient, observations),
        birth_date=str(patient.get("birthDate", NOT_RECORDED)),
        source=_source(patient),
        films=len(films_of(ehr, name)),
        notes=len(notes_of(ehr, name)),
        values=sum(not _is_age(o) for o in observations),
    )


def table_of(ehr: Ehr, patient_id: str) -> dict[str, list[TableRow]]:
    """The patient's measurements by section; the age stands in the banner."""
    observations = ehr.store.all("Observation", patient_id)
    return observation_table(o for o in observations if not _is_age(o))


def notes_of(ehr: Ehr, patient_id: str) -> list[NoteView]:
    """Notes and reports that have text, newest first."""
    found = []
    for document in ehr.store.all("DocumentReference", patient_id):
        contents = document.get("content", [])
        parts = [_attachment_text(c.get("attachment", {})) for c in contents]
        title = label_of({"code": document.get("type") or {"text": "Note"}})
        found.append(NoteView(title, _when(document, "date"), "\n\n".join(parts)))
    for report in ehr.store.all("DiagnosticReport", patient_id):
        parts = [_attachment_text(form) for form in report.get("presentedForm", [])]
        parts.append(str(report.get("conclusion", "")))
        text = "\n\n".join(part for part in parts if part)
        found.append(
            NoteView(label_of(report), _when(report, "effectiveDateTime"), text)
        )
    with_text = [note for note in found if note.text.strip()]
    return sorted(with_text, key=lambda n: _sortable(n.at), reverse=True)


def films_of(ehr: Ehr, patient_id: str) -> list[FilmView]:
    """Instances of the patient's imaging studies that the store holds."""
    films = []
    for study in ehr.store.all("ImagingStudy", patient_id):
        for instance in _instances(ehr, study):
            header = instance.dataset(pixels=False)
            films.append(
                FilmView(
                    sop_uid=instance.sop_uid,
                    at=_when(study, "started"),
                    description=str(study.get("description", "Imaging study")),
                    view=str(header.get("ViewPosition", "") or NOT_RECORDED),
                )
            )
    return sorted(films, key=lambda film: _sortable(film.at), reverse=True)


def film_instance(ehr: Ehr, patient_id: str, sop_uid: str) -> StoredInstance | None:
    """The instance, if it belongs to one of the patient's studies."""
    for study in ehr.store.all("ImagingStudy", patient_id):
        for instance in _instances(ehr, study):
            if instance.sop_uid == sop_uid:
                return instance
    return None


def _instances(ehr: Ehr, study: Resource) -> list[StoredInstance]:
    prefix = "urn:oid:"
    for identifier in study.get("identifier", []):
        value = str(identifier.get("value", ""))
        if value.startswith(prefix):
            return ehr.store.instances(value.removeprefix(prefix))
    return []


def _human_name(patient: Resource) -> str:
    for name in patient.get("name", []):
        given = " ".join(name.get("given", []))
        shown = ", ".join(part for part in (name.get("family", ""), given) if part)
        if shown or name.get("text"):
            return str(shown or name["text"])
    return ""


def _source(patient: Resource) -> str:
    tags = patient.get("meta", {}).get("tag", [])
    codes = (str(tag.get("code")) for tag in tags)
    return next((_SOURCES[c] for c in codes if c in _SOURCES), "Demonstration")


def _is_age(observation: Resource) -> bool:
    codings = observation.get("code", {}).get("coding", [])
    return any(coding.get("code") == _AGE_LOINC for coding in codings)


def _age(patient: Resource, observations: list[Resource]) -> str:
    """Age in years: from the birth date, else as recorded; never guessed."""
    try:
        born = date.fromisoformat(str(patient.get("birthDate", "")))
    except ValueError:
        born = None
    if born is not None:
        today = datetime.now(UTC).date()
        years = today.year - born.year
        years -= (today.month, today.day) < (born.month, born.day)
        # de-identified data may be dated in the future
        return f"{years} y" if years >= 0 else NOT_RECORDED
    for observation in observations:
        value = observation.get("valueQuantity", {}).get("value")
        if _is_age(observation) and value is not None:
            return f"{value:g} y"
    return NOT_RECORDED


def _attachment_text(attachment: Resource) -> str:
    if not str(attachment.get("contentType", "")).startswith("text/plain"):
        return ""
    try:
        data = base64.b64decode(attachment.get("data", ""), validate=True)
    except binascii.Error:
        return ""
    return data.decode("utf-8", "replace")


def _when(resource: Resource, element: str) -> datetime | None:
    interval = interval_of(resource.get(element))
    return interval.start if interval else None


def _sortable(at: datetime | None) -> datetime:
    return at or datetime.min.replace(tzinfo=UTC)
