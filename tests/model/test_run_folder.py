"""A run folder: metrics, states that survive a kill, plots, early stopping."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from model.cli import main
from model.errors import ConfigurationError, RunFolderError
from model.synthetic.latents import Split
from model.training.loss_weights import LossWeights
from model.training.optimise import Schedule, Watch, optimise
from model.training.run_folder import RunFolder
from model.training.run_plots import OVERVIEW, plot_run
from model.training.synthetic_run import (
    SyntheticRun,
    continue_synthetic,
    run_synthetic,
)
from model.training.synthetic_set import synthetic_cases, synthetic_set
from model.training.train import TrainSettings, train

SHORT = Schedule(epochs=1, rate=2e-3, batch=32)
QUICK = TrainSettings(
    seed=3,
    encoders=(replace(SHORT, epochs=2), SHORT, SHORT),
    pooled=Schedule(epochs=2, rate=4e-3, batch=32, average=0.9),
    fusion=SHORT,
    whole=SHORT,
    progress=False,
)
TINY = SyntheticRun(cases=60, held_out=50, tested=50)


class Killed(Exception):
    """The process ends here."""


class FragileFolder(RunFolder):
    """Dies when it has recorded so many epochs, before their state is stored."""

    left = 0

    def save(self, stage: str, state: object) -> None:
        if self.left == 0:
            raise Killed
        self.left -= 1
        super().save(stage, state)  # type: ignore[arg-type]


def _sets() -> tuple[object, object]:
    return (
        synthetic_set(synthetic_cases(24, 3, split=Split.TRAIN)),
        synthetic_set(synthetic_cases(12, 3, split=Split.VALIDATION)),
    )


def _same(a: nn.Module, b: nn.Module) -> bool:
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


@pytest.mark.component("A12")
def test_a_killed_run_ends_in_the_same_weights(tmp_path: Path) -> None:
    settings = replace(
        QUICK,
        losses=LossWeights.of(["cls", "uni", "con"]),
        finetune=SHORT,
        alignment=SHORT,
        stages=("S1", "S2", "S3", "S4"),
    )
    training, held_out = _sets()
    config = {"settings": settings.to_json()}
    whole = train(training, held_out, settings, RunFolder.start(tmp_path / "a", config))
    lines = [
        {k: v for k, v in line.items() if k != "seconds"}
        for line in RunFolder(tmp_path / "a").metrics()
    ]
    assert [line["stage"] for line in lines][:2] == ["S1 image", "S1 image"]
    assert {"S2 alignment", "S3 pooled", "S3 tokens", "S4 all"} <= {
        line["stage"] for line in lines
    }
    for survived in (1, 6):  # in the middle of S1, in the middle of S3
        folder = FragileFolder.start(tmp_path / str(survived), config)
        folder.left = survived  # type: ignore[attr-defined]
        with pytest.raises(Killed):
            train(training, held_out, settings, folder)
        again = RunFolder.start(tmp_path / str(survived), config)
        resumed = train(training, held_out, settings, again)
        assert _same(whole.model, resumed.model)
        assert whole.alignment is not None and resumed.alignment is not None
        assert _same(whole.alignment, resumed.alignment)
        found = [
            {k: v for k, v in line.items() if k != "seconds"}
            for line in again.metrics()
        ]
        assert found == lines, "an epoch that was run again stands there once"
    alone = train(training, held_out, settings)
    assert _same(whole.model, alone.model), "watching changes nothing"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of checkpoint and run folder after one small run."""
    folder = tmp_path_factory.mktemp("finished")
    run_synthetic(folder / "out", QUICK, TINY, records=folder / "run")
    return folder


def test_a_run_folder_holds_everything(finished: Path) -> None:
    run = finished / "run"
    environment = json.loads((run / "environment.json").read_text())
    assert environment["seed"] == 3 and environment["threads"] == 1
    assert environment["packages"]["torch"]
    config = RunFolder(run).config()
    assert TrainSettings.from_json(config["settings"]) == QUICK
    line = RunFolder(run).metrics()[0]
    assert set(line) == {
        *("stage", "epoch", "loss", "rate", "held_out_loss", "seconds"),
    }
    pictures = {path.name for path in (run / "plots").iterdir()}
    assert {"S1-image.png", "S3-tokens.png", OVERVIEW} <= pictures
    assert (run / "plots" / OVERVIEW).read_bytes()[:4] == b"\x89PNG"
    assert json.loads((run / "result.json").read_text())["coalitions"]["all"]
    assert not (run / "alignment.safetensors").exists()


def test_a_finished_run_only_writes_its_checkpoint_again(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = finished / "out" / "weights.safetensors"
    before = weights.read_bytes()
    weights.unlink()
    lines = RunFolder(finished / "run").metrics()
    assert main(["train", "--resume", str(finished / "run")]) == 0
    assert str(finished / "out") in capsys.readouterr().out
    assert weights.read_bytes() == before
    assert RunFolder(finished / "run").metrics() == lines


def test_other_settings_and_damage_are_refused(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="other settings"):
        run_synthetic(tmp_path, replace(QUICK, seed=4), TINY, records=finished / "run")
    with pytest.raises(RunFolderError, match="no readable run"):
        continue_synthetic(tmp_path)
    run = RunFolder.start(tmp_path / "bad", {"settings": {}})
    with pytest.raises(RunFolderError, match="malformed"):
        continue_synthetic(tmp_path / "bad")
    (tmp_path / "bad" / "state" / "S1-text.safetensors").write_bytes(b"no tensors")
    with pytest.raises(RunFolderError, match="S1 text is damaged"):
        run.load("S1 text")
    assert plot_run(tmp_path / "plots", []) == []


def test_lines_of_an_epoch_without_state_are_taken_back(tmp_path: Path) -> None:
    run = RunFolder.start(tmp_path, {})
    run.record("a", 1, {"loss": 1.0})
    run.save("a", ({"x": torch.ones(1)}, {"losses": [1.0]}))
    run.record("a", 2, {"loss": 0.5})
    run.record("b", 1, {"loss": 0.7})
    state = run.load("a")
    assert state is not None and state[0]["x"].tolist() == [1.0]
    assert [(x["stage"], x["epoch"]) for x in run.metrics()] == [("a", 1), ("b", 1)]
    assert run.load("b") is None and len(run.metrics()) == 1


def _toy(patience: int, held_out: list[float], **schedule: float) -> tuple[float, int]:
    """Train one number that counts its steps; held-out losses are given."""
    weight = nn.Parameter(torch.zeros(1))
    seen = iter(held_out)
    losses = optimise(
        "toy",
        [weight],
        4,
        lambda rows: -weight.sum(),  # grows with every step
        Schedule(epochs=len(held_out), rate=0.1, batch=4, weight_decay=0.0, **schedule),
        seed=0,
        progress=False,
        watch=Watch(held_out=lambda: next(seen), patience=patience),
    )
    return float(weight.detach()), len(losses)


def test_early_stopping_keeps_the_best_weights() -> None:
    losses = [3.0, 2.0, 2.5, 2.6, 1.0, 0.5]
    best, epochs = _toy(2, losses)
    assert epochs == 4, "two epochs without a better loss"
    every, all_epochs = _toy(0, losses)
    assert all_epochs == 6 and every > best
    two, _ = _toy(5, [3.0, 2.0, 9.0, 9.0, 9.0, 9.0])
    assert two == best, "the weights after the second epoch"
    averaged, epochs = _toy(2, losses, average=0.5)
    assert epochs == 4 and 0 < averaged < best


def test_slow_parameters_move_at_a_share_of_the_rate() -> None:
    fast, slow = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    optimise(
        "toy",
        [fast],
        4,
        lambda rows: -(fast + slow).sum(),
        Schedule(epochs=3, rate=0.1, batch=4, weight_decay=0.0),
        seed=0,
        progress=False,
        slow=[slow],
        slow_share=0.1,
    )
    ratio = float(slow.detach()) / float(fast.detach())
    assert ratio == pytest.approx(0.1, rel=1e-3)


def test_settings_survive_json_and_refuse_nonsense() -> None:
    once = (SHORT, SHORT, SHORT)
    settings = replace(
        QUICK,
        finetune=SHORT,
        self_supervised=once,
        losses=LossWeights.of(["cls", "exp"]),
        stages=("S1", "S3", "S5"),
    )
    data = json.loads(json.dumps(settings.to_json()))
    assert TrainSettings.from_json(data) == settings
    with pytest.raises(ConfigurationError):
        TrainSettings.from_json({**data, "colour": "blue"})
    for wrong in ({"stages": ("S9",)}, {"precision": "int4"}, {"early_stop": -1}):
        with pytest.raises(ConfigurationError):
            replace(settings, **wrong)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--losses", "cls,nll"], "no such loss"),
        (["--stages", "S7"], "stages"),
        (["--finetune", "-1"], "negative"),
        (["--data", "somewhere", "--resume", "x"], "only runs on synthetic"),
        (["--resume", "/nowhere"], "no readable run"),
    ],
)
def test_wrong_options_end_in_one_line(
    options: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--quiet", *options]) == 2
    assert words in capsys.readouterr().err
