"""One running plugin for the tests that leave it whole, a fresh one for the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.end_to_end.golden_case import add_golden_case
from tests.end_to_end.plugin import Plugin


@pytest.fixture(scope="session")
def plugin(tmp_path_factory: pytest.TempPathFactory):
    """EHR with seven patients, web and worker, all running."""
    running = Plugin.at(tmp_path_factory.mktemp("plugin"))
    running.patients(6)
    add_golden_case(running.ehr.store, running.stage.folder / "golden")
    running.start("ehr", "web", "worker")
    yield running
    running.stop()


@pytest.fixture
def own_plugin(tmp_path: Path):
    """A stage of its own whose processes the test starts and kills."""
    mine = Plugin.at(tmp_path)
    yield mine
    mine.stop()
