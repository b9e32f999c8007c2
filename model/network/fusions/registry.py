"""The fusions by the name that the configuration gives them."""

from __future__ import annotations

from collections.abc import Callable

from model.network.config import TriModalConfig
from model.network.fusions.bottleneck import BottleneckFusion
from model.network.fusions.cascade import CascadeFusion
from model.network.fusions.catm import CatmFusion
from model.network.fusions.concat import ConcatFusion
from model.network.fusions.contract import FusionModule
from model.network.fusions.late import LateFusion
from model.network.fusions.sequential import SequentialFusion

REGISTRY: dict[str, Callable[[TriModalConfig], FusionModule]] = {
    "catm": CatmFusion,
    "late": LateFusion,
    "concat": ConcatFusion,
    "cascade": CascadeFusion,
    "sequential": SequentialFusion,
    "bottleneck": BottleneckFusion,
}


def build_fusion(config: TriModalConfig) -> FusionModule:
    """The fusion module that ``config.fusion`` names, randomly initialised."""
    return REGISTRY[config.fusion](config)
