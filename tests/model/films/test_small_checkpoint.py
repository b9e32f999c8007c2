"""The small checkpoint: built from films and language, rounded before it is fitted."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from model.cli import main
from model.errors import ConfigurationError, RemoteModelError
from model.films.film_model import FilmModel, FilmRun, save_run
from model.films.folder import FilmFolder
from model.films.joint_training import JointSettings
from model.films.small_card import notice, small_card
from model.films.small_checkpoint import (
    SmallBuild,
    SmallSettings,
    build_small,
    refuse_research_only,
    to_half_and_back,
)
from model.inference.vocabulary import fit_pieces
from model.inference.weights import load_checkpoint
from model.language.bert_folder import masked_state, new_masked_model, save_bert
from model.network.config import TextConfig
from model.synthetic.latents import Split
from model.training.optimise import Schedule
from model.training.synthetic_set import synthetic_cases, synthetic_set

ONE = Schedule(epochs=1, rate=1e-3, batch=64)
BRIEF = SmallSettings(
    joint=JointSettings(
        pool=ONE,
        text=ONE,
        values=ONE,
        pooled=ONE,
        tokens=ONE,
        frozen_text=True,
        progress=False,
    ),
    copies=1,
    drawn=60,
    held_copies=2,
    held_drawn=60,
    tested_drawn=60,
    sparse=40,
    draws=10,
)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT folder of two thin layers that knows the words of synthetic notes."""
    folder = tmp_path_factory.mktemp("bert")
    cases = synthetic_cases(60, 3, split=Split.TRAIN, image_size=32)
    notes = (n.text for r in synthetic_set(cases).records for n in r.notes)
    pieces = fit_pieces(notes, 400)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        sizes = TextConfig(len(pieces), 16, 2, 2, 32, 192)
        model = new_masked_model(sizes)
    save_bert(folder, model.config, masked_state(model), pieces)
    return folder


@pytest.fixture(scope="module")
def built(folder: FilmFolder, taught: FilmRun, bert: Path) -> SmallBuild:
    return build_small(folder, taught, bert, BRIEF)


@pytest.fixture(scope="module")
def saved(built: SmallBuild, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("small") / "small"
    built.save(out)
    return out


def test_it_is_stored_as_float16_and_reads_back_as_it_was_calibrated(
    built: SmallBuild, saved: Path
) -> None:
    stored = load_file(saved / "weights.safetensors")
    kinds = {x.dtype for x in stored.values() if x.is_floating_point()}
    assert kinds == {torch.float16}
    loaded = load_checkpoint(saved)
    for name, x in loaded.model.state_dict().items():
        assert torch.equal(x, built.model.state_dict()[name]), name
    assert {p.dtype for p in loaded.model.parameters()} == {torch.float32}


def test_encoders_come_from_the_film_run_and_the_bert_folder(
    built: SmallBuild, taught: FilmRun, bert: Path
) -> None:
    for name, x in taught.model.encoder.state_dict().items():
        own = built.model.image_encoder.state_dict()[name]
        assert torch.allclose(own.float(), x.float(), rtol=1e-3, atol=1e-4), name
    given = load_file(bert / "model.safetensors")
    own = built.model.text_encoder.bert.state_dict()
    for name, x in own.items():
        assert torch.allclose(x, given[f"bert.{name}"], atol=1e-3), name


def test_the_record_names_every_set_apart(built: SmallBuild) -> None:
    record = built.record
    assert len(set(record["seeds"].values())) == 3
    assert record["data"]["drawn"] == {"train": 60, "val": 60}
    assert record["data"]["joined"]["val"] == 2 * record["data"]["films"]["val"]
    assert set(record["film_trimodal"]["coalitions"]) == {
        *("I", "T", "V", "I+T", "I+V", "T+V", "I+T+V")
    }
    assert set(record["coalitions"]) >= {"image", "text+values", "all"}
    ceiling = record["coalitions"]["all"]
    assert ceiling["n"] == 60 and ceiling["ceiling"] > 0.8
    json.dumps(record)  # plain JSON


def test_limits_of_every_modality_and_of_films_are_fitted(built: SmallBuild) -> None:
    calibration = built.calibration
    assert set(calibration.references) == {"image", "text", "values"}
    assert calibration.films is not None
    assert len(calibration.platt) == 8
    assert 0 <= built.threshold <= 1


def test_card_and_notice_say_what_was_used_and_what_was_not(
    built: SmallBuild, saved: Path
) -> None:
    card = (saved / "MODEL_CARD.md").read_text()
    assert card == small_card(built.record, built.threshold)
    assert "Investigational" in card and "film-trimodal" in card
    auroc = built.record["film_trimodal"]["coalitions"]["I+T+V"]["auroc"]["value"]
    assert f"{auroc:.3f} (" in card
    assert "{" not in card
    said = (saved / "NOTICE").read_text()
    assert said == notice()
    for wanted in (
        "NIH Clinical Center",
        "https://nihcc.app.box.com/v/ChestXray-NIHCC",
        "IEEE CVPR 2017",
        "CC BY 4.0",
        "rscbjbr9sj",
        "MedQuAD",
    ):
        assert wanted in said


def test_an_encoder_of_research_films_is_refused(taught: FilmRun) -> None:
    refuse_research_only(taught)
    config = taught.model.config
    seen = replace(config, sources=(*config.sources, "NLM Montgomery"))
    for forbidden in (seen, replace(config, research_only=True)):
        with pytest.raises(ConfigurationError):
            refuse_research_only(FilmRun(FilmModel(forbidden)))


def test_a_weight_beyond_float16_is_refused(built: SmallBuild) -> None:
    layer = torch.nn.Linear(2, 1)
    to_half_and_back(layer)
    assert torch.equal(layer.weight, layer.weight.half().float())
    layer.weight.data.fill_(1e6)
    with pytest.raises(ConfigurationError):
        to_half_and_back(layer)


def test_the_command_builds_and_prints(
    taught: FilmRun,
    film_path: Path,
    bert: Path,
    built: SmallBuild,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = []

    def instead(folder, run, words, settings) -> SmallBuild:
        asked.append(settings)
        record = dict(built.record)
        record["film_trimodal"] = {**record["film_trimodal"], "holds": False}
        return replace(built, record=record)

    monkeypatch.setattr("model.films.small_checkpoint.build_small", instead)
    save_run(tmp_path / "run", taught)
    command = ["build-small", "--films", str(film_path), "--bert", str(bert)]
    command += ["--encoder", str(tmp_path / "run"), "--out", str(tmp_path / "out")]
    page = tmp_path / "new" / "page.md"
    options = ["--drawn", "70", "--seed", "9", "--quiet", "--markdown", str(page)]
    assert main([*command, *options]) == 0
    assert "build-small" in page.read_text() and "DOES NOT HOLD" in page.read_text()
    assert asked[0].drawn == 70 and asked[0].joint.seed == 9
    assert "fusion_minus_best_pair" in capsys.readouterr().out
    assert main([*command, "--json", "--strict"]) == 1
    printed = json.loads(capsys.readouterr().out)
    files = (tmp_path / "out").iterdir()
    assert printed["bytes"] == sum(file.stat().st_size for file in files)
    assert printed["sha256"] == load_checkpoint(tmp_path / "out").identity.sha256


def test_a_folder_that_is_none_is_refused(
    folder: FilmFolder, taught: FilmRun, tmp_path: Path
) -> None:
    with pytest.raises(RemoteModelError):
        build_small(folder, taught, tmp_path / "none", BRIEF)
