"""Do maps change when what was learnt is taken away? The model randomisation test.

The fusion module, which the maps are explanations of, is replaced by random numbers
and every map drawn again; its rank correlation with the first one should vanish. An
explanation that survives explains the input, not the model (Adebayo et al., 2018).

One random module is one direction in the space of tokens, the same for all films, so
the mean over films hangs on that direction and is as often positive as negative.
Sampling is the remedy that the test's critics give for its noise (Hedstroem et al.,
2024, who sample inputs; here it is the random module that is drawn). The target is
held against the mean *size* of the single modules' correlations: opposite signs do not
cancel, so the figure is the expected outcome of the test with one module, and never
below what averaging with signs would give.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from tqdm import tqdm

from model.explain.asked import Asked
from model.explain.attribution import (
    image_path_gradient,
    says_something,
    text_path_gradient,
    word_scores,
)
from model.explain.grad_cam import relevance_map
from model.explain.phrases import note_words, phrase_scores
from model.explain.report_rows import Figure, Rows, at_most, figure, interval_of
from model.explain.scoring import Floats, mean_of, rank_correlation
from model.network.fusion import TriModalModel
from model.training.stages import fusion_parameters

MODULES = 12
PHRASE_CASES = 12  # a phrase needs each of its words left out: some hundred rows
BAR = 0.2

Draw = Callable[[Asked], list[float]]


def sanity_rows(
    cases: Sequence[Asked],
    seed: int,
    *,
    modules: int = MODULES,
    progress: bool = False,
) -> dict[str, Figure]:
    """Rank correlation of maps with those of randomised fusion modules.

    Args:
        cases: Of one model.
        seed: Of the random modules.
        modules: How many are drawn.
        progress: Show a bar.
    """
    measured: dict[str, tuple[Draw, Sequence[Asked]]] = {
        "film": (film_map, cases),
        "words": (word_map, cases),
        "phrases": (phrase_map, cases[:PHRASE_CASES]),
    }
    real = {name: [draw(one) for one in of] for name, (draw, of) in measured.items()}
    found: dict[str, list[float]] = {name: [] for name in measured}
    generator = torch.Generator().manual_seed(seed)
    for _ in tqdm(range(modules), "randomise", disable=not progress):
        blind = randomised(cases[0].question.model, generator)
        for name, (draw, of) in measured.items():
            pairs = zip(real[name], (draw(_with_model(one, blind)) for one in of))
            found[name].append(mean_of([rank_correlation(a, b) for a, b in pairs]))
    rows = {}
    for name, values in found.items():
        size = np.abs(values)
        rows[f"sanity_{name}"] = figure(
            float(size.mean()),
            at_most(BAR),
            interval=interval_of(modules, partial(_mean_at, size), seed),
            n=modules,
        )
        rows[f"sanity_{name}_with_sign"] = figure(mean_of(values), n=modules)
        rows[f"sanity_{name}_largest"] = figure(float(size.max()), n=modules)
    return rows


def _mean_at(values: Floats, rows: Rows) -> float:
    return float(values[rows].mean())


def randomised(model: TriModalModel, generator: torch.Generator) -> TriModalModel:
    """A copy whose fusion module holds random numbers as wide as its own."""
    blind = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in fusion_parameters(blind):
            spread = float(parameter.std()) if parameter.numel() > 1 else 0.1
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(noise * max(spread, 1e-3))
    return blind


def _with_model(asked: Asked, model: TriModalModel) -> Asked:
    return replace(asked, question=replace(asked.question, model=model))


def film_map(asked: Asked) -> list[float]:
    """The map of all patches of a case."""
    tokens = asked.question.tokens
    gradient = image_path_gradient(asked.question)
    heat = relevance_map(tokens.image, gradient, tokens.image_mask)
    found: list[float] = heat[0].tolist()
    return found


def word_map(asked: Asked) -> list[float]:
    """The published score of each word that says something, 0 where it has none."""
    question, text = asked.question, _texts(asked)
    scores = {
        (s.reference, s.start): s.score
        for s in word_scores(question, text_path_gradient(question), text)
    }
    inputs = question.inputs
    columns = zip(
        (question.tokens.text_mask[0] & (inputs.word[0] >= 0)).tolist(),
        inputs.note[0].tolist(),
        inputs.word_start[0].tolist(),
        inputs.word_end[0].tolist(),
    )
    words = {
        (inputs.note_ids[0][note], start)
        for kept, note, start, end in columns
        if kept and says_something(text[note][start:end])
    }
    return [scores.get(word, 0.0) for word in sorted(words)]


def phrase_map(asked: Asked) -> list[float]:
    """The weight of each phrase that says something."""
    question = asked.question
    words = note_words(question, text_path_gradient(question), _texts(asked))
    return [p.weight for p in phrase_scores(words, question.inputs.note_ids[0])]


def _texts(asked: Asked) -> list[str]:
    return [note.text for note in asked.record.notes]
