"""One row per loss switched on or off, on the same encoders, budget and cases.

S1 is trained once and shared; S2 once, for the rows with L_con. Every row then trains
S3 and one epoch of S4 (without S4 the alignment loss could change nothing that the
fusion reads) and is scored on the same fresh synthetic cases: AUROC of the full input
and of the pairs, retrieval between modalities, relevance inside what was planted.
Differences are to the recipe ``cls,uni``, on the same resampled cases.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from model.evaluation.metrics import auroc, bootstrap, paired_bootstrap
from model.inference.runtime import choose_device, configure_threads
from model.network.fusion import TriModalModel
from model.network.inputs import MODALITIES
from model.synthetic.latents import Split
from model.training.cached_tokens import Prepared, cache_tokens
from model.training.calibrate import pattern_logits
from model.training.companion import Companion
from model.training.contrastive import Alignment
from model.training.explanation_guard import MOST_COST, judge
from model.training.faithfulness import Floats, Truth, masses, paired_gain, truth_of
from model.training.loss_weights import LossWeights
from model.training.optimise import Schedule
from model.training.retrieval import mean_rank
from model.training.staged_run import Work, objective_of, retrieval_of, run_stages
from model.training.synthetic_set import synthetic_cases, synthetic_set
from model.training.train import build, prepare
from model.training.train_settings import TrainSettings

REFERENCE = "cls,uni"
ROWS = (REFERENCE, "cls", "uni", "cls,uni,con", "cls,uni,exp", "cls,uni,con,exp")
PARTS = ("reason", "shown", "focus", "consistent")
PATTERNS = {
    "all": (True, True, True),
    "image+text": (True, True, False),
    "image+values": (True, False, True),
    "text+values": (False, True, True),
}


@dataclass(frozen=True, slots=True)
class Ablation:
    """Sizes of an ablation; ``seed`` draws cases and weights."""

    cases: int = 4_000
    held_out: int = 1_000
    tested: int = 4_000
    seed: int = 31
    parameters: str = "P0"
    parts: bool = False
    threads: int = 1
    device: str = "cpu"
    progress: bool = True


def schedules_for(ablation: Ablation) -> TrainSettings:
    """The demonstration recipe with more passes over fewer cases, and S4."""
    return TrainSettings(
        seed=ablation.seed,
        encoders=(
            Schedule(epochs=9, rate=2e-3, batch=64),
            Schedule(epochs=4, rate=1e-3, batch=128),
            Schedule(epochs=5, rate=2e-3, batch=128),
        ),
        pooled=Schedule(epochs=25, rate=4e-3, batch=256, average=0.98),
        fusion=Schedule(epochs=3, rate=1e-3, batch=128, average=0.98),
        finetune=Schedule(epochs=1, rate=5e-4, batch=128, average=0.9),
        alignment=Schedule(epochs=12, rate=2e-3, batch=256, average=0.98),
        threads=ablation.threads,
        device=ablation.device,
        guard=False,
        progress=False,
    )


@dataclass(frozen=True)
class Scored:
    """One trained row and what it does on the tested cases."""

    model: TriModalModel
    logits: Mapping[str, Floats]  # by coalition, (n,)
    masses: Floats  # (n, 3)
    retrieval: Mapping[str, Mapping[str, float]]
    seconds: float


def ablate_losses(
    ablation: Ablation, settings: TrainSettings | None = None
) -> dict[str, Any]:
    """Train and score every row.

    Args:
        ablation: Sizes and seed.
        settings: Schedules; those of :func:`schedules_for` when not given.

    Returns:
        Plain JSON: ``data``, ``rows``, ``guard`` (the decision on L_exp on held-out
        cases), ``statements`` (each with value, target and whether it holds).
    """
    start = time.monotonic()
    configure_threads(ablation.threads)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(ablation.seed)
        return _ablate(ablation, settings or schedules_for(ablation), start)


def _ablate(
    ablation: Ablation, settings: TrainSettings, start: float
) -> dict[str, Any]:
    base, tested, truth, tested_truth = _shared(ablation, settings)
    aligned = _aligned(base)
    names = rows_of(ablation)
    scored = {}
    bar = tqdm(names.items(), desc="rows", disable=not ablation.progress)
    for name, weights in bar:
        bar.set_postfix(row=name)
        scored[name] = _row(base, weights, aligned, tested, tested_truth)
    label = tested.targets[:, 0].cpu().numpy().astype(np.float64)
    rows = [_described(name, scored, label) for name in names]
    decision = judge(
        scored[REFERENCE].model, scored["cls,uni,exp"].model, base.fresh, truth
    )
    return {
        "data": {"source": "synthetic", **asdict(ablation)},
        "reference": REFERENCE,
        "rows": rows,
        "guard": decision.to_json(),
        "statements": _statements(rows, decision.on),
        "seconds": round(time.monotonic() - start, 1),
    }


def rows_of(ablation: Ablation) -> dict[str, LossWeights]:
    """Name and weights of each row; single parts of L_exp where asked for."""
    names = {name: LossWeights.of(name.split(",")) for name in ROWS}
    if ablation.parts:
        whole = names["cls,uni,exp"]
        for part in PARTS:
            off = {other: 0.0 for other in PARTS if other != part}
            alone = replace(whole, **off)  # type: ignore[arg-type]
            names[f"cls,uni,exp ({part} alone)"] = alone
    return names


def _shared(
    ablation: Ablation, settings: TrainSettings
) -> tuple[Work, Prepared, Truth, Truth]:
    """Cases, and encoders after S1; the truth of held-out and of tested cases."""
    device = choose_device(ablation.device)

    def draw(n: int, offset: int, split: Split) -> Any:
        seed, parameters = ablation.seed + offset, ablation.parameters
        cases = synthetic_cases(n, seed, split=split, parameters=parameters)
        return synthetic_set(cases)

    training = draw(ablation.cases, 0, Split.TRAIN)
    held_out = draw(ablation.held_out, 1, Split.VALIDATION)
    final = draw(ablation.tested, 2, Split.TEST)
    model, vocabulary = build(training, settings)
    model.to(device)
    parts = [
        prepare(part, vocabulary, model.config, device)
        for part in (training, held_out, final)
    ]
    work = Work(
        model,
        vocabulary,
        training,
        held_out,
        parts[0],
        parts[1],
        replace(settings, stages=("S1",), progress=ablation.progress),
        Companion(bfloat16=settings.precision == "auto"),
    )
    run_stages(work, objective_of(work))
    truths = (
        truth_of(parts[1], held_out.evidence, vocabulary),
        truth_of(parts[2], final.evidence, vocabulary),
    )
    return replace(work, settings=settings), parts[2], *truths


def _aligned(base: Work) -> Alignment | None:
    """S2, once for all rows with L_con."""
    settings = replace(base.settings, losses=LossWeights.of(("cls", "con")))
    work = replace(base, settings=replace(settings, stages=("S2",)))
    objective = objective_of(work)
    run_stages(work, objective)
    return objective.alignment


def _row(
    base: Work,
    weights: LossWeights,
    aligned: Alignment | None,
    tested: Prepared,
    truth: Truth,
) -> Scored:
    """Train one row from the shared start and score it."""
    start = time.monotonic()
    settings = replace(base.settings, losses=weights, stages=("S3", "S4"))
    work = replace(base, model=deepcopy(base.model), settings=settings)
    torch.manual_seed(settings.seed)  # every row draws the same dropout
    objective = objective_of(work)
    if objective.alignment is not None:
        objective = replace(objective, alignment=deepcopy(aligned))
    run_stages(work, objective)
    model = work.model.eval()
    tokens = cache_tokens(model, tested.inputs)
    logits = {
        key: pattern_logits(model, tokens, tested.inputs.present, pattern)[:, 0]
        .double()
        .cpu()
        .numpy()
        for key, pattern in PATTERNS.items()
    }
    return Scored(
        model,
        logits,
        masses(model, tokens, tested, truth),
        retrieval_of(model, objective.alignment, tested),
        round(time.monotonic() - start, 1),
    )


def _described(
    name: str, scored: Mapping[str, Scored], label: Floats
) -> dict[str, Any]:
    """One row as plain JSON, with its differences to the reference."""
    row, reference = scored[name], scored[REFERENCE]
    return {
        "losses": name,
        "auroc": {
            key: {
                **bootstrap(auroc, x, label).to_json(),
                "minus_reference": paired_bootstrap(
                    auroc, x, reference.logits[key], label
                ).to_json(),
            }
            for key, x in row.logits.items()
        },
        "retrieval": {"mean_rank": mean_rank(row.retrieval), **row.retrieval},
        "mass": {
            m: paired_gain(reference.masses[:, i], row.masses[:, i]).to_json()
            for i, m in enumerate(MODALITIES)
        },
        "seconds": row.seconds,
    }


def _statements(rows: list[dict[str, Any]], exp_on: bool) -> dict[str, Any]:
    """What is claimed of each loss, with value, target and whether it holds."""
    by_name = {row["losses"]: row for row in rows}
    ranks = {name: row["retrieval"]["mean_rank"] for name, row in by_name.items()}
    gain = ranks["cls,uni,con"] - ranks[REFERENCE]
    change = {
        name: row["auroc"]["all"]["minus_reference"]["value"]
        for name, row in by_name.items()
    }
    worst = min(
        row["rank"]
        for key, row in by_name["cls,uni,con"]["retrieval"].items()
        if key != "mean_rank"
    )

    def said(value: float, target: str, holds: bool) -> dict[str, Any]:
        return {"value": value, "target": target, "holds": holds}

    return {
        "con_improves_retrieval": said(gain, "> 0", gain > 0),
        "con_ranks_every_direction_above_chance": said(worst, "> 0.5", worst > 0.5),
        "con_auroc_cost": said(
            -change["cls,uni,con"],
            f"<= {MOST_COST}",
            -change["cls,uni,con"] <= MOST_COST,
        ),
        "exp_auroc_cost": said(
            -change["cls,uni,exp"],
            f"<= {MOST_COST}",
            -change["cls,uni,exp"] <= MOST_COST,
        ),
        "exp_pays": said(float(exp_on), "guard says on", exp_on),
        "cls_is_needed": said(-change["uni"], "> 0.005", -change["uni"] > MOST_COST),
    }
