"""Where the computation runs: device and threads."""

from __future__ import annotations

import torch

from model.errors import ConfigurationError, DeviceUnavailableError


def choose_device(name: str = "auto") -> torch.device:
    """The device called ``name``: "auto" takes CUDA where there is one.

    Raises:
        DeviceUnavailableError: "cuda" was asked for and is not there.
        ConfigurationError: no such device name.
    """
    if name not in {"auto", "cpu", "cuda"}:
        raise ConfigurationError("device must be auto, cpu or cuda")
    if name == "cpu":
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda")
    if name == "cuda":
        raise DeviceUnavailableError("no CUDA device on this machine")
    return torch.device("cpu")


def configure_threads(count: int) -> None:
    """Threads of one process; 0 leaves torch's own choice (one per core)."""
    if count > 0:
        torch.set_num_threads(count)
