"""One small bench of the demonstration checkpoint, and one small report from it."""

from __future__ import annotations

from typing import Any

import pytest

from model.evaluation import note_probes, report
from model.evaluation.bench import Bench
from model.inference.weights import LoadedCheckpoint, load_checkpoint
from model.settings import DEMO_CHECKPOINT
from model.synthetic.latents import Split
from model.training.synthetic_set import synthetic_cases

SEED = 61
SMALL = report.Sizes(cases=100, shifted=30, served=3, explained=3, draws=20)


@pytest.fixture(scope="session")
def demo() -> LoadedCheckpoint:
    """The demonstration checkpoint, loaded once."""
    return load_checkpoint(DEMO_CHECKPOINT)


@pytest.fixture(scope="session")
def bench(demo: LoadedCheckpoint) -> Bench:
    """Four hundred cases that the checkpoint has not seen."""
    cases = synthetic_cases(400, SEED, split=Split.TEST)
    return Bench(
        demo, cases, SEED, shift_cases=400, served_cases=12, draws=60, progress=False
    )


@pytest.fixture(scope="session")
def small_report(demo: LoadedCheckpoint) -> dict[str, Any]:
    """A whole report on few cases."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(note_probes, "_EXPLAINED", 1)
        return report.full_report(
            demo, SMALL, seed=SEED, command="trivium-model evaluate", progress=False
        )
