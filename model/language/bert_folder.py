"""BERT folders on disk: ``config.json``, ``model.safetensors``, ``vocab.txt``.

The layout that transformers reads, so that a folder made here opens there and a
published one (BioBERT, ClinicalBERT) opens here. Nothing is ever downloaded, and only
safetensors are read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor

from model.errors import CheckpointError
from model.inference.local_pieces import read_pieces
from model.inference.torchvision_ops import declare_missing_operators
from model.inference.vocabulary import VOCABULARY_FILE
from model.language.word_pieces import tokenizer_of
from model.network.config import TextConfig

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
TOKENIZER_FILE = "tokenizer_config.json"
_PREFIX = "bert."


@dataclass(frozen=True, slots=True)
class BertFolder:
    """An encoder (a transformers BertModel without pooler) and how its text is read."""

    encoder: Any
    pieces: tuple[str, ...]
    lower_case: bool

    @property
    def width(self) -> int:
        """Size of a token's state."""
        return int(self.encoder.config.hidden_size)

    @property
    def max_tokens(self) -> int:
        """Longest input, special tokens included."""
        return int(self.encoder.config.max_position_embeddings)

    def tokenizer(self) -> Tokenizer:
        """Splits text into pieces, without special tokens."""
        return tokenizer_of(self.pieces, lower_case=self.lower_case)


def transformers_classes() -> Any:
    """The transformers module, imported after the operators that it needs exist."""
    declare_missing_operators()
    import transformers

    return transformers


def new_masked_model(config: TextConfig, *, dropout: float = 0.0) -> Any:
    """A randomly initialised BertForMaskedLM of the given sizes."""
    classes = transformers_classes()
    return classes.BertForMaskedLM(
        classes.BertConfig(
            vocab_size=config.vocabulary,
            hidden_size=config.width,
            num_hidden_layers=config.depth,
            num_attention_heads=config.heads,
            intermediate_size=config.feed_forward,
            max_position_embeddings=config.max_tokens,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=0.0,
        )
    )


def save_bert(
    folder: Path,
    config: Any,
    state: Mapping[str, Tensor],
    pieces: Sequence[str],
    *,
    lower_case: bool = True,
) -> None:
    """Write a folder that transformers and :func:`load_bert` read.

    Args:
        folder: Made when it is not there.
        config: A transformers BertConfig.
        state: Weights; those of the encoder under ``bert.``.
        pieces: The vocabulary.
        lower_case: How text is read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config.to_json_file(str(folder / CONFIG_FILE), use_diff=False)
    kept = {name: w.detach().contiguous() for name, w in state.items()}
    save_file(kept, folder / WEIGHTS_FILE, metadata={"format": "pt"})
    _save_pieces(folder, pieces, lower_case, int(config.max_position_embeddings))


def save_head(
    out: Path, bert: Any, state: Mapping[str, Tensor], start: BertFolder
) -> None:
    """Write an encoder with its head, to be read with the vocabulary it began with.

    Args:
        out: Made when it is not there.
        bert: The encoder, a transformers BertModel.
        state: Weights of encoder (under ``bert.``) and head.
        start: Where the encoder came from.
    """
    bert.config.architectures = ["BertModel"]
    save_bert(out, bert.config, state, start.pieces, lower_case=start.lower_case)


def _save_pieces(
    folder: Path, pieces: Sequence[str], lower_case: bool, max_tokens: int
) -> None:
    """``vocab.txt`` and how transformers shall read with it."""
    text = "".join(piece + "\n" for piece in pieces)
    (folder / VOCABULARY_FILE).write_text(text, encoding="utf-8")
    described = {
        "do_lower_case": lower_case,
        "model_max_length": max_tokens,
        "tokenizer_class": "BertTokenizer",
    }
    (folder / TOKENIZER_FILE).write_text(
        json.dumps(described, indent=1) + "\n", encoding="utf-8"
    )


def masked_state(model: Any) -> dict[str, Tensor]:
    """Weights of a BertForMaskedLM without the two that are tied to others."""
    tied = ("cls.predictions.decoder.weight", "cls.predictions.decoder.bias")
    return {n: w for n, w in model.state_dict().items() if n not in tied}


def load_bert(folder: Path) -> BertFolder:
    """Open a BERT folder; heads for masked words and the pooler are left aside.

    Raises:
        RemoteModelError: no such folder on this disk; nothing is ever downloaded.
        CheckpointError: a file is missing or malformed, the weights do not fit, or the
            folder asks for code of its own.
    """
    pieces, lower_case = read_pieces(folder)
    config = _json(folder / CONFIG_FILE)
    if config.get("model_type", "bert") != "bert" or "auto_map" in config:
        raise CheckpointError("the folder holds no BERT")
    classes = transformers_classes()
    try:
        encoder = classes.BertModel(
            classes.BertConfig(**config), add_pooling_layer=False
        )
    except (TypeError, ValueError) as error:
        raise CheckpointError("config.json describes no BERT") from error
    if len(pieces) > encoder.config.vocab_size:
        raise CheckpointError("vocab.txt holds more pieces than the encoder")
    state = encoder_state(read_weights(folder / WEIGHTS_FILE))
    try:
        encoder.load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointError("the weights do not fit config.json") from error
    return BertFolder(encoder, pieces, lower_case)


def encoder_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The encoder's own weights in single precision, without its ``bert.`` prefix."""
    named = {name.removeprefix(_PREFIX): w for name, w in state.items()}
    return {
        name.replace("gamma", "weight").replace("beta", "bias"): w.float()
        for name, w in named.items()
        if name.startswith(("embeddings.", "encoder."))
        and not name.endswith("position_ids")
    }


def text_config(bert: BertFolder) -> TextConfig:
    """The sizes as the tri-modal network's text stream wants them."""
    config = bert.encoder.config
    return TextConfig(
        vocabulary=config.vocab_size,
        width=config.hidden_size,
        depth=config.num_hidden_layers,
        heads=config.num_attention_heads,
        feed_forward=config.intermediate_size,
        max_tokens=config.max_position_embeddings,
    )


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file.

    Raises:
        CheckpointError: missing or damaged.
    """
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path.name} cannot be read") from error


def export_half(folder: Path, out: Path) -> int:
    """Copy a BERT folder with its weights in float16; returns bytes of the weights.

    Raises:
        CheckpointError: the folder is no BERT folder.
    """
    bert, config = load_bert(folder), _json(folder / CONFIG_FILE)
    out.mkdir(parents=True, exist_ok=True)
    state = read_weights(folder / WEIGHTS_FILE)
    halves = {name: w.to(torch.float16).contiguous() for name, w in state.items()}
    save_file(halves, out / WEIGHTS_FILE, metadata={"format": "pt"})
    config["dtype"] = "float16"
    (out / CONFIG_FILE).write_text(json.dumps(config, indent=1) + "\n")
    _save_pieces(out, bert.pieces, bert.lower_case, bert.max_tokens)
    return (out / WEIGHTS_FILE).stat().st_size


def _json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path.name} cannot be read") from error
    if not isinstance(data, dict):
        raise CheckpointError(f"{path.name} is malformed")
    return data
