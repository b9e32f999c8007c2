"""Pictures of a case folder as grey levels in [0, 1], whatever their depth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.Image import DecompressionBombError

from model.errors import DatasetError

_DEEP = 65535.0
_BYTE = 255.0


def read_grey(path: Path) -> tuple[NDArray[np.float32], str]:
    """One picture.

    Sixteen-bit films keep their grey levels: a conversion to eight bits clips them to
    white, and a white film would be trained on and shown (silent damage).

    Returns:
        (H, W) float32 in [0, 1], and the file's format ("JPEG", "PNG", ...).

    Raises:
        DatasetError: no picture, floating-point levels of unknown meaning, or levels
            beyond sixteen bits.
    """
    try:
        with Image.open(path) as picture:
            name, mode = picture.format or "", picture.mode
            if mode == "F":
                raise DatasetError(f"{path.name}: floating-point grey levels")
            deep = mode.startswith("I")
            levels = np.asarray(picture if deep else picture.convert("L"))
    except (OSError, ValueError, SyntaxError, DecompressionBombError) as error:
        raise DatasetError(f"{path.name}: no readable image") from error
    if levels.max(initial=0) > _DEEP:
        raise DatasetError(f"{path.name}: grey levels beyond sixteen bits")
    top = _DEEP if mode.startswith("I;16") or levels.max(initial=0) > _BYTE else _BYTE
    grey: NDArray[np.float32] = (levels.astype(np.float32) / top).clip(0.0, 1.0)
    return grey, name
