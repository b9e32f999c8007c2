"""Records, results and settings for the tests of the job queue; nothing real."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import numpy as np

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
from model.jobs.cipher import write_new_key
from model.jobs.explanation import Explanation, ModalityShare, Sentence
from model.jobs.prediction import LabelEstimate, ModelIdentity, Prediction
from model.settings import JobSettings

MODEL_SHA256 = "ab" * 32
CANARY_ID = "canary-patient-7431"
CANARY_TEXT = "Zebulon Quagmire-Testperson coughs since Tuesday"
NOW = datetime(2026, 3, 4, 5, 6, 7, 890123, tzinfo=UTC)


def settings(folder: Path, **changes: object) -> JobSettings:
    """Settings of a queue that lives in ``folder``; creates the key on first use."""
    key = folder / "payload.key"
    if not key.exists():
        write_new_key(key)
    plain = JobSettings(
        payload_key_file=key,
        jobs_url=f"sqlite:///{folder}/jobs.sqlite3",
        broker_url=f"filesystem://{folder}/broker",
        # Generous: what is tested is that it is bounded, on a busy machine too.
        store_timeout_s=5.0,
        publish_timeout_s=2.0,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def record(patient_id: str = CANARY_ID, **changes: object) -> PatientRecord:
    """One record with everything that a record can hold."""
    source = Provenance("Observation/o1", "prefetch", "11" * 32)
    value = CodedValue(
        loinc="1988-5",
        name="C-reactive protein",
        value=Decimal("96.50"),
        unit="mg/L",
        measured_at=NOW,
        provenance=source,
        comparator=">",
        interpretation="H",
        reference_low=None,
        reference_high=Decimal("5"),
        source_value="9.65",
        source_unit="mg/dL",
        flags=("converted",),
    )
    there = ModalityState(ModalityStatus.PRESENT)
    plain = PatientRecord(
        patient=PatientIdentity(
            patient_id, (("urn:mrn", "MRN-99120"),), "female", date(1957, 2, 28)
        ),
        cutoff=NOW,
        states={modality: there for modality in Modality},
        images=(
            ChestImage(
                pixels=np.linspace(0, 1, 35, dtype=np.float32).reshape(5, 7),
                view="PA",
                view_inferred=True,
                study_uid="1.2.3",
                series_uid="1.2.3.4",
                sop_uid="1.2.3.4.5",
                acquired_at=None,
                provenance=Provenance("ImagingStudy/i#1.2", "dicomweb", "22" * 32),
                transforms=("voi-window",),
                flags=("qc-low-contrast",),
            ),
        ),
        notes=(
            ClinicalNote(
                text=CANARY_TEXT,
                written_at=NOW,
                kind="progress",
                provenance=Provenance("DocumentReference/d", "fhir", "33" * 32),
                sections=(Section("History", 0, 20),),
                flags=("html",),
            ),
        ),
        values=(value,),
        history=(value, replace(value, value=Decimal("1E+2"), comparator=None)),
        skipped=(Skip("Observation/x", "unknown_unit", "furlong"),),
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def prediction(patient: PatientRecord, probability: float = 0.31) -> Prediction:
    """A finished prediction for that record."""
    return Prediction(
        prediction_id="p" * 32,
        made_at=NOW.isoformat(),
        model=ModelIdentity("demo", "1", MODEL_SHA256, "artificial cases"),
        device="cpu fp32",
        presence={m.value: True for m in Modality},
        states={m.value: "present" for m in Modality},
        calibration="v1:image+text+values",
        estimates=(LabelEstimate("pneumonia", "Pneumonia", -0.8, probability, 0.5),),
        abstentions=(),
        inputs=patient.references(),
        evidence_sha256=patient.evidence_sha256(),
    )


def explanation() -> Explanation:
    """A small explanation."""
    return Explanation(
        label="pneumonia",
        modalities=(ModalityShare("image", 0.4, 0.1),),
        heat_maps=(),
        words=(),
        values=(),
        narrative=(Sentence("limits", "Investigational.", ("Model/x",)),),
    )


class FixedAssessor:
    """Implements the runner's Assessor without a network."""

    model_sha256 = MODEL_SHA256
    device = "cpu fp32"

    def __init__(self) -> None:
        self.seen: list[str] = []

    def assess(self, patient: PatientRecord) -> tuple[Prediction, Explanation | None]:
        """Note the patient and answer."""
        self.seen.append(patient.patient.patient_id)
        return prediction(patient), explanation()
