"""Changes of the measured values: left out, in another order, from another site."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np

from fhir_adapters.patient_record import (
    CodedValue,
    Modality,
    ModalityState,
    ModalityStatus,
    PatientRecord,
)

DROPPED = 0.20
_LATER = timedelta(hours=3)


def with_values(record: PatientRecord, values: tuple[CodedValue, ...]) -> PatientRecord:
    """The record with these values; none at all is an absent modality."""
    states = dict(record.states)
    if not values:
        states[Modality.VALUES] = ModalityState(ModalityStatus.ABSENT, "no_values")
    return replace(record, values=values, history=values, states=states)


def dropout(record: PatientRecord, random: np.random.Generator) -> PatientRecord:
    """Each value left out with a chance of 20 %."""
    kept = tuple(v for v in record.values if random.random() >= DROPPED)
    return with_values(record, kept)


def shuffled(record: PatientRecord, random: np.random.Generator) -> PatientRecord:
    """The same values in another order."""
    order = random.permutation(len(record.values))
    return with_values(record, tuple(record.values[i] for i in order))


def other_laboratory(
    record: PatientRecord, random: np.random.Generator
) -> PatientRecord:
    """Another site's habits: older results, no flags, no reference ranges."""
    values = tuple(
        replace(
            value,
            measured_at=value.measured_at - _LATER,
            interpretation=None,
            reference_low=None,
            reference_high=None,
        )
        for value in record.values
    )
    return with_values(record, values)


def only(record: PatientRecord, *kept: Modality) -> PatientRecord:
    """The record with these modalities alone."""
    states = {
        m: record.states[m] if m in kept else ModalityState(ModalityStatus.ABSENT, "")
        for m in Modality
    }
    values = record.values if Modality.VALUES in kept else ()
    return replace(
        record,
        states=states,
        images=record.images if Modality.IMAGE in kept else (),
        notes=record.notes if Modality.TEXT in kept else (),
        values=values,
        history=values,
    )
