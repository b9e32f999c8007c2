"""The state of an interrupted film training: safetensors with plain JSON in the header.

A pickle would run whatever code somebody put into the file; reading this one cannot.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from model.errors import ConfigurationError

_PLAIN = "plain"
_TENSOR, _PAIRS = "tensor", "pairs"


def write_state(file: Path, state: Mapping[str, Any]) -> None:
    """Write nested dictionaries, lists, tensors and plain values, all or nothing."""
    tensors: dict[str, torch.Tensor] = {}
    plain = json.dumps(_taken_apart(state, tensors))
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_suffix(".part")
    unfinished.write_bytes(save(tensors, {_PLAIN: plain}))
    unfinished.replace(file)


def read_state(file: Path) -> dict[str, Any]:
    """What :func:`write_state` wrote; tuples come back as lists.

    Raises:
        ConfigurationError: damaged, or not such a file.
    """
    try:
        with safe_open(file, framework="pt") as opened:
            plain = json.loads(opened.metadata()[_PLAIN])
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}
        return dict(_put_together(plain, tensors))
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError("the state file is damaged") from error


def _taken_apart(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """JSON of ``value``; its tensors go into ``tensors`` under running numbers."""
    if isinstance(value, torch.Tensor):
        name = str(len(tensors))
        tensors[name] = value.detach().cpu().clone().contiguous()
        return {_TENSOR: name}
    if isinstance(value, Mapping):  # keys may be numbers, which JSON would rename
        return {_PAIRS: [[k, _taken_apart(v, tensors)] for k, v in value.items()]}
    if isinstance(value, list | tuple):
        return [_taken_apart(v, tensors) for v in value]
    return value


def _put_together(value: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    """The inverse of :func:`_taken_apart`."""
    if isinstance(value, list):
        return [_put_together(v, tensors) for v in value]
    if isinstance(value, dict) and _TENSOR in value:
        return tensors[value[_TENSOR]]
    if isinstance(value, dict):
        return {k: _put_together(v, tensors) for k, v in value[_PAIRS]}
    return value
