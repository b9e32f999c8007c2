"""Fixture folders, written once; a test that damages one writes its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.model.datasets.mimic_files import mimic_tables
from tests.model.datasets.tables import write


@pytest.fixture(scope="session")
def mimic_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MIMIC-IV in small, plain files."""
    return write(tmp_path_factory.mktemp("mimic-iv"), mimic_tables())
