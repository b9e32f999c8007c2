"""``trivium-model films``: every step runs, and refuses what does not fit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from model.cli import main
from model.films import film_model, report
from model.films.film_model import FilmRun, load_run, save_run
from model.films.folder import FOLDER_SOURCES, KERMANY, NIH, RENDERED
from model.films.report_text import bars_hold
from tests.model.films.conftest import TINY, fresh


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the runs of this module are written."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tiny network instead of the shipped sizes."""
    sizes = (TINY.image, TINY.width, TINY.sources, TINY.dropout, False)
    monkeypatch.setattr(film_model.FilmConfig.__init__, "__defaults__", sizes)
    monkeypatch.setattr(report, "RENDERED_FILMS", 20)


def test_steps_teach_probe_and_report(
    film_path: Path, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["--data", str(film_path), "--quiet", "--cache", str(runs / "cache")]
    training = ["--epochs", "1", "--size", "32"]
    for step, run, more in (
        ("masked", "masked", ["--films", "60"]),
        ("train", "run", ["--start", str(runs / "masked"), "--rendered", "10"]),
        ("train", "more", ["--start", str(runs / "run"), "--boxes", "0.1"]),
        ("train", "official", ["--official", "--rate", "1e-3", "--mirror"]),
    ):
        out = ["--out", str(runs / run)]
        assert main(["films", step, *common, *training, *out, *more]) == 0
    assert "mean AUROC" in capsys.readouterr().out
    assert load_run(runs / "run").model.config.sources == (NIH, KERMANY, RENDERED)
    assert load_run(runs / "official").record["films"] < 200

    probe = ["--model", str(runs / "masked"), "--out", str(runs / "probe.json")]
    assert main(["films", "probe", *common, *probe, "--random", "2"]) == 0
    assert "random weights" in capsys.readouterr().out
    assert main(["films", "probe", *common, *probe, "--random", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["holds"] == (found["masked"] > max(found["random"]))

    page = runs / "page.md"
    arguments = ["films", "report", *common, "--model", str(runs / "run")]
    arguments += ["--draws", "5", "--official", str(runs / "official")]
    beside = ["--beside", f"all={runs / 'run'},{runs / 'more'}"]
    beside += ["--markdown", str(page), "--maps", str(runs / "maps.png")]
    beside += ["--probe", str(runs / "probe.json")]
    code = main([*arguments, *beside, "--json", "--strict"])
    found = json.loads(capsys.readouterr().out)
    assert code == (0 if bars_hold(found) else 1)
    assert found["variants"]["all"]["runs"] == 2
    assert found["rendered"]["films"] == 20
    assert page.is_file() and (runs / "maps.png").is_file()
    assert main([*arguments, "--beside", "nothing"]) == 2


def test_a_research_run_says_so_and_has_every_head(film_path: Path, runs: Path) -> None:
    step = ["films", "masked", "--data", str(film_path), "--quiet", "--size", "32"]
    more = ["--epochs", "1", "--films", "20", "--cache", str(runs / "cache")]
    out = runs / "research"
    assert main([*step, *more, "--out", str(out), "--research-only"]) == 0
    config = load_run(out).model.config
    assert config.research_only and config.sources == FOLDER_SOURCES


def test_a_run_of_other_films_is_a_typed_refusal(
    film_path: Path, tmp_path: Path
) -> None:
    save_run(tmp_path, FilmRun(fresh()))
    assert main(["films", "report", "--data", str(tmp_path), "--model", "x"]) == 2
