"""Fusions on shared encoders: what each can and cannot find."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from model.baselines.fusions import fused
from model.baselines.shared import COALITION_KEYS, FULL, pattern_of
from model.evaluation.resampling import paired_bootstrap
from model.evaluation.scores import auroc
from model.training.calibrate import pattern_logits
from tests.model.baselines.samples import shared, with_tokens


def test_all_coalitions_are_scored_and_absent_modalities_are_never_read() -> None:
    first = fused(shared(), "late")
    assert tuple(first.tested) == COALITION_KEYS
    assert all(len(x) == len(shared().tested.cases) for x in first.tested.values())
    blind = with_tokens(
        shared(), "tested", image=torch.full_like(shared().tested.tokens.image, 9.0)
    )
    again = fused(blind, "late")
    for key in COALITION_KEYS:
        same = np.array_equal(first.tested[key], again.tested[key])
        assert same == ("image" not in key.split("+")), key


def test_concat_is_as_large_as_the_cross_attention_fusion() -> None:
    def size(fusion: str) -> int:
        network = shared().network(fusion)
        names = ("_encoder.", "pools.")
        return sum(
            p.numel()
            for name, p in network.named_parameters()
            if not any(part in name for part in names)
        )

    assert abs(size("concat") / size("catm") - 1) < 0.01
    assert size("late") < size("catm") / 100


@pytest.mark.component("A26a")
@pytest.mark.component("A26b")
@pytest.mark.component("A26c")
def test_each_ablation_comes_within_its_ceiling_on_the_same_cases() -> None:
    part = shared().tested
    for key in ("image+values", "text+values", "image+text", FULL):
        logits = pattern_logits(
            shared().model, part.tokens, part.prepared.inputs.present, pattern_of(key)
        )
        reached = auroc(logits[:, 0].double().numpy(), part.truth)
        assert reached >= auroc(part.posteriors[key], part.truth) - 0.015, key


@cache
def full_logits() -> NDArray[np.float64]:
    """The shipped cross-attention fusion on the tested cases, everything present."""
    part = shared().tested
    present = part.prepared.inputs.present
    logits = pattern_logits(shared().model, part.tokens, present, (True, True, True))
    found: NDArray[np.float64] = logits[:, 0].double().numpy()
    return found


@pytest.mark.component("A7")
def test_cross_attention_comes_within_its_ceiling_with_everything_present() -> None:
    part = shared().tested
    reached = auroc(full_logits(), part.truth)
    assert reached >= auroc(part.posteriors[FULL], part.truth) - 0.015


@pytest.mark.component("A7")
def test_cross_attention_beats_late_fusion_of_the_same_encoders() -> None:
    """Both kinds: the mean of the shipped heads, and heads trained for it."""
    part = shared().tested
    with torch.no_grad():
        output = shared().model.fuse(part.tokens, part.prepared.inputs.present)
    heads = output.unimodal[:, :, 0].mean(1).double().numpy()
    trained = fused(shared(), "late").tested[FULL]
    for late in (heads, trained):
        gap = paired_bootstrap(auroc, full_logits(), late, part.truth, draws=400)
        assert gap.low > 0 and gap.p < 0.01, gap


@pytest.mark.component("A7")
@torch.no_grad()
def test_cross_attention_beats_a_linear_reading_of_the_joined_states() -> None:
    """What each modality says, side by side, cannot tell whether the three agree."""
    part = shared().tested
    pools = zip(shared().model.pools, part.tokens.content(), part.tokens.masks())
    joined = torch.cat([pool(x, mask) for pool, x, mask in pools], 1).double().numpy()
    linear = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500))
    chance = cross_val_predict(
        linear, joined, part.truth, cv=5, method="predict_proba"
    )[:, 1]
    assert auroc(chance, part.truth) > 0.82, "a fair opponent"
    gap = paired_bootstrap(auroc, full_logits(), chance, part.truth, draws=400)
    assert gap.low > 0 and gap.p < 0.01, gap


@pytest.mark.component("A7")
def test_the_committed_comparison_holds_both_bars(repository: Path) -> None:
    """Three seeds, 10,000 tested cases; written by ``trivium-model compare``."""
    page = (repository / "docs/comparison.md").read_text()
    checks = {
        cells[1].strip(): (float(cells[2]), cells[4].strip())
        for cells in (line.split("|") for line in page.splitlines())
        if len(cells) == 6 and cells[4].strip() in ("holds", "DOES NOT HOLD")
    }
    late = "full against late fusion, largest paired p of the seeds"
    assert checks[late][0] < 0.01 and checks[late][1] == "holds"
    assert checks["full minus concat MLP, AUROC"][0] >= -0.005
    assert checks["ceiling minus AUROC, image+text+values"][0] <= 0.015
    pairs = [line for line in page.splitlines() if line.startswith("| Concat MLP | ")]
    assert sum(" to " in line for line in pairs) == 3, "one paired interval a seed"


@pytest.mark.parametrize(
    ("name", "accuracy", "area"),
    [
        pytest.param("without text", 0.825, 0.857, marks=pytest.mark.component("A26a")),
        pytest.param(
            "without images", 0.832, 0.863, marks=pytest.mark.component("A26b")
        ),
        pytest.param(
            "without structured record",
            0.819,
            0.849,
            marks=pytest.mark.component("A26c"),
        ),
    ],
)
def test_the_committed_ablation_stands_beside_paper_and_ceiling(
    repository: Path, name: str, accuracy: float, area: float
) -> None:
    """Three seeds, 10,000 tested cases; written by ``trivium-model compare``."""
    page = (repository / "docs/comparison.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page]
    (head,) = (row for row in rows if "ceiling AUROC" in row)
    (found,) = (row for row in rows if len(row) == len(head) and row[1] == name)
    cells = dict(zip(head, found))
    assert float(cells["paper accuracy"]) == accuracy
    assert float(cells["paper AUROC"]) == area
    ceiling = float(cells["ceiling AUROC"])
    reached = float(cells["AUROC"].split()[0])
    assert abs(reached - (ceiling + float(cells["AUROC minus ceiling"]))) < 6e-4
    assert reached >= ceiling - 0.015 and abs(reached - area) <= 0.015
