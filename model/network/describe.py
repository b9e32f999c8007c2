"""Parameters and multiply-adds of each part of a network, built without memory.

The network lives on the meta device: shapes without numbers. Operations are counted by
running each part there once, for one record with every view, one full window of text
and a full set of values, as the table says.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from model.network.config import FUSIONS, PRESETS, TriModalConfig, preset
from model.network.fusion import TriModalModel
from model.network.fusions.contract import Readable
from model.network.image_encoder import patch_tokens

VALUES = 64  # measurements of the record that is counted
VOCABULARY = {"tiny": 2_000, "small": 8_000, "base": 28_996}
CODES = {"tiny": 32, "small": 60, "base": 200}


@dataclass(frozen=True, slots=True)
class Part:
    """One part: its parameters, and 10^9 multiply-adds for ``input``."""

    name: str
    parameters: int
    gmac: float
    input: str


def describe(config: TriModalConfig) -> list[Part]:
    """The parts of a network, encoders first.

    Args:
        config: Any; nothing of its size is allocated.

    Returns:
        One row per part; ``gmac`` is for one record.
    """
    with torch.device("meta"):
        model = TriModalModel(config).eval().requires_grad_(False)
        image, text = config.image, config.text
        rows, columns = model.image_encoder.grid
        cells = rows * columns + image.global_token
        pixels = torch.zeros(image.views, 1, image.size, image.size)
        ids = torch.zeros(text.windows, text.max_tokens, dtype=torch.long)
        lengths = (image.views * cells, text.windows * text.max_tokens, VALUES)
        readable = _readable(config, lengths)
        return [
            Part(
                "image encoder",
                _count(model.image_encoder),
                _gmac(lambda: _image(model, pixels)),
                f"{image.views} x {image.size} px",
            ),
            Part(
                "text encoder",
                _count(model.text_encoder),
                _gmac(lambda: _text(model, ids)),
                f"{text.windows} x {text.max_tokens} word pieces",
            ),
            Part(
                "values encoder",
                _count(model.values_encoder),
                _gmac(lambda: _values(model)),
                f"{VALUES} measurements",
            ),
            Part(
                "pools and own heads",
                _count(model.pools) + _count(model.unimodal_heads),
                _gmac(lambda: _pools(model, readable)),
                "three modalities",
            ),
            Part(
                f"fusion ({config.fusion})",
                _count(model.fusion),
                _gmac(lambda: model.fusion(readable)),
                f"{sum(lengths)} tokens",
            ),
        ]


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _gmac(run: Any) -> float:
    """10^9 multiply-adds of one call; the counter gives twice as many operations."""
    # Fused attention has no kernel on this device: the plain one is counted instead.
    with sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        with FlopCounterMode(display=False) as counter:
            run()
    operations = int(counter.get_total_flops())
    return round(operations / 2e9, 4)


def _image(model: TriModalModel, pixels: Tensor) -> Tensor:
    encoder = model.image_encoder
    tokens: Tensor = encoder.project(
        patch_tokens(encoder.vit, encoder.vit.forward_features(pixels))
    )
    return tokens


def _text(model: TriModalModel, ids: Tensor) -> Tensor:
    hidden = model.text_encoder.bert(input_ids=ids).last_hidden_state
    tokens: Tensor = model.text_encoder.project(hidden)
    return tokens


def _values(model: TriModalModel) -> Tensor:
    number = torch.zeros(1, VALUES, dtype=torch.long)
    value = torch.zeros(1, VALUES, model.config.values.columns)
    there = torch.ones(1, VALUES, dtype=torch.bool)
    hours = torch.zeros(1, VALUES)
    tokens: Tensor = model.values_encoder(number, value, hours, number, number, there)
    return tokens


def _pools(model: TriModalModel, readable: Readable) -> None:
    for pool, stream, mask in zip(model.pools, readable.streams, readable.masks):
        pool(stream, mask)
    for head, summary in zip(model.unimodal_heads, readable.summaries.unbind(1)):
        head(summary)


def _readable(config: TriModalConfig, lengths: tuple[int, ...]) -> Readable:
    """One record with everything present."""
    return Readable(
        tuple(torch.zeros(1, 1 + n, config.width) for n in lengths),
        tuple(torch.ones(1, 1 + n, dtype=torch.bool) for n in lengths),
        torch.zeros(1, len(lengths), config.width),
    )


def as_json(config: TriModalConfig, parts: list[Part]) -> dict[str, Any]:
    """The table for programs."""
    return {
        "parts": [asdict(part) for part in parts],
        "parameters": sum(part.parameters for part in parts),
        "gmac": round(sum(part.gmac for part in parts), 4),
        "network": config.to_json(),
    }


def as_table(data: Mapping[str, Any]) -> str:
    """The table for people."""
    lines = [f"{'part':22}{'parameters':>13}{'GMAC':>10}  for"]
    for part in data["parts"]:
        lines.append(
            f"{part['name']:22}{part['parameters']:>13,}{part['gmac']:>10.3f}"
            f"  {part['input']}"
        )
    lines.append(f"{'all':22}{data['parameters']:>13,}{data['gmac']:>10.3f}")
    return "\n".join(lines)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of ``trivium-model describe``."""
    parser.add_argument("--preset", choices=PRESETS, default="small", help="sizes")
    parser.add_argument("--fusion", choices=FUSIONS, default="catm", help="fusion")
    parser.add_argument("--labels", type=int, default=14, help="number of labels")
    parser.add_argument("--backbone", default="", help="timm name; empty: own ViT")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Print parameters and multiply-adds of a preset."""
    config = preset(
        arguments.preset,
        vocabulary=VOCABULARY[arguments.preset],
        codes=CODES[arguments.preset],
        labels=tuple(f"label {n + 1}" for n in range(arguments.labels)),
    )
    image = replace(config.image, backbone=arguments.backbone)
    config = replace(config, fusion=arguments.fusion, image=image)
    data = as_json(config, describe(config))
    print(json.dumps(data, indent=2) if arguments.json else as_table(data))
    return 0
