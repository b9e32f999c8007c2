"""What the encoders still know of what they were first taught.

The first stage teaches each encoder severity and pattern as its own modality shows
them. A linear read-out on the mean token of the final encoders must keep 95 % of the
accuracy that the first stage wrote down: training that comes later must not erase it.
"""

from __future__ import annotations

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

from model.evaluation.bench import Bench
from model.evaluation.rows import Row, at_least, not_measured
from model.evaluation.scores import Floats
from model.inference.calibration import mean_token
from model.inference.tensors import to_tensors
from model.network.inputs import MODALITIES
from model.training.stages import cache_tokens

KEPT = 0.95
TASKS = ("severity", "pattern")


def kept_rows(bench: Bench) -> list[Row]:
    """Read-out accuracy over first-stage accuracy, for each encoder and task."""
    first = bench.checkpoint.training.get("figures", {}).get("encoders", {})
    features = _features(bench)
    rows = []
    for m, name in enumerate(MODALITIES):
        taught = first.get(name, {}).get("held_out_accuracy", {})
        for task in TASKS:
            title = f"first-stage skill kept: {task} in the {name} encoder"
            if task not in taught:
                rows.append(
                    not_measured(
                        title, f"\u2265 {KEPT:g}", "no first-stage figure on record"
                    )
                )
                continue
            found = _read_out(bench, features[m], m, task)
            rows.append(
                at_least(
                    title,
                    found / taught[task],
                    KEPT,
                    n=len(features[m]) // 2,
                    note=f"linear read-out {found:.3f}, first stage {taught[task]:.3f}",
                )
            )
    return rows


@torch.no_grad()
def _features(bench: Bench) -> list[Floats]:
    """Mean and largest token of each modality: 3 x (n, 2 D)."""
    model = bench.checkpoint.model
    inputs = to_tensors(bench.records[bench.shifted], bench.checkpoint.vocabulary)
    tokens = cache_tokens(model, inputs.to(next(model.parameters()).device))
    found = []
    for x, mask in zip(tokens.content(), tokens.masks()):
        low = torch.finfo(x.dtype).min
        top = x.masked_fill(~mask.unsqueeze(-1), low).amax(1)  # (n, D)
        both = torch.cat([mean_token(x, mask), top], 1)  # (n, 2 D)
        found.append(both.double().cpu().numpy())
    return found


def _read_out(bench: Bench, features: Floats, m: int, task: str) -> float:
    """Accuracy on the second half of a logistic regression fitted on the first."""
    shown = [
        (
            case.latents.seen_severity
            if task == "severity"
            else case.latents.seen_pattern
        )
        for case in bench.cases[bench.shifted]
    ]
    states = np.array(shown)[:, m]
    half = len(states) // 2
    centre, spread = features[:half].mean(0), features[:half].std(0) + 1e-6
    scaled = (features - centre) / spread
    fitted = LogisticRegression(max_iter=2_000).fit(scaled[:half], states[:half])
    return float((fitted.predict(scaled[half:]) == states[half:]).mean())
