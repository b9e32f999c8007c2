"""Sizes of the network: one frozen dataclass per stream, and three presets.

``tiny`` runs everywhere and is what the tests and the demonstration checkpoint use,
``small`` stays at 20 million parameters, ``base`` is ViT-B/16 with a BERT-base.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from model.errors import ConfigurationError

PRESETS = ("tiny", "small", "base")


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """The vision transformer; sizes are in pixels."""

    size: int = 64
    patch: int = 8
    width: int = 64
    depth: int = 4
    heads: int = 4
    views: int = 1

    @property
    def grid(self) -> int:
        """Patches along one side."""
        return self.size // self.patch


@dataclass(frozen=True, slots=True)
class TextConfig:
    """The BERT stack; ``vocabulary`` counts word pieces."""

    vocabulary: int = 2000
    width: int = 64
    depth: int = 2
    heads: int = 4
    feed_forward: int = 256
    max_tokens: int = 128


@dataclass(frozen=True, slots=True)
class ValuesConfig:
    """The measurement encoder; ``codes`` counts distinct codes with a statistic."""

    codes: int = 32
    bins: int = 8
    depth: int = 2
    heads: int = 4


@dataclass(frozen=True, slots=True)
class TriModalConfig:
    """The whole network; ``width`` is the shared space D of the fusion module."""

    labels: tuple[str, ...] = ("pneumonia",)
    width: int = 64
    heads: int = 4
    layers: int = 1
    decoder_layers: int = 2
    dropout: float = 0.0
    image: ImageConfig = field(default_factory=ImageConfig)
    text: TextConfig = field(default_factory=TextConfig)
    values: ValuesConfig = field(default_factory=ValuesConfig)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {**asdict(self), "labels": list(self.labels)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TriModalConfig:
        """Rebuild from :meth:`to_json`.

        Raises:
            ConfigurationError: a field is unknown, missing or of the wrong shape.
        """
        try:
            rest = dict(data)
            return cls(
                labels=tuple(rest.pop("labels")),
                image=ImageConfig(**rest.pop("image")),
                text=TextConfig(**rest.pop("text")),
                values=ValuesConfig(**rest.pop("values")),
                **rest,
            )
        except (KeyError, TypeError) as error:
            raise ConfigurationError("network configuration is malformed") from error


def preset(
    name: str, *, vocabulary: int, codes: int, labels: tuple[str, ...]
) -> TriModalConfig:
    """The configuration of one preset for a fitted vocabulary.

    Args:
        name: "tiny", "small" or "base".
        vocabulary: Number of word pieces.
        codes: Number of measurement codes.
        labels: Label codes, one output each.

    Raises:
        ConfigurationError: no such preset.
    """
    values = ValuesConfig(codes=codes)
    if name == "tiny":
        return TriModalConfig(
            labels=labels, text=TextConfig(vocabulary=vocabulary), values=values
        )
    if name == "small":
        return TriModalConfig(
            labels=labels,
            width=256,
            layers=2,
            dropout=0.1,
            image=ImageConfig(size=224, patch=16, width=192, depth=12, heads=3),
            text=TextConfig(vocabulary, 256, 6, 4, 1024, 256),
            values=ValuesConfig(codes=codes, heads=4),
        )
    if name == "base":
        return TriModalConfig(
            labels=labels,
            width=256,
            heads=8,
            layers=3,
            dropout=0.1,
            image=ImageConfig(size=224, patch=16, width=768, depth=12, heads=12),
            text=TextConfig(vocabulary, 768, 12, 12, 3072, 512),
            values=ValuesConfig(codes=codes, heads=8),
        )
    raise ConfigurationError(f"preset must be one of {', '.join(PRESETS)}")
