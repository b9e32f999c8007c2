"""The whole path with the model on a CUDA device; needs one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploy.demo_stage import call
from tests.end_to_end.plugin import ASSESSMENT, Plugin, card


@pytest.fixture
def on_cuda(tmp_path: Path):
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device: the hook-to-card path on CUDA is not tested")
    plugin = Plugin.at(tmp_path)
    plugin.extra = {"TRIVIUM_DEVICE": "cuda", "TRIVIUM_QUEUE": "trivium.cuda"}
    plugin.patients(1)
    plugin.start("ehr", "web", "worker")
    yield plugin
    plugin.stop()


@pytest.mark.cuda
def test_the_card_and_the_audit_record_name_the_cuda_device(on_cuda: Plugin) -> None:
    shown = card(on_cuda.ready("synthetic-20-1", 120))
    extension = shown["extension"][ASSESSMENT]
    assert extension["state"] == "ready"
    assert extension["device"].startswith("cuda")
    found = json.loads(
        call(on_cuda.stage, "trivium-audit", "search", "--json", "--limit", "200")
    )["events"]
    devices = [e["model"]["device"] for e in found if e["model"]]
    assert any(device.startswith("cuda") for device in devices)
    assert on_cuda.verify()["verified"] is True
