"""What a web process that has served a ready card has imported, asked of itself."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.end_to_end.plugin import Plugin, answers, state
from tests.services import wait_until

HEAVY = {"torch", "torchvision", "timm", "transformers"}


def test_a_process_that_served_a_ready_card_has_not_imported_torch(
    own_plugin: Plugin, tmp_path: Path
) -> None:
    plugin, modules = own_plugin, tmp_path / "modules"
    plugin.patients(1)
    plugin.start("ehr", "worker")
    command = [sys.executable, "-m", "gunicorn", "cds_hooks.app:create_app()"]
    command += ["--config", "tests/end_to_end/gunicorn_modules.py"]
    plugin.spawn("web", command, MODULES_FILE=str(modules))
    health = f"{plugin.stage.public_url}/health"
    wait_until(lambda: answers(health), f"web\n{plugin.tail()}", 60)
    assert state(plugin.ready("synthetic-20-1")) == "ready"
    loaded = set(modules.read_text().split("\n"))
    assert "cds_hooks.card_wording" in loaded and "model.jobs.queue" in loaded
    assert not {name.split(".")[0] for name in loaded} & HEAVY
