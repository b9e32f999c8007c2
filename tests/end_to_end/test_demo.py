"""The demo itself, as a newcomer runs it: its exit status and its last line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from deploy.demo_stage import REPOSITORY, DemoError, only_one
from tests.services import data_folder


def demo(folder: Path, *options: str) -> tuple[dict[str, Any], str]:
    """Run it once; its last line as JSON and all that it printed."""
    command = [sys.executable, "-m", "deploy.demo", "--once", "--folder", str(folder)]
    done = subprocess.run(
        [*command, *options], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    last: dict[str, Any] = json.loads(done.stdout.rstrip().splitlines()[-1])
    return last, done.stdout


def test_the_demo_ends_with_cards_times_contributions_and_a_verified_log(
    tmp_path: Path,
) -> None:
    last, printed = demo(tmp_path / "demo")
    assert set(last) == {
        "cards",
        "first_card_ms",
        "ready_card_ms",
        "contributions",
        "audit",
    }
    assert len(last["cards"]) == 6
    assert set(last["contributions"]) == {"image", "text", "values"}
    assert last["audit"]["verified"] is True and last["audit"]["records"] > 20
    assert 0 < last["first_card_ms"] <= last["ready_card_ms"] + 1
    assert "The card as JSON" in printed and "The card as text" in printed


def test_real_cases_each_end_in_a_card_that_names_its_model(tmp_path: Path) -> None:
    folder = data_folder("trimodal")
    options = ("--data", str(folder), "--limit", "25")
    last, printed = demo(tmp_path / "demo", *options)
    assert len(last["cards"]) == 25
    for card in last["cards"]:
        detail = card["detail"]
        assert "COVID" in card["summary"] or "could not assess" in card["summary"]
        assert "AUROC" in detail and "n = 105" in detail
        assert "published case reports" in detail
    without_note = [c for c in last["cards"] if "Notes and reports" in c["detail"]]
    assert len(without_note) == 9
    assert "25 cards, " in printed and last["audit"]["verified"] is True


def test_a_folder_that_is_none_ends_in_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "deploy.demo", "--once"]
    command += ["--folder", str(tmp_path / "demo"), "--data", str(tmp_path)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 1
    assert "demo: " in done.stderr and "Traceback" not in done.stderr


def test_a_second_demo_does_not_empty_the_first_ones_folder(tmp_path: Path) -> None:
    with only_one(tmp_path):
        with pytest.raises(DemoError, match="another demo is running"):
            with only_one(tmp_path):
                pass
