"""The demonstration checkpoint, a few explained cases, and one report of it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from model.explain.asked import Asked
from model.explain.measures import explanation_report
from model.inference.abstention import AbstentionPolicy
from model.inference.predictor import Predictor
from model.inference.weights import LoadedCheckpoint, load_checkpoint
from model.settings import DEMO_CHECKPOINT
from model.synthetic.case import SynthCase
from model.synthetic.emit import to_record
from model.synthetic.latents import Severity, Split
from model.training.synthetic_set import synthetic_cases
from tests.model.checkpoint_samples import cases, write_checkpoint

SEED = 6151
REPORT_SEED = 6203


@pytest.fixture(scope="session")
def demo() -> LoadedCheckpoint:
    """The checkpoint that is shipped."""
    torch.set_num_threads(1)
    return load_checkpoint(DEMO_CHECKPOINT)


@pytest.fixture(scope="session")
def predictor(demo: LoadedCheckpoint) -> Predictor:
    """It, at work; evidence may be old."""
    return Predictor.of(demo, AbstentionPolicy(max_age_days=0))


@pytest.fixture(scope="session")
def drawn(demo: LoadedCheckpoint) -> list[SynthCase]:
    """Forty cases that nothing was chosen on."""
    size = demo.config.image.size
    return list(synthetic_cases(40, SEED, split=Split.TEST, image_size=size))


@pytest.fixture(scope="session")
def ill(drawn: list[SynthCase], predictor: Predictor) -> tuple[SynthCase, Asked]:
    """A case that all three modalities show clearly, called positive."""
    for case in drawn:
        clear = all(s == Severity.HIGH for s in case.latents.seen_severity)
        if clear and case.label:
            asked = predictor.ask(to_record(case))
            if asked.estimate.probability > 0.5:
                return case, asked
    raise AssertionError("no clear case among those drawn")


@pytest.fixture(scope="session")
def plain(drawn: list[SynthCase], predictor: Predictor) -> tuple[SynthCase, Asked]:
    """A case in which no modality shows anything."""
    for case in drawn:
        if all(s == Severity.LOW for s in case.latents.seen_severity):
            if not case.label and not predictor.predict(to_record(case)).abstentions:
                return case, predictor.ask(to_record(case))
    raise AssertionError("no plain case among those drawn")


@pytest.fixture(scope="session")
def report(demo: LoadedCheckpoint) -> dict[str, Any]:
    """The whole report on few cases: 16 with the label, 10 without."""
    size = demo.config.image.size
    drawn = synthetic_cases(60, REPORT_SEED, split=Split.TEST, image_size=size)
    chosen = [case for case in drawn if case.label][:16]
    chosen += [case for case in drawn if not case.label][:10]
    return explanation_report(
        demo, chosen, seed=REPORT_SEED, progress=False, calibration_cases=20, modules=1
    )


@pytest.fixture(scope="session")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> LoadedCheckpoint:
    """A checkpoint of two labels that has learnt nothing."""
    folder = tmp_path_factory.mktemp("untrained") / "model"
    return load_checkpoint(write_checkpoint(folder, cases(12)))
