"""One record on its way through the model: what is read of it, and what is not."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
import torch

from fhir_adapters.patient_record import (
    ChestImage,
    ClinicalNote,
    Modality,
    ModalityState,
    ModalityStatus,
    PatientIdentity,
    PatientRecord,
    Provenance,
)
from model.inference.abstention import AbstentionPolicy, usable_record
from model.inference.doubtful_units import without_doubtful_units
from model.inference.familiar_text import without_foreign_text
from model.inference.photometry import FilmReference
from model.inference.tensors import to_tensors
from model.inference.vocabulary import InputVocabulary
from model.network.inputs import TriModalInputs

# Why a modality that the record holds gives the model nothing to read.
_UNREAD = {
    Modality.IMAGE: "no_image",
    Modality.TEXT: "no_text",
    Modality.VALUES: "no_values",
}


@dataclass(frozen=True, slots=True)
class Case:
    """A record as received, as used, and as tensors (B = 1).

    ``watched``: the checkpoint knows what notes and values usually look like.
    """

    received: PatientRecord
    record: PatientRecord
    inputs: TriModalInputs
    states: dict[Modality, ModalityState]
    presence: tuple[bool, bool, bool]
    watched: bool = False

    def to(self, device: torch.device) -> Case:
        """The same case with its tensors on another device."""
        return replace(self, inputs=self.inputs.to(device))

    def state_words(self) -> dict[str, str]:
        """Status and reason of each modality: "present", "absent: no_values"."""
        words = {}
        for modality in Modality:
            state = self.states[modality]
            reason = f": {state.reason}" if state.reason else ""
            words[modality.value] = f"{state.status}{reason}"
        return words

    def references(self) -> tuple[str, ...]:
        """References of what became tokens; a note cut off entirely is left out."""
        inputs = self.inputs
        notes = sorted(set(inputs.note[0][inputs.word[0] >= 0].tolist()))
        used = (
            *inputs.image_ids[0],
            *(inputs.note_ids[0][note] for note in notes),
            *inputs.value_ids[0],
        )
        return tuple(dict.fromkeys(used))


def prepare(
    record: PatientRecord,
    vocabulary: InputVocabulary,
    policy: AbstentionPolicy,
    films: FilmReference | None = None,
) -> Case:
    """Tensors of one record, and what the model can really read of it."""
    believed = without_doubtful_units(record, vocabulary)
    familiar = without_foreign_text(believed, vocabulary.known_pairs)
    usable = usable_record(familiar, policy, films)
    inputs = to_tensors([usable], vocabulary)
    image, text, values = inputs.present[0].tolist()
    presence = (image, text, values)
    states = dict(usable.states)
    for modality, there in zip(Modality, presence):
        if states[modality].status is ModalityStatus.PRESENT and not there:
            states[modality] = ModalityState(ModalityStatus.ABSENT, _UNREAD[modality])
    watched = bool(vocabulary.follows)
    return Case(record, usable, inputs, states, presence, watched)


def artificial_record(vocabulary: InputVocabulary) -> PatientRecord:
    """A film of a slope and a note of one word: the shapes of real work, no patient."""
    size = vocabulary.image_size
    now = datetime.now(UTC)
    source = Provenance("warm-up", "folder", "")
    slope = np.linspace(0, 1, size * size, dtype=np.float32).reshape(size, size)
    there = ModalityState(ModalityStatus.PRESENT)
    return PatientRecord(
        patient=PatientIdentity("warm-up"),
        cutoff=now,
        states={
            Modality.IMAGE: there,
            Modality.TEXT: there,
            Modality.VALUES: ModalityState(ModalityStatus.ABSENT, "warm_up"),
        },
        images=(ChestImage(slope, "PA", False, "", "", "", now, source),),
        notes=(ClinicalNote("cough", now, "warm-up", source),),
    )
