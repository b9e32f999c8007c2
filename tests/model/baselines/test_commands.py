"""``trivium-model compare`` from start to end, and again from what it kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from model.baselines import compare
from model.cli import main

OPTIONS = "compare --seeds 1 --cases 50 --held-out 50 --tested 50 --draws 10 --quiet"


@pytest.mark.component("A24a")
@pytest.mark.component("A24b")
@pytest.mark.component("A24c")
@pytest.mark.component("A24d")
@pytest.mark.component("A24e")
@pytest.mark.component("A24f")
@pytest.mark.component("A25b")
@pytest.mark.component("A25f")
def test_compare_prints_the_tables_and_goes_on_from_what_it_kept(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = [*OPTIONS.split(), "--keep", str(tmp_path / "kept")]
    page = tmp_path / "docs" / "comparison.md"
    assert main([*options, "--markdown", str(page)]) == 0
    printed = capsys.readouterr().out
    for title in ("Comparison", "Ablation", "Calibration", "Zero-shot", "Checks"):
        assert title in printed and f"## {title}" in page.read_text()
    for row in (
        "BioViL-T style",
        "MedCLIP style",
        "CheXzero style",
        "Text only (BERT)",
    ):
        assert row in printed
    for row in ("Image only (ViT)", "Logistic regression on", "Gradient-boosted trees"):
        assert row in printed
    assert "DOES NOT HOLD" in printed
    assert "Written by `trivium-model compare --seeds 1 --cases 50" in page.read_text()

    def refuse(*_: object) -> None:
        raise AssertionError("everything is kept: nothing may be trained again")

    monkeypatch.setattr(compare, "prepare_shared", refuse)
    assert main([*options, "--json", "--strict"]) == 1  # bars fail on 50 cases
    report = json.loads(capsys.readouterr().out)
    assert len(report["rows"]) == 12 and len(report["ablation"]) == 7
    assert {"name", "value", "target", "holds"} == set(report["checks"][0])
    with pytest.raises(AssertionError, match="trained again"):
        main([*options, "--fresh"])


def test_sizes_that_are_too_small_end_in_one_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["compare", "--cases", "5", "--quiet"]) == 2
    assert "at least 50 cases" in capsys.readouterr().err
