"""A synthetic case as the rest of the plugin meets it.

``to_record`` builds the PatientRecord directly, for training; ``to_fhir`` writes FHIR
R4 resources and a DICOM instance, so that the whole way in can be tested. Both name
every piece of evidence alike.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

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
)
from model.synthetic.case import MeasuredValue, SynthCase
from model.synthetic.dx_writer import FilmFacts, dx_instance
from model.synthetic.fhir_resources import (
    Resource,
    document_resource,
    encounter_resource,
    endpoint_resource,
    imaging_study_resource,
    observation_resource,
    patient_resource,
)
from model.synthetic.identifiers import (
    PATIENT_SYSTEM,
    dicom_uid,
    encounter_id,
    note_id,
    observation_id,
    study_id,
)

__all__ = ["EmittedCase", "FilmFacts", "dx_instance", "to_fhir", "to_record"]

DEFAULT_DICOMWEB = "http://127.0.0.1:8100/dicomweb"

_ORIGIN = "folder"
_NOTE_KIND = "history_and_physical"


@dataclass(frozen=True, slots=True)
class EmittedCase:
    """FHIR R4 resources (plain JSON) and DICOM instances of one case."""

    resources: list[Resource]
    instances: list[bytes]


def to_record(case: SynthCase) -> PatientRecord:
    """The case as a PatientRecord, all three modalities present."""
    values = tuple(
        _coded_value(case, value)
        for value in sorted(
            case.values, key=lambda v: (v.measured_at, v.loinc), reverse=True
        )
    )
    return PatientRecord(
        patient=PatientIdentity(
            patient_id=case.case_id,
            identifiers=((PATIENT_SYSTEM, case.case_id),),
            sex=case.sex,
            birth_date=case.birth_date,
        ),
        cutoff=case.cutoff,
        states={
            Modality.IMAGE: ModalityState(ModalityStatus.PRESENT),
            Modality.TEXT: ModalityState(ModalityStatus.PRESENT),
            Modality.VALUES: (
                ModalityState(ModalityStatus.PRESENT)
                if values
                else ModalityState(ModalityStatus.ABSENT, "no_values")
            ),
        },
        images=(_chest_image(case),),
        notes=(
            ClinicalNote(
                text=case.note.text,
                written_at=case.note_at,
                kind=_NOTE_KIND,
                provenance=_provenance(
                    f"DocumentReference/{note_id(case.case_id)}",
                    case.note.text.encode(),
                ),
                sections=case.note.sections,
            ),
        ),
        values=values,
        history=values,
    )


def to_fhir(
    case: SynthCase,
    *,
    dicomweb_address: str = DEFAULT_DICOMWEB,
    patient_id: str | None = None,
) -> EmittedCase:
    """The case as FHIR R4 resources and one DX instance.

    Args:
        case: The case.
        dicomweb_address: Address of the DICOMweb Endpoint that serves the film.
        patient_id: Id of the Patient resource and PatientID of the film; the case id
            when not given.
    """
    patient = case.case_id if patient_id is None else patient_id
    subject = {"reference": f"Patient/{patient}"}
    encounter = {"reference": f"Encounter/{encounter_id(case.case_id)}"}
    resources = [
        patient_resource(case, patient),
        encounter_resource(case, subject),
        *(
            observation_resource(case, value, subject, encounter)
            for value in case.values
        ),
        document_resource(case, subject, encounter),
        endpoint_resource(case, dicomweb_address),
        imaging_study_resource(case, subject, encounter),
    ]
    instance = dx_instance(
        case.image,
        patient_id=patient,
        study_uid=dicom_uid(case.case_id, "study"),
        series_uid=dicom_uid(case.case_id, "series"),
        sop_uid=dicom_uid(case.case_id, "instance"),
        view="PA",
        facts=FilmFacts(
            acquired_at=case.film_at,
            sex=case.sex,
            birth_date=case.birth_date,
            burned_in_annotation=False,
            orientation=("L", "F"),
            issuer=PATIENT_SYSTEM,
        ),
    )
    return EmittedCase(resources, [instance])


def _provenance(reference: str, content: bytes) -> Provenance:
    return Provenance(reference, _ORIGIN, hashlib.sha256(content).hexdigest())


def _chest_image(case: SynthCase) -> ChestImage:
    sop_uid = dicom_uid(case.case_id, "instance")
    return ChestImage(
        pixels=case.image,
        view="PA",
        view_inferred=False,
        study_uid=dicom_uid(case.case_id, "study"),
        series_uid=dicom_uid(case.case_id, "series"),
        sop_uid=sop_uid,
        acquired_at=case.film_at,
        provenance=_provenance(
            f"ImagingStudy/{study_id(case.case_id)}#{sop_uid}", case.image.tobytes()
        ),
    )


def _coded_value(case: SynthCase, value: MeasuredValue) -> CodedValue:
    content = f"{value.loinc} {value.value} {value.unit} {value.measured_at}"
    return CodedValue(
        loinc=value.loinc,
        name=value.name,
        value=value.value,
        unit=value.unit,
        measured_at=value.measured_at,
        provenance=_provenance(
            f"Observation/{observation_id(case.case_id, value.loinc)}", content.encode()
        ),
        interpretation=value.interpretation,
        reference_low=value.reference_low,
        reference_high=value.reference_high,
        source_value=str(value.value),
        source_unit=value.unit,
    )
