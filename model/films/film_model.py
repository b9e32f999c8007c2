"""The film model: our image encoder, its pool, and one head per source.

A film goes through ``ImageEncoder`` and ``AttentionPool`` exactly as in the tri-modal
network, so that both can be put in its place. Each source has its own head, because
its questions mean something else there. B films, N patches, D width.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from model.errors import CheckpointError, ConfigurationError
from model.films.folder import KERMANY, NIH, QUESTIONS
from model.network.blocks import AttentionPool
from model.network.config import ImageConfig, TriModalConfig
from model.network.image_encoder import ImageEncoder

WEIGHTS_FILE, CONFIG_FILE = "weights.safetensors", "config.json"

#: A narrow ResNet-18 whose last stage keeps its resolution: 12 x 12 patches of a film
#: of 192 pixels. Convolutions, because two thousand adult films teach a transformer
#: from scratch too little; no step from 12 to 6, because a map must point.
FILM_IMAGE = ImageConfig(
    size=192,
    backbone="resnet18",
    arguments=(("channels", (32, 64, 128, 160)), ("output_stride", 16)),
)
_BATCH = 64


@dataclass(frozen=True, slots=True)
class FilmConfig:
    """Sizes of a film model; ``sources`` have a head each, in this order."""

    image: ImageConfig = FILM_IMAGE
    width: int = 256
    sources: tuple[str, ...] = (NIH, KERMANY)
    dropout: float = 0.3
    research_only: bool = False

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> FilmConfig:
        """Rebuild from :meth:`to_json`.

        Raises:
            ConfigurationError: a field is missing, unknown or of the wrong kind.
        """
        try:
            rest = dict(data)
            whole = TriModalConfig().to_json() | {"image": rest.pop("image")}
            image = TriModalConfig.from_json(whole).image
            return cls(image=image, sources=tuple(rest.pop("sources")), **rest)
        except (KeyError, TypeError) as error:
            raise ConfigurationError("film configuration is malformed") from error


class FilmModel(nn.Module):
    """(B, 1, S, S) films to tokens, a state, and the answers of each source."""

    def __init__(self, config: FilmConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = ImageEncoder(config.image, config.width)
        self.pool = AttentionPool(config.width)
        self.drop = nn.Dropout(config.dropout)
        self.heads = nn.ModuleList(
            nn.Linear(config.width, len(QUESTIONS[s])) for s in config.sources
        )

    def tokens(self, films: Tensor) -> Tensor:
        """(B, 1, S, S) standardised films -> patch tokens (B, N, D)."""
        there = torch.ones(len(films), 1, dtype=torch.bool, device=films.device)
        tokens: Tensor = self.encoder(films.unsqueeze(1), there)[0]  # (B, N, D)
        return tokens

    def answers(self, tokens: Tensor) -> tuple[Tensor, ...]:
        """Patch tokens (B, N, D) -> one (B, questions) of logits per source."""
        mask = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        state = self.drop(self.pool(tokens, mask))  # (B, D)
        return tuple(head(state) for head in self.heads)

    def forward(self, films: Tensor) -> tuple[Tensor, ...]:
        """(B, 1, S, S) -> one (B, questions) of logits per source."""
        return self.answers(self.tokens(films))

    def place(self, source: str) -> int:
        """The place of a source among the heads.

        Raises:
            ConfigurationError: the model has no head for it.
        """
        if source not in self.config.sources:
            raise ConfigurationError(f"no head for {source}")
        return self.config.sources.index(source)


@dataclass(frozen=True)
class FilmRun:
    """A trained film model and what its training says about itself."""

    model: FilmModel
    record: Mapping[str, Any] = field(default_factory=dict)


def save_run(folder: Path, run: FilmRun, *, half: bool = False) -> None:
    """Write weights and configuration; ``half`` stores the weights as float16."""
    folder.mkdir(parents=True, exist_ok=True)
    kind = torch.float16 if half else torch.float32
    state = {
        name: (x.to(kind) if x.is_floating_point() else x).detach().cpu().contiguous()
        for name, x in run.model.state_dict().items()
    }
    (folder / WEIGHTS_FILE).write_bytes(save_tensors(state))
    data = {"network": run.model.config.to_json(), "record": dict(run.record)}
    text = json.dumps(data, indent=2) + "\n"
    (folder / CONFIG_FILE).write_text(text, encoding="utf-8")


def load_run(folder: Path) -> FilmRun:
    """Read what :func:`save_run` wrote; the model comes in evaluation mode.

    Raises:
        CheckpointError: missing, malformed, or weights of another network.
    """
    try:
        data = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        model = FilmModel(FilmConfig.from_json(data["network"]))
        state = load_tensors((folder / WEIGHTS_FILE).read_bytes())
        wanted = model.state_dict()
        cast = {
            n: x.to(wanted[n].dtype) if n in wanted else x for n, x in state.items()
        }
        model.load_state_dict(cast, strict=True)
    except (
        OSError,
        ValueError,
        KeyError,
        SafetensorError,
        RuntimeError,
        ConfigurationError,
    ) as error:
        raise CheckpointError("the film run is incomplete or does not fit") from error
    return FilmRun(model.eval(), data["record"])


def begin_from(model: FilmModel, start: FilmModel) -> None:
    """Copy the weights of another run, and its heads for sources that both know.

    The encoder may have read films of another size, and ``start`` may know fewer
    sources: the other heads stay as they are.

    Raises:
        ConfigurationError: the encoders are not the same network.
    """
    state = model.state_dict()
    given = start.state_dict()
    heads = {
        f"heads.{model.place(source)}.{kind}": given[f"heads.{number}.{kind}"]
        for number, source in enumerate(start.config.sources)
        if source in model.config.sources
        for kind in ("weight", "bias")
    }
    body = {n: x for n, x in given.items() if not n.startswith("heads.")}
    try:
        model.load_state_dict(state | body | heads)
    except RuntimeError as error:
        raise ConfigurationError("the run to begin with does not fit") from error
