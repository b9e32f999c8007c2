"""Device and threads, and the operators that torchvision may lack."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from model.errors import ConfigurationError, DeviceUnavailableError
from model.inference.runtime import choose_device, configure_threads
from model.inference.torchvision_ops import declare_missing_operators


def test_the_device_is_as_asked_or_refused() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type in {"cpu", "cuda"}
    with pytest.raises(ConfigurationError):
        choose_device("tpu")


def test_cuda_is_not_silently_replaced() -> None:
    if torch.cuda.is_available():
        assert choose_device("cuda").type == "cuda"
    else:
        with pytest.raises(DeviceUnavailableError):
            choose_device("cuda")


def test_zero_threads_leave_torch_s_choice() -> None:
    before = torch.get_num_threads()
    configure_threads(0)
    assert torch.get_num_threads() == before
    configure_threads(1)
    assert torch.get_num_threads() == 1
    configure_threads(before)


def test_declaring_twice_does_not_clash() -> None:
    assert declare_missing_operators() is declare_missing_operators()


def test_timm_and_transformers_import_in_a_fresh_process() -> None:
    code = (
        "from model.inference.torchvision_ops import declare_missing_operators as d;"
        "d(); import timm, transformers; transformers.BertModel"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
