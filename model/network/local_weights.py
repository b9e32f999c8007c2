"""Weights of one encoder from this disk: an image backbone, or a BERT folder.

Rules this module enforces:

1. A path on this disk or nothing: a model name of some hub is refused, and no call here
   can open a connection (attack: weights swapped at a third party).
2. safetensors only: a torch file is a pickle and must be converted first (attack: code
   in a pickle); a text folder with code of its own (``auto_map``) is refused.
3. Every weight of the encoder must be found in the file with its shape; only what an
   encoder has no use for (a classifier, a pooler, a language-model head) may be left
   over. A file that fits half would leave the other half random without a word.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from model.errors import EncoderWeightsError, RemoteModelError
from model.network.config import ARCHITECTURES, TextConfig
from model.network.image_encoder import ImageEncoder
from model.network.text_encoder import TextEncoder

WEIGHT_FILES = ("model.safetensors", "pytorch_model.safetensors")
_PREFIXES = ("module.", "_orig_mod.")
_TEXT_LEFT_OVER = ("pooler.", "cls.", "position_ids", "embeddings.position_ids")
_IMAGE_LEFT_OVER = ("head", "fc.", "fc_norm.", "classifier", "pre_logits.", "norm_pre.")


def local_path(name: Path | str) -> Path:
    """The path, when it is on this disk (rule 1).

    Raises:
        RemoteModelError: there is no such file or folder.
    """
    path = Path(name)
    if not path.exists():
        raise RemoteModelError(
            "encoder weights must be a folder or file on this disk; none is downloaded"
        )
    return path


def read_weights(path: Path | str) -> dict[str, Tensor]:
    """All tensors of a weight file, or of the one weight file of a folder.

    Args:
        path: ``*.safetensors``, or a folder that holds one.

    Raises:
        RemoteModelError: nothing there (rule 1).
        EncoderWeightsError: no weights, several candidates, or a torch file (rule 2).
    """
    file = _weight_file(local_path(path))
    if file.suffix != ".safetensors":
        raise EncoderWeightsError(f"{file.name} is a pickle; convert it to safetensors")
    try:
        plain = load_file(file)
    except (OSError, SafetensorError) as error:
        raise EncoderWeightsError(f"{file.name} holds no readable weights") from error
    if not plain:
        raise EncoderWeightsError(f"{file.name} holds no named tensors")
    for prefix in _PREFIXES:
        plain = {k.removeprefix(prefix): v for k, v in plain.items()}
    return plain


def _weight_file(path: Path) -> Path:
    if path.is_file():
        return path
    for name in WEIGHT_FILES:
        if (path / name).is_file():
            return path / name
    others = [p for p in path.iterdir() if p.suffix in (".safetensors", ".pth", ".pt")]
    if len(others) != 1:
        raise EncoderWeightsError("the folder must hold exactly one weight file")
    return others[0]


def load_image_weights(encoder: ImageEncoder, path: Path | str) -> None:
    """Fill an image backbone from a timm checkpoint on this disk.

    The three colour channels of the first convolution are summed into one, and position
    tables and patch kernels resampled to this encoder's sizes, both by timm's own
    functions.

    Args:
        encoder: Its backbone changes; projection and view embeddings do not.
        path: File or folder, see :func:`read_weights`.

    Raises:
        RemoteModelError: nothing there.
        EncoderWeightsError: weights of another architecture.
    """
    backbone = encoder.vit
    state: dict[str, Tensor] = read_weights(path)
    convert = getattr(
        sys.modules[type(backbone).__module__], "checkpoint_filter_fn", None
    )
    try:
        if convert is not None:
            state = convert(state, backbone)
        state = _one_channel(state, backbone)
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise EncoderWeightsError("weights of another image architecture") from error
    _fill(backbone, state, _IMAGE_LEFT_OVER)


def _one_channel(state: dict[str, Tensor], backbone: Any) -> dict[str, Tensor]:
    """The first convolutions with their colour channels summed."""
    from timm.models import adapt_input_conv  # after the backbone was built

    first = backbone.pretrained_cfg.get("first_conv") or ()
    changed = dict(state)
    for name in (first,) if isinstance(first, str) else first:
        weight = changed.get(f"{name}.weight")
        if weight is not None and weight.ndim == 4 and weight.shape[1] == 3:
            changed[f"{name}.weight"] = adapt_input_conv(1, weight)
    return changed


def read_text_config(
    folder: Path | str, *, max_tokens: int = 256, windows: int = 1
) -> TextConfig:
    """The sizes of a BERT, ClinicalBERT or MegatronBERT folder.

    Args:
        folder: With a ``config.json`` as transformers writes it.
        max_tokens: Length of a window, at most the folder's position table.
        windows: Most windows of a note.

    Raises:
        RemoteModelError: no such folder.
        EncoderWeightsError: another architecture, missing sizes, or code of its own.
    """
    data = read_json(local_path(folder) / "config.json")
    if "auto_map" in data:  # rule 2: the folder would run its own code
        raise EncoderWeightsError("the folder asks for code of its own: refused")
    if data.get("model_type") not in ARCHITECTURES:
        raise EncoderWeightsError(f"model_type must be one of {ARCHITECTURES}")
    try:
        return TextConfig(
            vocabulary=int(data["vocab_size"]),
            width=int(data["hidden_size"]),
            depth=int(data["num_hidden_layers"]),
            heads=int(data["num_attention_heads"]),
            feed_forward=int(data["intermediate_size"]),
            max_tokens=min(max_tokens, int(data["max_position_embeddings"])),
            windows=windows,
            architecture=str(data["model_type"]),
            activation=str(data.get("hidden_act", "gelu")),
            positions=int(data["max_position_embeddings"]),
            types=int(data.get("type_vocab_size", 2)),
            epsilon=float(data.get("layer_norm_eps", 1e-12)),
            padding=int(data.get("pad_token_id") or 0),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise EncoderWeightsError("config.json lacks a size") from error


def load_text_weights(encoder: TextEncoder, folder: Path | str) -> None:
    """Fill a text stack from a folder on this disk.

    Args:
        encoder: Built with the folder's :func:`read_text_config`.
        folder: As transformers writes it.

    Raises:
        RemoteModelError: no such folder.
        EncoderWeightsError: weights of another architecture.
    """
    state = {}
    for name, tensor in read_weights(folder).items():
        name = name.removeprefix("bert.")
        # Names of the first BERT releases, which ClinicalBERT folders still carry.
        name = name.replace("LayerNorm.gamma", "LayerNorm.weight")
        state[name.replace("LayerNorm.beta", "LayerNorm.bias")] = tensor
    _fill(encoder.bert, state, _TEXT_LEFT_OVER)


def read_json(path: Path) -> dict[str, Any]:
    """One JSON object.

    Raises:
        EncoderWeightsError: missing, or no JSON object.
    """
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise EncoderWeightsError(f"{path.name} is missing or malformed") from error


def _fill(module: Any, state: Mapping[str, Tensor], left_over: Iterable[str]) -> None:
    """Load by name and shape (rule 3)."""
    wanted = module.state_dict()
    missing = sorted(set(wanted) - set(state))
    strange = [
        k for k in state if k not in wanted and not k.startswith(tuple(left_over))
    ]
    if missing or strange:
        raise EncoderWeightsError(
            f"weights do not fit: {len(missing)} missing, {len(strange)} unknown"
        )
    shaped = {name: state[name].to(wanted[name].dtype) for name in wanted}
    try:
        module.load_state_dict(shaped, strict=True)
    except RuntimeError as error:
        raise EncoderWeightsError("weights have other shapes") from error
