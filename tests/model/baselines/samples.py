"""Cases, encoders and scores that the tests of the baselines share."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import torch
from torch import Tensor

from model.baselines.compare import SeedResult
from model.baselines.registry import METHODS
from model.baselines.scored import Scored
from model.baselines.settings import CompareSettings
from model.baselines.shared import COALITION_KEYS, Part, Shared
from model.inference.tensors import to_tensors
from model.inference.weights import load_checkpoint
from model.network.fusion import Tokens
from model.settings import DEMO_CHECKPOINT
from model.synthetic.latents import Split
from model.training.optimise import Schedule
from model.training.stages import Prepared, cache_tokens
from model.training.synthetic_set import synthetic_cases, synthetic_set
from model.training.train import TrainSettings

SHORT = Schedule(epochs=1, rate=2e-3, batch=32)
QUICK = TrainSettings(
    encoders=(SHORT, SHORT, SHORT),
    pooled=Schedule(epochs=2, rate=4e-3, batch=32, average=0.9),
    fusion=SHORT,
    pieces=300,
    progress=False,
)
SETTINGS = CompareSettings(
    seeds=1,
    cases=300,
    held_out=60,
    tested=1_000,
    train=QUICK,
    contrastive=Schedule(epochs=12, rate=2e-3, batch=32, average=0.9),
    head=Schedule(epochs=10, rate=4e-3, batch=64, average=0.9),
    draws=20,
)

# Tensors this small are slower on two threads, and much slower on a busy machine.
torch.set_num_threads(1)


@cache
def shared() -> Shared:
    """Fresh cases behind the encoders of the shipped demonstration checkpoint."""
    checkpoint = load_checkpoint(DEMO_CHECKPOINT)
    model, words = checkpoint.model, checkpoint.vocabulary

    def part(n: int, split: Split) -> Part:
        cases = synthetic_cases(n, 90_001, split=split)
        data = synthetic_set(cases)
        inputs = to_tensors(data.records, words)
        prepared = Prepared(inputs, *data.target_tensors(), None)
        return Part(cases, data, prepared, cache_tokens(model, inputs))

    return Shared(
        SETTINGS,
        SETTINGS.recipe(7),
        words,
        model,
        part(SETTINGS.cases, Split.TRAIN),
        part(SETTINGS.held_out, Split.VALIDATION),
        part(SETTINGS.tested, Split.TEST),
    )


def with_tokens(data: Shared, side: str, **changes: Tensor) -> Shared:
    """The same with other tokens on one side ("training", "held_out", "tested")."""
    part: Part = getattr(data, side)
    changed = replace(part, tokens=replace(part.tokens, **changes))
    return replace(data, **{side: changed})


def planted(data: Shared) -> Shared:
    """Films and notes of a few tokens that share one latent point per case."""
    random = torch.Generator().manual_seed(0)
    width, points = data.model.config.width, 4
    maps = torch.randn(2, points, width, generator=random)

    def part(side: Part) -> Part:
        n = len(side.cases)
        latent = torch.randn(n, points, generator=random)
        film, note = (
            (latent @ m).unsqueeze(1) + 0.3 * torch.randn(n, 3, width, generator=random)
            for m in maps
        )
        mask = torch.ones(n, 3, dtype=torch.bool)
        old = side.tokens
        tokens = Tokens(film, note, old.values, mask, mask, old.values_mask)
        return replace(side, tokens=tokens)

    return replace(
        data,
        training=part(data.training),
        held_out=part(data.held_out),
        tested=part(data.tested),
    )


def seed_result(seed: int, n: int = 120, noise: float = 0.0) -> SeedResult:
    """Made-up scores: the full model best, everything else weaker."""
    random = np.random.default_rng(seed)
    truth = (np.arange(n) % 2).astype(np.float64)

    def scores(strength: float) -> np.ndarray:
        return strength * (truth - 0.5) + random.normal(size=n)

    methods = {}
    for method in METHODS:
        strong = method.name in ("m_llm", "concat")
        keys = COALITION_KEYS if "+values" in method.reads else (method.reads,)
        keys = (*keys, method.zero_shot) if method.zero_shot else keys
        held, tested = (
            {k: scores(3.0 if strong and k.count("+") == 2 else 1.0) for k in keys}
            for _ in range(2)
        )
        methods[method.name] = Scored(held, tested, {"parameters": 10.0})
        if method.zero_shot:
            methods[method.name] = Scored(
                held, tested, {"parameters": 10.0, "true_pair_rank": 0.25}
            )
    chance = np.clip(0.5 + 0.4 * (truth - 0.5) + noise, 0, 1)
    return SeedResult(
        seed, truth, truth, {key: chance for key in COALITION_KEYS}, methods
    )
