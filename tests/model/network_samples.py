"""Small records, vocabularies and networks that several test files share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import torch

from fhir_adapters.patient_record import (
    Modality,
    ModalityState,
    ModalityStatus,
    PatientRecord,
)
from model.inference.tensors import to_tensors
from model.inference.vocabulary import InputVocabulary
from model.network.config import TriModalConfig, preset
from model.network.fusion import TriModalModel
from model.network.inputs import TriModalInputs
from model.synthetic.emit import to_record
from model.synthetic.generate import generate
from model.synthetic.latents import Split

LABELS = ("pneumonia",)

# Tensors this small are slower on two threads, and much slower on a busy machine.
torch.set_num_threads(1)


@cache
def records(n: int = 24) -> tuple[PatientRecord, ...]:
    """Synthetic records with all three modalities."""
    return tuple(to_record(case) for case in generate(n, 5, split=Split.DEMO))


def without(record: PatientRecord, *absent: Modality) -> PatientRecord:
    """The record after the given modalities were taken away."""
    states = dict(record.states)
    for modality in absent:
        states[modality] = ModalityState(ModalityStatus.ABSENT, "test")
    return replace(
        record,
        states=states,
        images=() if Modality.IMAGE in absent else record.images,
        notes=() if Modality.TEXT in absent else record.notes,
        values=() if Modality.VALUES in absent else record.values,
    )


@cache
def vocabulary() -> InputVocabulary:
    """Fitted on the sample records."""
    return InputVocabulary.fit(records(), image_size=64, max_tokens=128)


def config(labels: tuple[str, ...] = LABELS) -> TriModalConfig:
    """The tiny preset for the sample vocabulary."""
    words = vocabulary()
    return preset(
        "tiny", vocabulary=len(words.pieces), codes=len(words.codes), labels=labels
    )


def network(labels: tuple[str, ...] = LABELS, seed: int = 0) -> TriModalModel:
    """A randomly initialised tiny network, in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return TriModalModel(config(labels)).eval()


def batch(chosen: Sequence[PatientRecord] | None = None) -> TriModalInputs:
    """Tensors of the first four sample records, or of the given ones."""
    return to_tensors(chosen or records()[:4], vocabulary())
