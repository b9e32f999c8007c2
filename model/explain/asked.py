"""One estimate with all that an explanation of it starts from."""

from __future__ import annotations

from dataclasses import dataclass

from fhir_adapters.patient_record import PatientRecord
from model.explain.attribution import Question
from model.jobs.prediction import LabelEstimate, Prediction


@dataclass(frozen=True, slots=True)
class Asked:
    """What was said, of which estimate, on which record (as the model read it)."""

    prediction: Prediction
    estimate: LabelEstimate
    record: PatientRecord
    question: Question
