"""One row per loss switched on or off, on the same encoders, budget and cases.

Per random start, S1 is trained once and shared; S2 once, for the rows with L_con. Every
row then trains S3 and one epoch of S4 (without S4 the alignment loss could change
nothing that the fusion reads) and is scored on the same fresh synthetic cases; see
:mod:`model.training.loss_ablation_report` for what is told of them.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from model.inference.calibration import Platt
from model.inference.runtime import choose_device, configure_threads
from model.network.fusion import Tokens, TriModalModel
from model.synthetic.latents import Split
from model.training.cached_tokens import Prepared, cache_tokens
from model.training.calibrate import fit_platt, pattern_logits
from model.training.companion import Companion
from model.training.contrastive import Alignment
from model.training.explanation_guard import judge
from model.training.faithfulness import Floats, Truth, masses, truth_of
from model.training.loss_ablation_report import (
    FULL,
    PATTERNS,
    REFERENCE,
    RowScores,
    Run,
    report_of,
)
from model.training.loss_weights import LossWeights
from model.training.optimise import Schedule
from model.training.staged_run import Work, objective_of, retrieval_of, run_stages
from model.training.synthetic_set import synthetic_cases, synthetic_set
from model.training.train import build, prepare
from model.training.train_settings import TrainSettings

ROWS = (REFERENCE, "cls", "uni", "cls,uni,con", "cls,uni,exp", "cls,uni,con,exp")
PARTS = ("reason", "shown", "focus", "consistent")
#: From one random start to the next; three seeds of cases lie between them.
SEED_STEP = 10
_POOLED_CASES = 100_000


@dataclass(frozen=True, slots=True)
class Ablation:
    """Sizes of an ablation.

    ``seed`` draws cases and weights of the first of ``starts`` random starts; the next
    ones are SEED_STEP apart.
    """

    cases: int = 4_000
    held_out: int = 1_000
    tested: int = 4_000
    seed: int = 31
    starts: int = 1
    parameters: str = "P0"
    parts: bool = False
    draws: int = 1_000
    threads: int = 1
    device: str = "cpu"
    progress: bool = True

    def of_start(self, number: int) -> Ablation:
        """The one random start of that number, from 0 on."""
        return replace(self, seed=self.seed + SEED_STEP * number, starts=1)

    def digest(self, recipe: TrainSettings) -> str:
        """Of all that changes a result; names what is kept of one start."""
        said = asdict(self)
        for name in ("starts", "draws", "threads", "progress"):
            del said[name]
        said["recipe"] = recipe.to_json()
        text = json.dumps(said, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def schedules_for(ablation: Ablation) -> TrainSettings:
    """The demonstration recipe with more passes over fewer cases, and S4.

    Agreement of three modalities is found on pooled tokens, after about as many of
    them as the demonstration's recipe sees.
    """
    passes = max(25, math.ceil(_POOLED_CASES / ablation.cases))
    return TrainSettings(
        seed=ablation.seed,
        encoders=(
            Schedule(epochs=9, rate=2e-3, batch=64),
            Schedule(epochs=4, rate=1e-3, batch=128),
            Schedule(epochs=5, rate=2e-3, batch=128),
        ),
        pooled=Schedule(epochs=passes, rate=4e-3, batch=256, average=0.98),
        fusion=Schedule(epochs=3, rate=1e-3, batch=128, average=0.98),
        finetune=Schedule(epochs=1, rate=5e-4, batch=128, average=0.9),
        alignment=Schedule(epochs=12, rate=2e-3, batch=256, average=0.98),
        threads=ablation.threads,
        device=ablation.device,
        guard=False,
        progress=False,
    )


def ablate_losses(
    ablation: Ablation,
    settings: TrainSettings | None = None,
    keep: Path | None = None,
) -> dict[str, Any]:
    """Train and score every row, from every random start.

    Args:
        ablation: Sizes and seed.
        settings: Schedules; those of :func:`schedules_for` when not given. Their seed
            is replaced by that of the start.
        keep: Folder where each start's scores are kept, so that a run can go on.

    Returns:
        Plain JSON; see :func:`.loss_ablation_report.report_of`.

    Raises:
        CheckpointError: a kept file is damaged.
    """
    configure_threads(ablation.threads)
    runs = []
    for number in range(ablation.starts):
        one = ablation.of_start(number)
        recipe = replace(settings or schedules_for(one), seed=one.seed)
        path = None if keep is None else keep / f"{one.digest(recipe)}.json"
        if path is not None and path.exists():
            runs.append(Run.load(path))
            continue
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(one.seed)
            runs.append(_one_start(one, recipe))
        if path is not None:
            runs[-1].save(path)
    data = {"source": "synthetic", **asdict(ablation)}
    return report_of(data, runs, ablation.draws)


def _one_start(ablation: Ablation, settings: TrainSettings) -> Run:
    start = time.monotonic()
    base, tested, truth, tested_truth = _shared(ablation, settings)
    aligned = _aligned(base)
    names = rows_of(ablation)
    rows: dict[str, RowScores] = {}
    models: dict[str, TriModalModel] = {}
    bar = tqdm(names.items(), desc="rows", disable=not ablation.progress)
    for name, weights in bar:
        bar.set_postfix(row=name)
        rows[name], models[name] = _row(base, weights, aligned, tested, tested_truth)
    label = tested.targets[:, 0].cpu().numpy().astype(np.float64)
    decision = judge(models[REFERENCE], models["cls,uni,exp"], base.fresh, truth)
    seconds = round(time.monotonic() - start, 1)
    return Run(ablation.seed, label, rows, decision.to_json(), seconds)


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
) -> tuple[RowScores, TriModalModel]:
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
    logits = {key: _logits(model, tested, tokens, key) for key in PATTERNS}
    scores = RowScores(
        logits,
        _chances(model, base.fresh, logits[FULL]),
        masses(model, tokens, tested, truth),
        retrieval_of(model, objective.alignment, tested),
        round(time.monotonic() - start, 1),
    )
    return scores, model


def _logits(
    model: TriModalModel, data: Prepared, tokens: Tokens, coalition: str
) -> Floats:
    """Logit (n,) of the first label with one coalition in use."""
    present, pattern = data.inputs.present, PATTERNS[coalition]
    found = pattern_logits(model, tokens, present, pattern)[:, 0]
    result: Floats = found.double().cpu().numpy()
    return result


def _chances(model: TriModalModel, fresh: Prepared, logits: Floats) -> Floats:
    """Probabilities (n,) of logits (n,), by Platt on the held-out cases."""
    held_out = _logits(model, fresh, cache_tokens(model, fresh.inputs), FULL)
    answers = fresh.targets[:, 0].cpu().numpy().astype(np.float64)
    platt = fit_platt(held_out, answers, Platt(1.0, 0.0))
    return np.array([platt.probability(x) for x in logits.tolist()])
