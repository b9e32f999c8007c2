"""A checkpoint on its test bench: cases, records, and two ways to score them.

*Forced*: a calibrated logit for every record, whatever it looks like, so that a shift
is measured on the same cases before and after. *Served*: what the predictor answers
with all its refusals, one record at a time, as in the worker.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from fhir_adapters.patient_record import PatientRecord
from model.evaluation.scores import Floats
from model.inference.predictor import Predictor
from model.inference.tensors import to_tensors
from model.inference.weights import LoadedCheckpoint
from model.jobs.prediction import Prediction
from model.synthetic.case import SynthCase
from model.synthetic.emit import to_record
from model.training.synthetic_set import LABEL

BATCH = 256


@dataclass(frozen=True)
class Bench:
    """Synthetic cases that a checkpoint has not seen, and the checkpoint.

    ``shift_cases`` bounds how many cases a shift is measured on, ``served_cases`` how
    many records go one by one through the predictor, ``draws`` the resampling.
    """

    checkpoint: LoadedCheckpoint
    cases: Sequence[SynthCase]
    seed: int
    shift_cases: int = 2_000
    served_cases: int = 300
    draws: int = 1_000
    progress: bool = True

    @cached_property
    def truth(self) -> Floats:
        """(n,) in {0, 1}."""
        return np.array([case.label for case in self.cases], dtype=np.float64)

    @cached_property
    def records(self) -> list[PatientRecord]:
        """The cases as the rest of the plugin meets them."""
        return [to_record(case) for case in self.cases]

    @cached_property
    def chance(self) -> Floats:
        """(n,) forced probabilities of the unchanged records."""
        return probability(self.logits(self.records, "records"))

    @cached_property
    def predictor(self) -> Predictor:
        """The way of the worker, on the checkpoint's device."""
        device = next(self.checkpoint.model.parameters()).device.type
        return Predictor(self.checkpoint.folder, device, precision="fp32")

    @property
    def threshold(self) -> float:
        """The decision threshold of the label."""
        return self.checkpoint.labels[self.column].threshold

    @property
    def column(self) -> int:
        """The label's place among the model's outputs."""
        return self.checkpoint.config.labels.index(LABEL)

    @property
    def shifted(self) -> slice:
        """The cases that shifts are measured on."""
        return slice(0, min(self.shift_cases, len(self.cases)))

    def random(self, *path: int) -> np.random.Generator:
        """A random stream of this bench."""
        return np.random.default_rng([self.seed, *path])

    def bar(self, items: Sequence[PatientRecord], what: str) -> Sequence[PatientRecord]:
        """The items with a progress bar."""
        bar = tqdm(items, desc=what, leave=False, disable=not self.progress)
        return cast(Sequence[PatientRecord], bar)

    def logits(self, records: Sequence[PatientRecord], what: str) -> Floats:
        """(n,) calibrated logits, forced."""
        return forced_logits(
            self.checkpoint, records, self.column, what, progress=self.progress
        )

    def serve(self, records: Sequence[PatientRecord], what: str) -> list[Prediction]:
        """What the predictor answers, refusals included."""
        return [self.predictor.predict(record) for record in self.bar(records, what)]


@torch.no_grad()
def forced_logits(
    checkpoint: LoadedCheckpoint,
    records: Sequence[PatientRecord],
    column: int,
    what: str,
    *,
    progress: bool,
) -> Floats:
    """Calibrated logits of one label by the pattern that each record has: (n,).

    Args:
        checkpoint: Its model computes on the device it is on.
        records: At least one modality that the model can read in each.
        column: The label's place among the model's outputs.
        what: Words beside the progress bar.
        progress: Show one.
    """
    model = checkpoint.model.eval()
    device = next(model.parameters()).device
    label = checkpoint.config.labels[column]
    found: list[float] = []
    starts = range(0, len(records), BATCH)
    for start in tqdm(starts, desc=what, leave=False, disable=not progress):
        batch = to_tensors(records[start : start + BATCH], checkpoint.vocabulary)
        batch = batch.to(device)
        logits = model.fuse(model.encode(batch), batch.present).logits  # (B, C)
        patterns = batch.present.tolist()
        for pattern, raw in zip(patterns, logits[:, column].double().tolist()):
            found.append(checkpoint.calibration.of(pattern, label).logit(raw))
    return np.array(found)


def probability(logits: Floats) -> Floats:
    """Probabilities of logits: (n,)."""
    chance: Floats = np.exp(-np.logaddexp(0.0, -logits))
    return chance


def refused(answers: Sequence[Prediction]) -> NDArray[np.bool_]:
    """Which answers give no estimate: (n,)."""
    return np.array([not answer.estimates for answer in answers], dtype=np.bool_)


def called(answers: Sequence[Prediction]) -> NDArray[np.bool_]:
    """Which answers estimate the label at or above its threshold: (n,)."""
    return np.array(
        [
            any(e.positive for e in answer.estimates if e.label == LABEL)
            for answer in answers
        ],
        dtype=np.bool_,
    )
