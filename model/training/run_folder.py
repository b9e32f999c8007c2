"""One folder per training run: what was asked, what was measured, where it stands.

    RUN/config.json        settings and data, as asked
    RUN/environment.json   versions, threads, device, seed
    RUN/metrics.jsonl      one line per epoch of each stage
    RUN/state/*.safetensors  one file per stage, replaced after each epoch
    RUN/plots/*.png        loss curves, one per stage and one overview
    RUN/result.json        what the finished run measured
    RUN/alignment.safetensors  projection heads of L_con, where it was on
    RUN/checkpoint/        the result, where no other place was asked for

A killed run continues from its state and ends in the same weights, bit for bit. State
files are safetensors with plain JSON in their header: reading one runs no code.
"""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from model.errors import RunFolderError
from model.training.run_plots import plot_run
from model.training.watch import State

CONFIG, ENVIRONMENT, METRICS = "config.json", "environment.json", "metrics.jsonl"
RESULT, ALIGNMENT, CHECKPOINT = "result.json", "alignment.safetensors", "checkpoint"
_PACKAGES = ("torch", "timm", "transformers", "tokenizers", "numpy", "safetensors")
_PLAIN = "plain"


class RunFolder:
    """The files of one run; see the module for the layout."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def start(cls, folder: Path, config: Mapping[str, Any]) -> RunFolder:
        """A new run, or the continuation of one with the same configuration.

        Raises:
            RunFolderError: the folder holds a run with another configuration.
        """
        run = cls(folder)
        wanted = json.loads(json.dumps(config))
        if (folder / CONFIG).exists() and run.config() != wanted:
            raise RunFolderError("that folder holds a run with other settings")
        (folder / "state").mkdir(parents=True, exist_ok=True)
        run._write(CONFIG, json.dumps(wanted, indent=2) + "\n")
        settings = wanted.get("settings", {})
        run._write(ENVIRONMENT, json.dumps(environment(settings), indent=2) + "\n")
        return run

    def config(self) -> dict[str, Any]:
        """What the run was asked to do.

        Raises:
            RunFolderError: there is no readable run.
        """
        try:
            return dict(json.loads((self.folder / CONFIG).read_text("utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise RunFolderError("no readable run in that folder") from error

    def metrics(self) -> list[dict[str, Any]]:
        """All lines of ``metrics.jsonl``, in their order."""
        path = self.folder / METRICS
        if not path.exists():
            return []
        return [json.loads(line) for line in path.read_text("utf-8").splitlines()]

    def record(self, stage: str, epoch: int, figures: Mapping[str, float]) -> None:
        """Append one line of measurements."""
        line = json.dumps({"stage": stage, "epoch": epoch, **figures})
        with (self.folder / METRICS).open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def save(self, stage: str, state: State) -> None:
        """Replace the state of ``stage``, all or nothing."""
        tensors, plain = state
        data = {name: x.detach().cpu().contiguous() for name, x in tensors.items()}
        path = self._state_path(stage)
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".new")
        unfinished.write_bytes(save(data, {_PLAIN: json.dumps(plain)}))
        os.replace(unfinished, path)

    def load(self, stage: str) -> State | None:
        """The stored state of ``stage``, None when it never began.

        Lines of ``metrics.jsonl`` beyond the stored epoch are taken back: that epoch
        is run again.

        Raises:
            RunFolderError: the file is damaged.
        """
        path = self._state_path(stage)
        if not path.exists():
            self._forget(stage, 0)
            return None
        tensors: dict[str, Tensor] = {}
        try:
            with safe_open(path, framework="pt") as file:
                plain = dict(json.loads(file.metadata()[_PLAIN]))
                for name in file.keys():
                    tensors[name] = file.get_tensor(name)
        except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
            raise RunFolderError(f"state of stage {stage} is damaged") from error
        self._forget(stage, len(plain["losses"]))
        return tensors, plain

    def finish(self, result: Mapping[str, Any], alignment: nn.Module | None) -> None:
        """Write what only a finished run has: result, plots, projection heads."""
        self._write(RESULT, json.dumps(result, indent=2) + "\n")
        plot_run(self.folder / "plots", self.metrics())
        if alignment is not None:
            state = {k: x.detach().cpu() for k, x in alignment.state_dict().items()}
            (self.folder / ALIGNMENT).write_bytes(save(state))

    def _forget(self, stage: str, epochs: int) -> None:
        """Take back the lines of ``stage`` after its first ``epochs``."""
        lines = self.metrics()
        kept = [x for x in lines if x["stage"] != stage or x["epoch"] <= epochs]
        if len(kept) < len(lines):
            self._write(METRICS, "".join(json.dumps(line) + "\n" for line in kept))

    def _state_path(self, stage: str) -> Path:
        name = re.sub(r"[^A-Za-z0-9]+", "-", stage).strip("-")
        return self.folder / "state" / f"{name}.safetensors"

    def _write(self, name: str, text: str) -> None:
        unfinished = self.folder / f"{name}.new"
        unfinished.write_text(text, encoding="utf-8")
        os.replace(unfinished, self.folder / name)


def environment(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Versions, processor, threads, device and seed of this process."""
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "threads": torch.get_num_threads(),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "device": settings.get("device"),
        "seed": settings.get("seed"),
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
