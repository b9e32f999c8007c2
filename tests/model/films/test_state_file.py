"""A state file gives back what was put in, and a damaged one is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from model.errors import ConfigurationError
from model.films.state_file import read_state, write_state


def test_nested_state_comes_back(tmp_path: Path) -> None:
    file = tmp_path / "run" / "state.safetensors"
    shared = torch.arange(3.0)
    state = {
        "optimiser": {"state": {0: {"step": torch.tensor(2.0)}}, "rates": (0.1, None)},
        "weights": {"a": shared, "b": shared},
        "losses": [1.5, 0.5],
    }
    write_state(file, state)
    found = read_state(file)
    assert found["optimiser"]["state"][0]["step"] == 2.0
    assert found["optimiser"]["rates"] == [0.1, None]
    assert torch.equal(found["weights"]["b"], shared)
    assert found["losses"] == [1.5, 0.5]
    assert [path.name for path in file.parent.iterdir()] == ["state.safetensors"]


@pytest.mark.parametrize("content", [b"", b"\x80\x04.", b"\x00" * 64])
def test_a_damaged_file_is_refused(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "state.safetensors"
    file.write_bytes(content)
    with pytest.raises(ConfigurationError, match="damaged"):
        read_state(file)
