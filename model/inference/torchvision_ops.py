"""Let timm and transformers import beside a torchvision built for another torch.

Both import torchvision unconditionally. The torchvision wheel of the public registry is
linked against CUDA; beside a CPU build of torch its extension does not load, two
operators stay undeclared, and the import ends in "operator torchvision::nms does not
exist". Declaring the operators (not implementing them: nothing here detects boxes)
cures it. With a matching pair nothing is done, because declaring twice would clash.
"""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path

import torch

_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


@functools.cache
def declare_missing_operators() -> torch.library.Library | None:
    """Declare ``nms`` and ``qnms`` when torchvision's own extension cannot load.

    Returns:
        The library that holds the declarations (cached, because they live as long as
        it does), or None where nothing was missing.
    """
    spec = importlib.util.find_spec("torchvision")  # finds, does not import
    if spec is None or not spec.submodule_search_locations:
        return None
    for extension in Path(spec.submodule_search_locations[0]).glob("_C*.so"):
        try:
            torch.ops.load_library(str(extension))  # type: ignore[no-untyped-call]
        except OSError:
            continue
        return None
    library = torch.library.Library(  # type: ignore[no-untyped-call]
        "torchvision", "DEF"
    )
    for name in ("nms", "qnms"):
        library.define(name + _SCHEMA)  # type: ignore[no-untyped-call]
    return library
