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
ARCHITECTURES = ("bert", "megatron-bert")
SENSOR_COLUMNS = 3  # slope, minimum, maximum beside the encoded mean
FUSIONS = ("catm", "late", "concat", "cascade", "sequential", "bottleneck")


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """The image backbone; sizes are in pixels.

    ``backbone`` names a timm architecture, with ``arguments`` for its constructor; left
    empty it is a vision transformer of the sizes stated here, which mean nothing
    otherwise. ``views`` above 1 adds what tells lateral films, prior studies and slices
    apart. ``global_token`` hands each view's global state on as one more token.
    """

    size: int = 64
    patch: int = 8
    width: int = 64
    depth: int = 4
    heads: int = 4
    views: int = 1
    backbone: str = ""
    arguments: tuple[tuple[str, Any], ...] = ()
    global_token: bool = False

    @property
    def grid(self) -> int:
        """Patches along one side of the plain vision transformer."""
        return self.size // self.patch


@dataclass(frozen=True, slots=True)
class TextConfig:
    """The BERT stack; ``vocabulary`` counts word pieces.

    ``max_tokens`` is the length of one window, and a note is read through up to
    ``windows`` of them. ``architecture`` is one of ARCHITECTURES, ``positions`` the
    length of the position table (0: as long as a window), ``sections`` adds what kind
    of section a token stands in.
    """

    vocabulary: int = 2000
    width: int = 64
    depth: int = 2
    heads: int = 4
    feed_forward: int = 256
    max_tokens: int = 128
    windows: int = 1
    sections: bool = False
    architecture: str = "bert"
    activation: str = "gelu"
    positions: int = 0
    types: int = 2
    epsilon: float = 1e-12
    padding: int = 0


@dataclass(frozen=True, slots=True)
class ValuesConfig:
    """The measurement encoder; ``codes`` counts distinct codes with a statistic.

    ``absent`` gives expected items that were not measured a token of their own,
    ``sensors`` reads windows of a sensor by mean, slope, minimum and maximum.
    """

    codes: int = 32
    bins: int = 8
    depth: int = 2
    heads: int = 4
    absent: bool = False
    sensors: bool = False

    @property
    def columns(self) -> int:
        """Numbers per measurement: its bins, then what a sensor window adds."""
        return self.bins + (SENSOR_COLUMNS if self.sensors else 0)


@dataclass(frozen=True, slots=True)
class TriModalConfig:
    """The whole network; ``width`` is the shared space D of the fusion module.

    ``fusion`` is one of FUSIONS; configurations written before it existed mean "catm".

    Raises:
        ConfigurationError: no such fusion.
    """

    labels: tuple[str, ...] = ("pneumonia",)
    width: int = 64
    heads: int = 4
    layers: int = 1
    decoder_layers: int = 2
    dropout: float = 0.0
    image: ImageConfig = field(default_factory=ImageConfig)
    text: TextConfig = field(default_factory=TextConfig)
    values: ValuesConfig = field(default_factory=ValuesConfig)
    fusion: str = "catm"

    def __post_init__(self) -> None:
        if self.fusion not in FUSIONS:
            raise ConfigurationError(f"fusion must be one of {', '.join(FUSIONS)}")

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
                image=_image(rest.pop("image")),
                text=TextConfig(**rest.pop("text")),
                values=ValuesConfig(**rest.pop("values")),
                **rest,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigurationError("network configuration is malformed") from error


def _image(data: Mapping[str, Any]) -> ImageConfig:
    """The image part; JSON has lists where the configuration has tuples."""
    rest = dict(data)
    given = rest.pop("arguments", ())
    pairs = tuple((str(name), _frozen(value)) for name, value in given)
    return ImageConfig(**rest, arguments=pairs)


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


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
            image=ImageConfig(224, 16, 192, 12, 3, views=3),
            text=TextConfig(vocabulary, 256, 6, 4, 1024, 256, windows=2, sections=True),
            values=ValuesConfig(codes=codes, heads=4),
        )
    if name == "base":
        return TriModalConfig(
            labels=labels,
            width=256,
            heads=8,
            layers=3,
            dropout=0.1,
            image=ImageConfig(224, 16, 768, 12, 12, views=3),
            text=TextConfig(
                vocabulary, 768, 12, 12, 3072, 512, windows=2, sections=True
            ),
            values=ValuesConfig(codes=codes, heads=8),
        )
    raise ConfigurationError(f"preset must be one of {', '.join(PRESETS)}")
