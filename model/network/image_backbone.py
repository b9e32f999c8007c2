"""The image backbones: a ViT by its sizes, or any timm architecture by its name.

Nothing is ever downloaded: weights come from a local file (``local_weights.py``) or
from the checkpoint folder of the whole model.
"""

from __future__ import annotations

from typing import Any

import torch

from model.errors import ConfigurationError
from model.inference.torchvision_ops import declare_missing_operators
from model.network.config import ImageConfig

Backbone = Any  # a timm module; timm has no types


def build_backbone(config: ImageConfig) -> Backbone:
    """A backbone with one input channel and no classifier, randomly initialised.

    Args:
        config: ``backbone`` empty gives a vision transformer of the sizes stated; else
            the timm architecture of that name, with ``arguments`` passed on.

    Raises:
        ConfigurationError: timm has no such architecture, it does not take this image
            size or these arguments, or it gives no feature map.
    """
    declare_missing_operators()
    import timm  # after the operators exist

    if not config.backbone:
        return timm.create_model(
            "vit_tiny_patch16_224",
            pretrained=False,
            in_chans=1,
            num_classes=0,
            img_size=config.size,
            patch_size=config.patch,
            embed_dim=config.width,
            depth=config.depth,
            num_heads=config.heads,
        )
    # A name with a scheme ("hf-hub:...") would be fetched: only timm's own are taken.
    if not timm.is_model(config.backbone):
        raise ConfigurationError("timm has no image backbone of this name")
    settings: dict[str, Any] = {"in_chans": 1, "num_classes": 0}
    settings |= dict(config.arguments)
    try:
        sized = {**settings, "img_size": config.size}
        if not _takes_size(config.backbone):
            sized.pop("img_size")
        return timm.create_model(config.backbone, pretrained=False, **sized)
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        raise ConfigurationError(
            f"{config.backbone} cannot be built for {config.size} pixels"
        ) from error


def _takes_size(name: str) -> bool:
    """Whether an architecture is built for one image size; convolutions are not."""
    import timm

    settings = timm.models.get_pretrained_cfg(name)
    return bool(settings is not None and settings.fixed_input_size)


def grid_of(backbone: Backbone, size: int) -> tuple[int, int]:
    """Patches from top to bottom and from left to right.

    Raises:
        ConfigurationError: the backbone gives neither tokens on a grid nor a map.
    """
    embed = getattr(backbone, "patch_embed", None)
    prefix = getattr(backbone, "num_prefix_tokens", None)
    cells = getattr(embed, "grid_size", None)
    if prefix is not None and cells:
        rows, columns = cells
        return int(rows), int(columns)
    weight = next(backbone.parameters())
    training = backbone.training
    backbone.eval()  # a blank image must not enter running statistics
    try:
        with torch.no_grad():
            blank = torch.zeros(1, 1, size, size, device=weight.device)
            shape = tuple(backbone.forward_features(blank).shape)
    except (AssertionError, RuntimeError) as error:
        raise ConfigurationError(f"no features at {size} pixels") from error
    finally:
        backbone.train(training)
    if len(shape) != 4:
        raise ConfigurationError("the backbone gives no map of features")
    if getattr(backbone, "output_fmt", "NCHW") == "NHWC":
        return shape[1], shape[2]
    return shape[2], shape[3]
