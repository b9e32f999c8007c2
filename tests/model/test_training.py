"""Training: sets, batches, stages, and one whole run on few cases."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fhir_adapters.patient_record import Modality
from model.errors import ConfigurationError
from model.inference.weights import load_checkpoint
from model.network.config import ImageConfig
from model.network.inputs import MODALITIES
from model.synthetic.latents import Split
from model.training.finding_heads import lesion_patches, patch_grid
from model.training.optimise import RunningAverage, Schedule, in_batches, optimise
from model.training.stages import (
    Prepared,
    cache_tokens,
    drop_modalities,
    pick,
    probe,
    summarise,
    train_encoder,
    train_fusion,
)
from model.training.synthetic_run import SyntheticRun, read_unstaged, run_synthetic
from model.training.synthetic_set import synthetic_cases, synthetic_set
from model.training.train import TrainSettings, train
from model.training.training_set import Finding, TrainingSet
from tests.model.network_samples import batch, network, records, without

SHORT = Schedule(epochs=1, rate=2e-3, batch=32)
QUICK = TrainSettings(
    seed=3,
    encoders=(SHORT, SHORT, SHORT),
    pooled=Schedule(epochs=2, rate=4e-3, batch=32, average=0.9),
    fusion=SHORT,
    whole=SHORT,
    progress=False,
)
SMALL = SyntheticRun(cases=200, held_out=60, tested=60)


def _set(n: int = 60) -> TrainingSet:
    return synthetic_set(synthetic_cases(n, 3, split=Split.TRAIN))


def _prepared(n: int = 60) -> tuple[TrainingSet, Prepared]:
    data = _set(n)
    masks = torch.from_numpy(data.lesion_masks)
    inputs = batch(data.records)
    return data, Prepared(inputs, *data.target_tensors(), lesion_patches(masks, (8, 8)))


def test_a_set_with_findings_teaches_them_and_one_without_teaches_labels() -> None:
    data = _set(20)
    assert [f.name for f in data.questions("image")] == ["severity", "pattern"]
    targets = np.array([[1.0], [0.0], [np.nan]], dtype=np.float32)
    plain = TrainingSet.of_labels(records()[:3], ("a",), targets)
    (question,) = plain.questions("text")
    assert question.classes == 2 and question.target.tolist() == [1, 0, -1]
    assert plain.known[:, 0].tolist() == [True, True, False]


def test_a_subset_keeps_every_part_in_step() -> None:
    data = _set(20)
    part = data.subset([5, 2])
    assert part.records[0] is data.records[5] and len(part) == 2
    assert part.targets[:, 0].tolist() == data.targets[[5, 2], 0].tolist()
    assert part.findings["text"][0].target[1] == data.findings["text"][0].target[2]
    assert (part.lesion_masks[0] == data.lesion_masks[5]).all()


def test_sets_that_do_not_match_are_refused() -> None:
    data = _set(20)
    with pytest.raises(ConfigurationError):
        replace(data, records=data.records[:-1])
    with pytest.raises(ConfigurationError):
        data.questions("smell")
    with pytest.raises(ConfigurationError):
        train(data, replace(data, labels=("other",)), QUICK)


def test_a_named_backbone_is_asked_for_its_own_patches() -> None:
    assert patch_grid(ImageConfig(size=64, patch=8)) == (8, 8)
    named = ImageConfig(size=64, patch=8, backbone="vit_tiny_patch16_224")
    before = torch.random.get_rng_state()
    assert patch_grid(named) == (4, 4)
    assert torch.equal(torch.random.get_rng_state(), before)
    masks = torch.zeros(1, 64, 64, dtype=torch.bool)
    masks[0, :16, 48:] = True
    inside = lesion_patches(masks, patch_grid(named))
    assert inside.shape == (1, 16) and inside[0].nonzero().tolist() == [[3]]


def test_lesion_patches_mark_covered_patches_only() -> None:
    masks = torch.zeros(1, 16, 16, dtype=torch.bool)
    masks[0, 8:, :8] = True
    assert lesion_patches(masks, (2, 2)).tolist() == [[0.0, 0.0, 1.0, 0.0]]


def test_optimisation_reaches_a_minimum_and_averages() -> None:
    weight = torch.nn.Parameter(torch.tensor([5.0]))
    schedule = Schedule(epochs=60, rate=0.3, batch=4, average=0.8, weight_decay=0.0)
    losses = optimise(
        "test",
        [weight],
        8,
        lambda rows: (weight - rows.float() * 0).square().sum(),
        schedule,
        seed=0,
        progress=False,
    )
    assert losses[-1] < 0.01 * losses[0]
    assert abs(float(weight.detach())) < 0.2


def test_the_running_average_replaces_the_parameters() -> None:
    weight = torch.nn.Parameter(torch.zeros(1))
    average = RunningAverage([weight], 0.5)
    for value in (1.0, 1.0, 1.0):
        weight.data.fill_(value)
        average.update()
    weight.data.fill_(100.0)
    average.apply()
    assert 0.5 < float(weight.detach()) <= 1.0


def test_batches_cover_every_row_once() -> None:
    parts = in_batches(torch.arange(10), 4)
    assert [len(p) for p in parts] == [4, 4, 2]
    assert torch.cat(parts).tolist() == list(range(10))


def test_dropping_modalities_never_leaves_a_record_with_nothing() -> None:
    random = torch.Generator().manual_seed(0)
    present = torch.tensor([[True] * 3, [True, False, False]]).repeat(500, 1)
    kept = drop_modalities(present, 1.0, random)
    assert kept.any(1).all() and not (kept & ~present).any()
    assert not kept[::2].all(1).any(), "with chance 1 every full record loses something"
    assert torch.equal(drop_modalities(present, 0.0, random), present)


@torch.no_grad()
def test_cached_and_picked_tokens_give_the_same_answer() -> None:
    model, inputs = network(), batch(records()[:6])
    tokens = cache_tokens(model, inputs)
    rows = torch.tensor([4, 1])
    direct = model(inputs.select(rows)).logits
    cached = model.fuse(pick(tokens, rows), inputs.present[rows]).logits
    assert torch.allclose(direct, cached, atol=1e-5)
    pooled = summarise(model, tokens)
    assert [x.shape for x in pooled.content()] == [(6, 1, 64)] * 3


def test_an_encoder_learns_alone_and_leaves_the_others_untouched() -> None:
    data, prepared = _prepared()
    model = network()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    schedule = Schedule(epochs=6, rate=2e-3, batch=16)
    losses, heads = train_encoder(
        model, 2, prepared, data.questions("values"), schedule, seed=0, progress=False
    )
    assert losses[-1] < 0.8 * losses[0]
    changed = {
        k for k, v in model.state_dict().items() if not torch.equal(v, before[k])
    }
    assert changed and all(
        name.startswith(("values_encoder.", "pools.2.")) for name in changed
    )
    scores = probe(model, 2, prepared, heads)
    assert len(scores) == 2 and all(0 <= s <= 1 for s in scores)


def test_image_patches_learn_where_the_lesion_is() -> None:
    data, prepared = _prepared()
    model = network()
    schedule = Schedule(epochs=2, rate=2e-3, batch=16)
    questions = data.questions("image")
    losses, _ = train_encoder(
        model, 0, prepared, questions, schedule, seed=0, progress=False
    )
    bare = replace(prepared, lesion=None)
    other, _ = train_encoder(
        network(), 0, bare, questions, schedule, seed=0, progress=False
    )
    assert losses[0] > other[0], "the patch loss comes on top"
    assert losses[1] < losses[0]


def test_unknown_findings_and_absent_modalities_are_survived() -> None:
    data, _ = _prepared(20)
    gone = [without(record, Modality.IMAGE) for record in data.records]
    prepared = Prepared(batch(gone), *data.target_tensors(), None)
    unknown = (Finding("severity", 3, np.full(20, -1, dtype=np.int64)),)
    losses, heads = train_encoder(
        network(), 0, prepared, unknown, SHORT, seed=0, progress=False
    )
    assert losses == [] and probe(network(), 0, prepared, heads) == []
    losses, _ = train_encoder(
        network(), 1, prepared, unknown, SHORT, seed=0, progress=False
    )
    assert losses == [0.0]


def test_fusion_training_leaves_encoders_and_pools_alone() -> None:
    _, prepared = _prepared()
    model = network()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    losses = train_fusion(
        model,
        prepared,
        (Schedule(epochs=4, rate=4e-3, batch=16), SHORT),
        dropout=0.3,
        seed=0,
        progress=False,
    )
    assert losses["pooled"][-1] < losses["pooled"][0] and len(losses["tokens"]) == 1
    for name, value in model.state_dict().items():
        if "_encoder." in name or name.startswith("pools."):
            assert torch.equal(value, before[name]), name


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """A staged run on 200 cases."""
    folder = tmp_path_factory.mktemp("run")
    return folder, run_synthetic(folder, QUICK, SMALL)


def test_a_run_writes_a_checkpoint_that_states_what_it_is(
    run: tuple[Path, dict],
) -> None:
    folder, record = run
    loaded = load_checkpoint(folder)
    assert loaded.training["seeds"] == {"train": 3, "calibration": 4, "validation": 5}
    assert loaded.identity.validation is not None
    assert loaded.identity.validation.n == 60
    assert loaded.identity.validation.low <= loaded.identity.validation.high
    assert set(loaded.calibration.references) == set(MODALITIES)
    assert "pneumonia" in loaded.calibration.map_floor
    card = (folder / "MODEL_CARD.md").read_text()
    assert "Not for clinical use" in card and "--cases 200 --seed 3" in card
    assert len(record["coalitions"]) == 7


def test_every_stage_is_on_record(run: tuple[Path, dict]) -> None:
    figures = run[1]["figures"]
    assert set(figures["encoders"]) == set(MODALITIES)
    assert set(figures["encoders"]["image"]["held_out_accuracy"]) == {
        "severity",
        "pattern",
    }
    assert len(figures["fusion"]["pooled"]) == 2
    assert len(figures["gates"]) == 6


def test_the_same_seed_gives_the_same_weights(
    run: tuple[Path, dict], tmp_path: Path
) -> None:
    run_synthetic(tmp_path / "again", QUICK, SMALL)
    name = "weights.safetensors"
    assert (run[0] / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


@pytest.mark.component("A12")
def test_an_end_to_end_run_can_be_quoted(tmp_path: Path) -> None:
    whole = replace(QUICK, staged=False, finetune=None)
    tiny = replace(SMALL, cases=60)
    run_synthetic(tmp_path / "whole", whole, tiny)
    quoted = read_unstaged(tmp_path / "whole" / "training.json")
    tuned = replace(QUICK, finetune=SHORT)
    record = run_synthetic(tmp_path / "staged", tuned, tiny, quoted)
    assert record["unstaged"]["coalitions"]["all"] == quoted["coalitions"]["all"]
    assert len(record["figures"]["finetune"]) == 1
    assert "end to end from scratch" in (tmp_path / "staged/MODEL_CARD.md").read_text()
    again = read_unstaged(tmp_path / "staged" / "training.json")  # a quote is kept
    assert again == record["unstaged"]
    plain = {**record, "unstaged": None}
    (tmp_path / "plain.json").write_text(json.dumps(plain))
    with pytest.raises(ConfigurationError):
        read_unstaged(tmp_path / "plain.json")
    (tmp_path / "broken.json").write_text(json.dumps([1]))
    with pytest.raises(ConfigurationError):
        read_unstaged(tmp_path / "broken.json")


def test_a_run_finds_its_own_device(tmp_path: Path) -> None:
    record = run_synthetic(
        tmp_path, replace(QUICK, device="auto"), replace(SMALL, cases=60)
    )
    assert record["settings"]["device"] == "auto"
    assert load_checkpoint(tmp_path).training["coalitions"]["all"]["n"] == 60


def test_a_run_without_cases_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError):
        run_synthetic(tmp_path, QUICK, SyntheticRun(cases=10))
