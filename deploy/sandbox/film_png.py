"""A stored radiograph as the PNG that the chart page shows.

Rescale, window, inversion for MONOCHROME1, then eight bits: the order of DICOM PS3.3,
section C.11. For looking at on a page only; nothing is decided from these pixels.
"""

from __future__ import annotations

from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut

from deploy.sandbox.errors import RequestError


@lru_cache(maxsize=64)
def film_png(path: Path, longest: int) -> bytes:
    """PNG of the first frame, scaled so that its longest side is at most ``longest``.

    Raises:
        RequestError: 422, the pixels cannot be decoded.
    """
    dataset = pydicom.dcmread(path)
    try:
        pixels = dataset.pixel_array
    except (AttributeError, ValueError, RuntimeError, NotImplementedError) as error:
        raise RequestError(422, "processing", "image cannot be decoded") from error
    if int(dataset.get("NumberOfFrames", 1) or 1) > 1:
        pixels = pixels[0]
    image = Image.fromarray(_grey(dataset, pixels))
    image.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    buffer = BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _grey(dataset: pydicom.Dataset, pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """(H, W) uint8, bright means dense; colour is averaged."""
    values = apply_voi_lut(apply_modality_lut(pixels, dataset), dataset)
    values = np.asarray(values, dtype=np.float32)
    if values.ndim == 3:
        values = values.mean(axis=2)
    low, high = float(values.min()), float(values.max())
    scaled = (values - low) / (high - low) if high > low else np.zeros_like(values)
    if dataset.get("PhotometricInterpretation") == "MONOCHROME1":
        scaled = 1.0 - scaled
    return np.rint(scaled * 255).astype(np.uint8)
