"""The ablation of losses: rows, several starts, what is kept, what is told."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.cli import main
from model.errors import CheckpointError
from model.evaluation.scores import auroc, precision
from model.inference.weights import load_checkpoint
from model.settings import DEMO_CHECKPOINT
from model.training import loss_ablation
from model.training.loss_ablation import (
    ROWS,
    Ablation,
    ablate_losses,
    rows_of,
    schedules_for,
)
from model.training.loss_ablation_report import (
    PATTERNS,
    REFERENCE,
    RowScores,
    Run,
    compared,
    report_of,
)
from model.training.loss_ablation_table import page, table
from model.training.optimise import Schedule
from model.training.train_settings import TrainSettings

SHORT = Schedule(epochs=1, rate=2e-3, batch=32)
QUICK = TrainSettings(
    encoders=(SHORT, SHORT, SHORT),
    pooled=SHORT,
    fusion=SHORT,
    alignment=SHORT,
    finetune=SHORT,
    guard=False,
    progress=False,
)
SMALL = Ablation(cases=50, held_out=50, tested=50, draws=5, progress=False)
STRENGTH = {"uni": 0.2, "cls,uni,con": 3.0, "cls,uni,exp": 2.9}
RANKS = {"cls,uni,con": 0.8, "cls,uni,con,exp": 0.8}


def _guard(on: bool) -> dict[str, Any]:
    gain = {"without": 0.3, "with_it": 0.4, "difference": 0.1}
    gain |= {"low": 0.05, "high": 0.15, "n": 40}
    return {
        "on": on,
        "reason": "because",
        "auroc_cost": 0.001,
        "film_mass_of_unseen_patients": gain,
        "mass_of_untrained_kinds": {**gain, "n": 0},
    }


def _run(seed: int, on: bool = True, n: int = 200) -> Run:
    """Made-up scores: as good as the reference, but ``uni`` near chance."""
    random = np.random.default_rng(seed)
    label = (np.arange(n) % 2).astype(np.float64)
    rows = {}
    for name in ROWS:
        strength = STRENGTH.get(name, 3.0)
        noise = np.random.default_rng(seed).normal(size=n)
        logits = strength * (label - 0.5) + noise
        mass = random.random((n, 3))
        mass[label < 0.5] = np.nan
        rank = RANKS.get(name, 0.5)
        retrieval = {
            "image->text": {"rank": rank, "standard_error": 0.01, "found": 0.1},
            "text->image": {"rank": rank - 0.02, "standard_error": 0.01, "found": 0.1},
        }
        chance = 1 / (1 + np.exp(-logits))
        chance = np.minimum(chance, 0.4) if name == "uni" else chance
        every = {key: logits for key in PATTERNS}
        rows[name] = RowScores(every, chance, mass, retrieval, 1.5)
    return Run(seed, label, rows, _guard(on), 12.0)


def test_a_difference_is_taken_on_the_same_cases_and_averaged_over_starts() -> None:
    one, two = _run(1), _run(2)
    ours = [run.rows["cls,uni,exp"].logits["all"] for run in (one, two)]
    theirs = [run.rows[REFERENCE].logits["all"] for run in (one, two)]
    found = compared(auroc, ours, theirs, [one.label, two.label], 50)
    single = [auroc(x, run.label) for x, run in zip(ours, (one, two))]
    assert found["value"] == pytest.approx(np.mean(single))
    assert found["by_start"] == [round(x, 5) for x in single]
    assert found["low"] < found["value"] < found["high"]
    change = found["minus_reference"]
    others = [auroc(x, run.label) for x, run in zip(theirs, (one, two))]
    assert change["value"] == pytest.approx(np.mean(single) - np.mean(others))
    # on the same cases the difference is known far better than either score
    assert change["high"] - change["low"] < (found["high"] - found["low"]) / 2


def test_a_score_that_is_nowhere_defined_is_null() -> None:
    run = _run(1)
    never = run.rows["uni"].chance
    found = compared(precision, [never], [never], [run.label], 5)
    assert found["value"] is None and found["low"] is None
    assert found["minus_reference"] == {"value": None, "low": None, "high": None}
    json.dumps(found, allow_nan=False)


@pytest.mark.component("A11")
def test_statements_follow_the_figures_and_the_guard_of_every_start() -> None:
    report = report_of({"parameters": "P0"}, [_run(1), _run(2)], 20)
    said = report["statements"]
    assert said["con_improves_retrieval"]["value"] == pytest.approx(0.3)
    assert said["con_improves_retrieval"]["holds"] and said["exp_pays"]["holds"]
    assert said["cls_is_needed"]["holds"] and said["con_auroc_cost"]["holds"]
    assert said["con_ranks_every_direction_above_chance"]["value"] == 0.78
    assert report["guard"]["on"] and report["data"]["seeds"] == [1, 2]
    doubtful = report_of({}, [_run(1), _run(2, on=False)], 5)
    assert not doubtful["guard"]["on"], "on only when it is on from every start"
    assert not doubtful["statements"]["exp_pays"]["holds"]
    row = {row["losses"]: row for row in report["rows"]}["uni"]
    assert row["precision"]["value"] is None and row["recall"]["value"] == 0.0


def test_what_is_kept_comes_back_and_damage_is_named(tmp_path: Path) -> None:
    run, path = _run(3), tmp_path / "kept" / "run.json"
    run.save(path)
    again = Run.load(path)
    assert again.seed == 3 and list(again.rows) == list(run.rows)
    for name, row in run.rows.items():
        other = again.rows[name]
        assert np.allclose(other.masses, row.masses, atol=1e-6, equal_nan=True)
        assert np.allclose(other.logits["all"], row.logits["all"], atol=1e-6)
    assert again.guard == run.guard
    for text in ("{", "[]", json.dumps({"rows": {"a": 1}})):
        path.write_text(text)
        with pytest.raises(CheckpointError, match="run.json"):
            Run.load(path)


def test_starts_have_seeds_of_their_own_and_a_digest_of_what_matters() -> None:
    first, second = (SMALL.of_start(number) for number in (0, 1))
    assert (first.seed, second.seed) == (31, 41)
    recipe = schedules_for(first)
    assert recipe.finetune is not None and recipe.guard is False
    assert first.digest(recipe) == replace(first, threads=4, draws=9).digest(recipe)
    others = [second.digest(recipe), first.digest(replace(recipe, dropout=0.1))]
    assert len({first.digest(recipe), *others}) == 3
    parts = rows_of(replace(SMALL, parts=True))
    assert len(parts) == 10 and list(parts)[-1].endswith("(consistent alone)")
    alone = parts["cls,uni,exp (reason alone)"]
    assert (alone.reason, alone.shown, alone.focus, alone.consistent) == (1, 0, 0, 0)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Trained on 50 cases, kept, and read back without training."""
    keep = tmp_path_factory.mktemp("kept")
    first = ablate_losses(SMALL, QUICK, keep)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loss_ablation, "_one_start", None)
        again = ablate_losses(replace(SMALL, draws=4), QUICK, keep)
    before, after = (x["rows"][3]["auroc"]["all"]["value"] for x in (first, again))
    assert before == pytest.approx(after, abs=1e-5)
    return first


@pytest.mark.component("A11")
def test_an_ablation_has_one_row_per_loss(report: dict[str, Any]) -> None:
    assert [row["losses"] for row in report["rows"]] == list(ROWS)
    first = report["rows"][0]["auroc"]["all"]["minus_reference"]
    assert first["value"] == 0.0 == first["low"]
    assert all(len(row["retrieval"]["directions"]) == 9 for row in report["rows"])
    starts = report["guard"]["starts"]
    assert [start["seed"] for start in starts] == [31]
    text = table(report)
    assert "cls,uni,con,exp" in text and "decision from all starts" in text
    written = page(report, "trivium-model ablate-losses")
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    for score in ("accuracy", "precision", "recall", "F1"):
        assert score in written


def test_what_was_not_measured_is_a_dash() -> None:
    made = report_of(
        {"parameters": "P0", "cases": 1, "held_out": 1, "tested": 1, "threads": 1},
        [_run(1)],
        3,
    )
    made["rows"][0]["mass"]["image"].update(n=0, with_it=None)
    assert "not measured" in table(made)
    written = page(made, "x")
    assert "| - |" in written and "over 1 start;" in written


def test_the_command_prints_and_writes(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    report: dict[str, Any],
) -> None:
    asked: list[tuple[Ablation, Path]] = []

    def answer(ablation: Ablation, keep: Path) -> dict[str, Any]:
        asked.append((ablation, keep))
        return report

    monkeypatch.setattr(loss_ablation, "ablate_losses", answer)
    path = tmp_path / "page.md"
    options = ["--starts", "3", "--parts", "--keep", str(tmp_path), "--quiet"]
    assert main(["ablate-losses", *options, "--markdown", str(path)]) == 0
    assert asked[0][0].starts == 3 and asked[0][0].parts and asked[0][1] == tmp_path
    wanted = "--starts 3 --draws 1000 --parts --markdown FILE"
    assert wanted in path.read_text()
    beside = json.loads(path.with_suffix(".json").read_text())
    assert beside["reference"] == REFERENCE
    assert "cls,uni" in capsys.readouterr().out
    assert main(["ablate-losses", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["reference"] == REFERENCE
    assert main(["ablate-losses", "--cases", "3"]) == 2
    assert main(["ablate-losses", "--starts", "0"]) == 2


@pytest.fixture(scope="module")
def committed(repository: Path) -> dict[str, Any]:
    """The report in ``docs/loss-ablation.md``, as the command printed it."""
    page_file = repository / "docs/loss-ablation.md"
    text = page_file.read_text(encoding="utf-8")
    assert "Written by `trivium-model ablate-losses" in text
    beside = page_file.with_suffix(".json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(beside)
    return found


@pytest.mark.component("A11b")
def test_alignment_improves_retrieval_at_its_price(committed: dict[str, Any]) -> None:
    said = committed["statements"]
    assert said["con_improves_retrieval"]["value"] > 0.05
    assert said["con_ranks_every_direction_above_chance"]["value"] > 0.5
    assert said["con_auroc_cost"]["value"] <= 0.005


@pytest.mark.component("A11c")
def test_the_explanation_loss_is_on_only_if_it_pays(committed: dict[str, Any]) -> None:
    """Its price is on the page; where it does not pay, the shipped one has it off."""
    starts = committed["guard"]["starts"]
    for start in starts:
        film = start["film_mass_of_unseen_patients"]
        pays = start["auroc_cost"] <= 0.005 and film["low"] > 0
        rest = start["mass_of_untrained_kinds"]
        assert start["on"] == (pays and film["n"] >= 20 and rest["high"] >= 0)
    assert committed["guard"]["on"] == all(start["on"] for start in starts)
    settings = load_checkpoint(DEMO_CHECKPOINT).training["settings"]
    weights = settings.get("losses", {"explanation": 0.0})
    assert committed["guard"]["on"] or weights["explanation"] == 0.0
