"""The summary of a network: parameters counted, operations as published."""

from __future__ import annotations

import json

import pytest

from model.cli import main
from model.network.config import FUSIONS, preset
from model.network.describe import describe
from model.network.fusion import TriModalModel


def _report(capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, object]:
    assert main(["describe", "--json", *options]) == 0
    report: dict[str, object] = json.loads(capsys.readouterr().out)
    return report


@pytest.mark.component("A1")
def test_small_stays_below_twenty_million_with_its_views(
    capsys: pytest.CaptureFixture[str],
) -> None:
    report = _report(capsys, "--preset", "small")
    assert isinstance(report["parameters"], int)
    assert report["parameters"] <= 20_000_000
    assert report["network"]["image"]["views"] == 3  # type: ignore[index]


@pytest.mark.component("A1")
@pytest.mark.component("A2")
def test_base_costs_what_vit_b_and_bert_base_cost(
    capsys: pytest.CaptureFixture[str],
) -> None:
    parts = _report(capsys, "--preset", "base")["parts"]
    image, text = parts[:2]  # type: ignore[index]
    assert image["gmac"] / 3 == pytest.approx(17.6, rel=0.02)  # one view
    assert text["gmac"] / 2 == pytest.approx(48.3, rel=0.02)  # one window of 512
    assert image["parameters"] == pytest.approx(85.8e6, rel=0.01)
    assert text["parameters"] == pytest.approx(107.9e6, rel=0.01)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_the_parts_add_up_to_the_network(
    fusion: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--preset", "tiny", "--fusion", fusion, "--labels", "1")
    report = _report(capsys, *options)
    sizes = preset("tiny", vocabulary=2000, codes=32, labels=("label 1",))
    if fusion == "catm":
        network = TriModalModel(sizes)
        own = sum(p.numel() for p in network.parameters())
        assert report["parameters"] == own
        assert sum(part.parameters for part in describe(sizes)) == own
    fused = report["parts"][-1]  # type: ignore[index]
    assert fused["name"] == f"fusion ({fusion})" and fused["parameters"] > 0


def test_people_get_a_table_and_nonsense_is_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["describe", "--preset", "tiny"]) == 0
    text = capsys.readouterr().out
    assert "image encoder" in text and "GMAC" in text
    assert main(["describe", "--preset", "tiny", "--backbone", "no_such"]) == 2
    assert "backbone" in capsys.readouterr().err
