"""Alignment, self-supervision and the guard of the explainability loss."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from fhir_adapters.patient_record import Modality
from model.evaluation.scores import auroc
from model.inference.weights import LoadedCheckpoint, load_checkpoint
from model.network.inputs import IMAGE, MODALITIES, TEXT, VALUES
from model.settings import DEMO_CHECKPOINT
from model.synthetic.latents import Split
from model.training.cached_tokens import Prepared
from model.training.calibrate import pattern_logits
from model.training.companion import Companion
from model.training.contrastive import Alignment
from model.training.explanation_guard import LabelCost, decide, keep_better, label_costs
from model.training.faithfulness import (
    Gain,
    evidence_masks,
    kinds,
    masses,
    paired_gain,
    truth_of,
)
from model.training.finding_heads import lesion_patches
from model.training.loss_weights import LossWeights
from model.training.objective import Objective
from model.training.optimise import Schedule
from model.training.retrieval import embedded, mean_rank, ranks, retrieval_report
from model.training.self_supervised import (
    MASK,
    hide_patches,
    hide_values,
    hide_words,
    linear_probe,
    pretrain_encoder,
)
from model.training.staged_run import retrieval_of
from model.training.stages import (
    ENCODER_SHARE,
    cache_tokens,
    train_alignment,
    train_everything,
)
from model.training.synthetic_set import synthetic_cases, synthetic_set
from model.training.train import TrainSettings, build, prepare, train
from model.training.training_set import Finding, TrainingSet
from tests.model.network_samples import batch, network, records, vocabulary, without

SHORT = Schedule(epochs=1, rate=2e-3, batch=32)
QUICK = TrainSettings(
    seed=3,
    encoders=(SHORT, SHORT, SHORT),
    pooled=SHORT,
    fusion=SHORT,
    alignment=SHORT,
    progress=False,
)


def _set(n: int, seed: int = 3, split: Split = Split.TRAIN) -> TrainingSet:
    return synthetic_set(synthetic_cases(n, seed, split=split))


@pytest.mark.component("A15")
def test_hidden_parts_are_gone_and_the_rest_is_as_it_was() -> None:
    inputs = batch(records()[:4])
    random = torch.Generator().manual_seed(0)
    film, places = hide_patches(inputs, random, (8, 8))
    assert places.shape == (4, 64) and 0.3 < float(places.float().mean()) < 0.7
    over = places.view(4, 8, 8).repeat_interleave(8, 1).repeat_interleave(8, 2)
    assert (film.pixels[:, 0, 0][over] == 0).all()
    assert torch.equal(film.pixels[:, 0, 0][~over], inputs.pixels[:, 0, 0][~over])
    note, words = hide_words(inputs, random)
    assert not (words & (inputs.word < 0)).any(), "special pieces stay"
    assert (note.input_ids[words] == MASK).float().mean() > 0.6
    assert torch.equal(note.input_ids[~words], inputs.input_ids[~words])
    chart, items = hide_values(inputs, random)
    assert (chart.value[items] == 0).all() and (chart.flag[items] == 0).all()
    assert torch.equal(chart.value[~items], inputs.value[~items])
    assert not (items & ~inputs.obs_mask).any()


@pytest.mark.component("A15")
@pytest.mark.parametrize("m", [IMAGE, TEXT, VALUES])
def test_every_objective_runs_and_touches_one_encoder(m: int) -> None:
    inputs = batch(records())
    data = Prepared(inputs, torch.zeros(24, 1), torch.ones(24, 1).bool(), None)
    model = network()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    schedule = Schedule(epochs=3, rate=2e-3, batch=12)
    losses = pretrain_encoder(model, m, data, schedule, seed=0, progress=False)
    assert losses[-1] < losses[0]
    changed = {
        k for k, v in model.state_dict().items() if not torch.equal(v, before[k])
    }
    own = ("image_encoder.", "text_encoder.", "values_encoder.")[m]
    assert changed and all(name.startswith(own) for name in changed)


def test_self_supervision_without_the_modality_is_survived() -> None:
    gone = [without(record, Modality.IMAGE) for record in records()[:4]]
    data = Prepared(batch(gone), torch.zeros(4, 1), torch.ones(4, 1).bool(), None)
    assert pretrain_encoder(network(), 0, data, SHORT, seed=0, progress=False) == []


@pytest.mark.component("A15")
@pytest.mark.parametrize(
    ("m", "cases", "schedule", "few", "better"),
    [
        (TEXT, 300, Schedule(epochs=8, rate=2e-3, batch=32), 40, 0.03),
        (VALUES, 400, Schedule(epochs=40, rate=3e-3, batch=32), 16, 0.05),
    ],
)
def test_a_probe_after_pretraining_beats_random_weights(
    m: int, cases: int, schedule: Schedule, few: int, better: float
) -> None:
    """Masked words or values of many records, then a ridge classifier on few.

    The mean over four draws of the few: one draw of 16 answers says little.
    """
    name = MODALITIES[m]
    ours, theirs = _set(cases), _set(150, 4)
    torch.manual_seed(0)
    model, words = build(ours, QUICK)
    cpu = torch.device("cpu")
    data = prepare(ours, words, model.config, cpu)
    fresh = prepare(theirs, words, model.config, cpu)
    asked = theirs.questions(name)

    def probed() -> float:
        shares = []
        for draw in range(4):
            rows = np.arange(draw * few, (draw + 1) * few)
            sides = (data.inputs.select(torch.from_numpy(rows)), fresh.inputs)
            questions = (ours.subset(rows).questions(name), asked)
            shares.append(linear_probe(model, m, sides, questions))
        return float(np.mean(shares))

    random = probed()
    pretrain_encoder(model, m, data, schedule, seed=0, progress=False)
    assert probed() > random + better


def test_a_probe_without_answers_is_not_a_number() -> None:
    ours = _set(20)
    model, words = build(ours, QUICK)
    inputs = prepare(ours, words, model.config, torch.device("cpu")).inputs
    unknown = (Finding("severity", 3, np.full(20, -1, dtype=np.int64)),)
    questions = (ours.questions("text")[:1], unknown)
    (nothing,) = linear_probe(model, TEXT, (inputs, inputs), questions)
    assert np.isnan(nothing)


def test_ranks_by_hand() -> None:
    axis = torch.eye(3)
    points = torch.stack([axis, axis, axis.roll(1, 0)], dim=1)  # (3, 3, 3)
    there, patient = torch.ones(3, 3).bool(), torch.arange(3)
    assert ranks(points, there, patient, (0,), 1).tolist() == [1.0, 1.0, 1.0]
    # values of row i are another axis: the own one ties with one, loses to one
    assert ranks(points, there, patient, (0,), 2).tolist() == [0.25, 0.25, 0.25]
    there[0, 1] = False
    assert len(ranks(points, there, patient, (0, 2), 1)) == 2
    assert len(ranks(points, torch.zeros(3, 3).bool(), patient, (0,), 1)) == 0
    nobody = retrieval_report(points, torch.zeros(3, 3).bool(), patient)
    assert nobody == {} and np.isnan(mean_rank(nobody))


@dataclass(frozen=True)
class Aligned:
    """The shipped encoders before and after S2 on 300 cases, and 400 held-out ones."""

    checkpoint: LoadedCheckpoint
    data: Prepared
    fresh: Prepared
    objective: Objective
    losses: list[float]
    rank_before: float


@pytest.fixture(scope="module")
def aligned() -> Aligned:
    checkpoint = load_checkpoint(DEMO_CHECKPOINT)
    model, words, cpu = checkpoint.model, checkpoint.vocabulary, torch.device("cpu")
    data = prepare(_set(300), words, checkpoint.config, cpu)
    fresh = prepare(_set(400, 4), words, checkpoint.config, cpu)
    torch.manual_seed(0)
    objective = Objective(LossWeights.of(["cls", "con"]), alignment=Alignment(64))
    before = mean_rank(retrieval_of(model, None, fresh))
    frozen = {k: v.clone() for k, v in model.state_dict().items()}
    losses = train_alignment(
        model,
        objective,
        data,
        Schedule(epochs=8, rate=3e-3, batch=75),
        seed=0,
        progress=False,
        companion=Companion(fresh=fresh),
    )
    assert all(torch.equal(v, frozen[k]) for k, v in model.state_dict().items())
    return Aligned(checkpoint, data, fresh, objective, losses, before)


@pytest.mark.component("A8")
@pytest.mark.component("A11b")
def test_a_patients_own_modality_ranks_above_others_after_alignment(
    aligned: Aligned,
) -> None:
    """Held-out cases, frozen encoders; any pair, and any two to the third."""
    assert aligned.losses[-1] < aligned.losses[0]
    model = aligned.checkpoint.model
    report = retrieval_of(model, aligned.objective.alignment, aligned.fresh)
    assert len(report) == 9
    assert min(row["rank"] for row in report.values()) > 0.65
    assert mean_rank(report) > aligned.rank_before + 0.1
    nothing = train_alignment(
        model, Objective(), aligned.data, SHORT, seed=0, progress=False
    )
    assert nothing == []


@pytest.mark.component("A8")
@pytest.mark.parametrize("absent", [IMAGE, TEXT, VALUES])
def test_retrieval_works_with_any_pair_of_modalities(
    aligned: Aligned, absent: int
) -> None:
    """The third is not there: two directions are left, both far above chance."""
    alignment = aligned.objective.alignment
    assert alignment is not None
    present = aligned.fresh.inputs.present.clone()
    present[:, absent] = False
    tokens = cache_tokens(aligned.checkpoint.model, aligned.fresh.inputs)
    points, there = embedded(aligned.checkpoint.model, alignment, tokens, present)
    assert there.tolist() == present.tolist()
    report = retrieval_report(points, there, aligned.fresh.patients())
    left = [m for m in range(3) if m != absent]
    names = [MODALITIES[m] for m in left]
    assert set(report) == {"->".join(names), "->".join(reversed(names))}
    for row in report.values():
        assert row["n"] == 400 and row["rank"] - 5 * row["standard_error"] > 0.5


@pytest.mark.component("A11b")
def test_alignment_can_be_switched_off_and_costs_no_auroc(aligned: Aligned) -> None:
    """One pass of S4 over the same cases without and with it."""
    reached, ranks_found = [], []
    for switched_on in (False, True):
        model = deepcopy(aligned.checkpoint.model)
        objective = Objective()
        if switched_on:
            alignment = deepcopy(aligned.objective.alignment)
            objective = replace(aligned.objective, alignment=alignment)
        torch.manual_seed(0)
        train_everything(
            "S4 all",
            model,
            aligned.data,
            Schedule(epochs=1, rate=5e-4, batch=75, average=0.9),
            dropout=0.3,
            seed=0,
            progress=False,
            encoder_share=ENCODER_SHARE,
            objective=objective,
        )
        tokens = cache_tokens(model, aligned.fresh.inputs)
        present = aligned.fresh.inputs.present
        logits = pattern_logits(model, tokens, present, (True, True, True))
        truth = aligned.fresh.targets[:, 0].numpy()
        reached.append(auroc(logits[:, 0].double().numpy(), truth.astype(float)))
        found = retrieval_of(model, objective.alignment, aligned.fresh)
        ranks_found.append(mean_rank(found))
    assert reached[0] - reached[1] <= 0.005
    assert ranks_found[1] > ranks_found[0] + 0.1


def _gain(difference: float, half: float, n: int = 100) -> Gain:
    low, high = difference - half, difference + half
    return Gain(0.5, 0.5 + difference, difference, low, high, n)


def _cost(cost: float) -> tuple[LabelCost, ...]:
    return (LabelCost("a", 0.9, cost, cost - 0.001, cost + 0.001),)


@pytest.mark.component("A11c")
@pytest.mark.parametrize(
    ("cost", "film", "rest", "on", "words"),
    [
        (0.004, _gain(0.1, 0.02), _gain(0.0, 0.01), True, "improve"),
        (0.004, _gain(0.1, 0.02), _gain(0.0, 0.0, 0), True, "improve"),
        (0.006, _gain(0.1, 0.02), _gain(0.1, 0.01), False, "costs more"),
        (0.000, _gain(0.1, 0.2), _gain(0.1, 0.01), False, "do not improve"),
        (0.000, _gain(0.1, 0.02), _gain(-0.1, 0.01), False, "get worse"),
        (0.000, _gain(0.1, 0.02, 5), _gain(0.1, 0.01), False, "too few"),
    ],
)
def test_the_guard_decides_both_ways(
    cost: float, film: Gain, rest: Gain, on: bool, words: str
) -> None:
    decision = decide(_cost(cost), film, rest)
    assert decision.on is on and words in decision.reason
    data = json.loads(json.dumps(decision.to_json()))
    assert data["on"] is on and data["auroc_cost"] == cost
    without, with_loss = network(seed=0), network(seed=1)
    different = with_loss.fusion.state_dict()
    kept = {k: v.clone() for k, v in different.items()}
    keep_better(without, with_loss, decision)
    wanted = kept if on else without.fusion.state_dict()
    assert all(
        torch.equal(v, wanted[k]) for k, v in with_loss.fusion.state_dict().items()
    )


def test_costs_need_both_classes() -> None:
    inputs = batch(records()[:4])
    targets = torch.tensor([[1.0, 1.0], [0.0, 1.0], [1.0, 1.0], [0.0, 1.0]])
    fresh = Prepared(inputs, targets, torch.ones(4, 2).bool(), None)
    good, bad = targets.numpy().astype(float), 1 - targets.numpy().astype(float)
    (cost,) = label_costs(("a", "b"), (good, bad), fresh)
    assert cost.label == "a" and cost.without == 1.0 and cost.cost == 1.0
    assert decide((), _gain(0.1, 0.01), _gain(0.0, 0.1)).on is False


def test_masses_lie_between_nothing_and_all() -> None:
    data = _set(12)
    inputs = batch(data.records)
    assert data.evidence is not None
    words, values = evidence_masks(data.evidence, inputs, vocabulary())
    assert words.any() and values.any(1).all() and not (words & ~inputs.attn).any()
    text = data.records[0].notes[0].text
    start, end = data.evidence[0].spans[0]
    told = inputs.word_start[0][words[0]].tolist()
    assert any(start <= at < end for at in told), text[start:end]
    targets, known = data.target_tensors()
    lesion = lesion_patches(torch.from_numpy(data.lesion_masks), (8, 8))
    prepared = Prepared(inputs, torch.ones_like(targets), known, lesion)
    model = network()
    truth = truth_of(prepared, data.evidence, vocabulary())
    found = masses(model, cache_tokens(model, inputs), prepared, truth)
    assert found.shape == (12, 3)
    assert ((found >= 0) & (found <= 1) | np.isnan(found)).all()
    film, rest = kinds(found)
    assert np.allclose(rest, np.nanmean(found[:, 1:], axis=1), equal_nan=True)
    bare = truth_of(replace(prepared, lesion=None), None, vocabulary())
    nothing = masses(model, cache_tokens(model, inputs), prepared, bare)
    assert np.isnan(nothing).all()
    assert paired_gain(nothing[:, 0], film).to_json()["difference"] is None
    part = data.subset([3])
    assert part.evidence == (data.evidence[3],)
    assert replace(data, evidence=None).subset([1]).evidence is None


@pytest.mark.component("A11")
def test_a_run_with_every_loss_reports_the_guard() -> None:
    settings = replace(
        QUICK,
        losses=LossWeights.of(["cls", "con", "exp", "uni"], balanced=True),
        self_supervised=(SHORT, SHORT, SHORT),
        finetune=SHORT,
        early_stop=1,
        stages=("S1", "S2", "S3", "S4"),
        fusion_module="concat",
    )
    training, held_out = _set(40), _set(30, 3, Split.VALIDATION)
    trained = train(training, held_out, settings)
    figures = trained.figures
    assert figures["explanation_guard"]["on"] is False, "30 cases prove nothing"
    assert "too few" in figures["explanation_guard"]["reason"]
    assert set(figures["alignment"]["retrieval"]) >= {
        "image->text",
        "text+values->image",
    }
    own = figures["encoders"]["text"]["self_supervised"]
    assert set(own["probe"]) == set(own["probe_of_random_weights"])
    assert trained.model.config.fusion == "concat"
    assert trained.calibration.version == "none", "S5 was left out"
    assert trained.alignment is not None
    json.dumps(figures)
    whole = replace(settings, staged=False, whole=SHORT, self_supervised=None)
    assert len(train(training, held_out, whole).figures["whole"]) == 1
