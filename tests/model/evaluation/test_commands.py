"""``trivium-model evaluate`` with a folder: files, exit codes, refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from model.cli import main
from model.evaluation import report as reports
from model.evaluation.report import QUICK, Sizes


@pytest.fixture()
def asked(
    monkeypatch: pytest.MonkeyPatch, small_report: dict[str, Any]
) -> list[tuple[Sizes, dict[str, Any]]]:
    """The report is not measured again; what was asked for is kept."""
    calls: list[tuple[Sizes, dict[str, Any]]] = []

    def measured(checkpoint: Any, sizes: Sizes, **rest: Any) -> dict[str, Any]:
        calls.append((sizes, rest))
        return {**small_report, "command": rest["command"]}

    monkeypatch.setattr(reports, "full_report", measured)
    return calls


def test_a_folder_gets_three_files_and_a_card(
    tmp_path: Path, asked: list, capsys: pytest.CaptureFixture[str]
) -> None:
    out, card = tmp_path / "evaluation", tmp_path / "cards" / "card.md"
    options = ["evaluate", "--quick", "--quiet", "--out", str(out)]
    assert main([*options, "--model-card", str(card)]) == 0
    assert {p.name for p in out.iterdir()} == {
        *("report.json", "report.md", "report.html")
    }
    assert asked[0][0] == QUICK and asked[0][1]["progress"] is False
    command = json.loads((out / "report.json").read_text())["command"]
    assert command.endswith("--quick --out evaluation") and str(tmp_path) not in command
    assert command in card.read_text()
    assert "Targets:" in capsys.readouterr().out


def test_json_prints_the_report_and_strict_counts_every_target(
    tmp_path: Path, asked: list, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["evaluate", "--cases", "150", "--out", str(tmp_path), "--json"]
    assert main([*options, "--strict"]) == 1, "some target is missed on few cases"
    report = json.loads(capsys.readouterr().out)
    assert report["sections"] and asked[0][0].cases == 150
    assert "--cases 150" in report["command"]


def test_another_checkpoint_is_named_without_its_path(
    tmp_path: Path, asked: list, demo: Any
) -> None:
    import shutil

    other = tmp_path / "other"
    shutil.copytree(demo.folder, other)
    main(["evaluate", "--checkpoint", str(other), "--out", str(tmp_path / "out")])
    assert "--checkpoint other " in asked[0][1]["command"]
    assert asked[0][0].cases == 4_000


def test_a_document_gets_its_plots_and_the_own_card_stays_listed(
    tmp_path: Path, asked: list, demo: Any
) -> None:
    import shutil

    from model.inference.weights import load_checkpoint

    other = tmp_path / "other"
    shutil.copytree(demo.folder, other)
    page = tmp_path / "docs" / "report.md"
    options = ["evaluate", "--checkpoint", str(other), "--out", str(tmp_path / "out")]
    options += ["--explained", "7", "--document", str(page)]
    assert (
        main([*options, "--model-card", str(other / "MODEL_CARD.md"), "--quiet"]) == 0
    )
    assert asked[0][0].explained == 7
    assert "--explained 7" in asked[0][1]["command"]
    text = page.read_text()
    for name in ("coalitions", "reliability", "robustness"):
        assert f"![report-{name}](report-{name}.svg)" in text
        assert (page.parent / f"report-{name}.svg").read_text().startswith("<svg")
    assert "How it was trained" in (other / "MODEL_CARD.md").read_text()
    load_checkpoint(other)  # its manifest lists the new card


@pytest.mark.parametrize(
    "options",
    [
        ["--quick"],
        ["--document", "report.md"],
        ["--model-card", "card.md"],
        ["--out", "folder", "--against", "other"],
    ],
)
def test_options_that_do_not_go_together_are_refused(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", *options]) == 2
    assert "--out" in capsys.readouterr().err


def test_the_short_table_shows_every_score(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "--cases", "60"]) == 0
    shown = capsys.readouterr().out
    for heading in ("AUROC", "ceiling", "acc.", "prec.", "recall", "F1", "ECE"):
        assert heading in shown
