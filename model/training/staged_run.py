"""The stages of one run in their order, and what each of them measured.

S1 encoders (self-supervised first where asked), S2 alignment, S3 fusion on cached
tokens, S4 everything a little. With the explainability loss S3 and S4 run twice from
the same start, and the guard decides which result is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

from model.inference.vocabulary import InputVocabulary
from model.network.fusion import TriModalModel
from model.network.inputs import MODALITIES
from model.training.cached_tokens import Prepared, cache_tokens
from model.training.companion import Companion
from model.training.contrastive import Alignment
from model.training.explanation_guard import judge, keep_better
from model.training.faithfulness import truth_of
from model.training.objective import Objective, positive_weights
from model.training.retrieval import embedded, retrieval_report
from model.training.self_supervised import linear_probe, pretrain_encoder
from model.training.stages import (
    ENCODER_SHARE,
    probe,
    train_alignment,
    train_encoder,
    train_everything,
    train_fusion,
)
from model.training.train_settings import TrainSettings
from model.training.training_set import TrainingSet
from model.training.twins import make_twins


@dataclass(frozen=True)
class Work:
    """What the stages work on: both sets as records and as tensors, and the model."""

    model: TriModalModel
    vocabulary: InputVocabulary
    training: TrainingSet
    held_out: TrainingSet
    data: Prepared
    fresh: Prepared
    settings: TrainSettings
    companion: Companion


def objective_of(work: Work) -> Objective:
    """The losses of a run; projection heads and twins only where a loss needs them.

    The heads are drawn here, so a run without them draws the same random numbers as
    one from before they existed.
    """
    weights, device = work.settings.losses, work.data.targets.device
    positive = None
    if weights.balanced:
        positive = positive_weights(work.data.targets, work.data.known)
    alignment = twins = None
    if weights.contrastive:
        alignment = Alignment(work.model.config.width).to(device)
    if weights.explanation and weights.consistent:
        twins = make_twins(work.model, work.data.inputs, work.vocabulary)
    return Objective(weights, positive, alignment, twins)


def run_stages(work: Work, objective: Objective) -> dict[str, Any]:
    """Run what the settings ask for.

    Args:
        work: Its model is trained in place.
        objective: From :func:`objective_of`; its projection heads are trained in place.

    Returns:
        Losses and held-out figures of every stage.
    """
    figures: dict[str, Any] = {}
    if "S1" in work.settings.stages:
        figures["encoders"] = _encoders(work)
    if "S2" in work.settings.stages and objective.alignment is not None:
        figures["alignment"] = _alignment(work, objective)
    if objective.weights.explanation and work.settings.guard:
        return {**figures, **_guarded(work, objective)}
    return {**figures, **_fused(work, objective)}


def _encoders(work: Work) -> dict[str, Any]:
    """S1, one modality after the other."""
    figures: dict[str, Any] = {}
    settings = work.settings
    for m, name in enumerate(MODALITIES):
        own = _self_supervised(work, m)
        losses, heads = train_encoder(
            work.model,
            m,
            work.data,
            work.training.questions(name),
            settings.encoders[m],
            seed=settings.seed,
            progress=settings.progress,
            companion=work.companion,
        )
        questions = work.held_out.questions(name)
        heads.ask(questions)
        scores = probe(work.model, m, work.fresh, heads)
        figures[name] = {
            "loss": losses,
            "held_out_accuracy": dict(zip((q.name for q in questions), scores)),
            **own,
        }
    return figures


def _self_supervised(work: Work, m: int) -> dict[str, Any]:
    """Self-supervised S1, and what a linear probe reads before and after."""
    schedules, name = work.settings.self_supervised, MODALITIES[m]
    if schedules is None:
        return {}
    before = _probed(work, m)
    losses = pretrain_encoder(
        work.model,
        m,
        work.data,
        schedules[m],
        seed=work.settings.seed,
        progress=work.settings.progress,
        watch=work.companion.watch(),
    )
    after = _probed(work, m)
    names = [question.name for question in work.held_out.questions(name)]
    return {
        "self_supervised": {
            "loss": losses,
            "probe_of_random_weights": dict(zip(names, before)),
            "probe": dict(zip(names, after)),
        }
    }


def _probed(work: Work, m: int) -> list[float]:
    sides = (work.data.inputs, work.fresh.inputs)
    if not all(bool(side.present[:, m].any()) for side in sides):
        return []
    name = MODALITIES[m]
    questions = (work.training.questions(name), work.held_out.questions(name))
    return linear_probe(work.model, m, sides, questions)


def _alignment(work: Work, objective: Objective) -> dict[str, Any]:
    """S2, and how well held-out modalities find each other before and after."""
    settings = work.settings
    before = retrieval_of(work.model, None, work.fresh)
    losses = train_alignment(
        work.model,
        objective,
        work.data,
        settings.alignment,
        seed=settings.seed,
        progress=settings.progress,
        companion=work.companion,
    )
    after = retrieval_of(work.model, objective.alignment, work.fresh)
    return {"loss": losses, "retrieval_of_pooled_states": before, "retrieval": after}


def retrieval_of(
    model: TriModalModel, alignment: Alignment | None, fresh: Prepared
) -> dict[str, dict[str, float]]:
    """Ranks among held-out records; without an alignment those of the pooled states."""
    tokens = cache_tokens(model, fresh.inputs)
    points, there = embedded(model, alignment, tokens, fresh.inputs.present)
    return retrieval_report(points, there, fresh.patients())


def _fused(work: Work, objective: Objective) -> dict[str, Any]:
    """S3 and, where asked for, S4."""
    figures: dict[str, Any] = {}
    settings, model = work.settings, work.model
    if "S3" in settings.stages:
        figures["fusion"] = train_fusion(
            model,
            work.data,
            (settings.pooled, settings.fusion),
            dropout=settings.dropout,
            seed=settings.seed,
            progress=settings.progress,
            objective=objective,
            companion=work.companion,
        )
    if "S4" in settings.stages and settings.finetune is not None:
        figures["finetune"] = train_everything(
            "S4 all",
            model,
            work.data,
            settings.finetune,
            dropout=settings.dropout,
            seed=settings.seed,
            progress=settings.progress,
            encoder_share=ENCODER_SHARE,
            objective=objective,
            companion=work.companion,
        )
    return figures


def _guarded(work: Work, objective: Objective) -> dict[str, Any]:
    """S3 and S4 without and with the explainability loss; the guard keeps one."""
    other = replace(
        work,
        model=deepcopy(work.model),
        companion=replace(work.companion, suffix=" without exp"),
    )
    plain = replace(
        objective,
        weights=replace(objective.weights, explanation=0.0),
        alignment=deepcopy(objective.alignment),
    )
    without = _fused(other, plain)
    with_loss = _fused(work, objective)
    truth = truth_of(work.fresh, work.held_out.evidence, work.vocabulary)
    decision = judge(other.model, work.model, work.fresh, truth)
    keep_better(other.model, work.model, decision)
    if not decision.on and objective.alignment and plain.alignment:
        objective.alignment.load_state_dict(plain.alignment.state_dict())
    kept: Mapping[str, Any] = with_loss if decision.on else without
    return {**kept, "explanation_guard": decision.to_json()}
