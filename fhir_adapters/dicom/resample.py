"""Square pixels: oblong ones would show an oblong heart (loader rule 15)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fhir_adapters.dicom.instance import MAX_PIXELS
from fhir_adapters.errors import ImageUnreadableError

MAX_ASPECT = 4.0


def square_pixels(
    pixels: NDArray[np.float32], vertical: float, horizontal: float
) -> NDArray[np.float32]:
    """Stretch the side whose pixels are longer, linearly.

    Args:
        pixels: (H, W).
        vertical: Height of a pixel, in the unit of ``horizontal`` (PS3.3 C.7.6.3.1.7).
        horizontal: Width of a pixel.

    Returns:
        (H', W) or (H, W').

    Raises:
        ImageUnreadableError: "pixel_aspect_ratio", beyond 4 to 1 or not positive;
            "size_not_supported" when the result would be too large.
    """
    if min(vertical, horizontal) <= 0:
        raise ImageUnreadableError("pixel_aspect_ratio")
    ratio = vertical / horizontal
    if not 1 / MAX_ASPECT <= ratio <= MAX_ASPECT:
        raise ImageUnreadableError("pixel_aspect_ratio")
    if pixels.size * max(ratio, 1 / ratio) > MAX_PIXELS:
        raise ImageUnreadableError("size_not_supported")
    if ratio >= 1:
        return _stretch_rows(pixels, ratio)
    return np.ascontiguousarray(_stretch_rows(pixels.T, 1 / ratio).T)


def _stretch_rows(pixels: NDArray[np.float32], factor: float) -> NDArray[np.float32]:
    """(H, W) -> (round(H * factor), W), sample centres aligned."""
    height = pixels.shape[0]
    wanted = max(round(height * factor), 1)
    centers = (np.arange(wanted) + 0.5) * (height / wanted) - 0.5
    centers = np.clip(centers, 0, height - 1)
    above = np.floor(centers).astype(np.int64)
    below = np.minimum(above + 1, height - 1)
    weight = (centers - above).astype(np.float32)[:, None]
    rows: NDArray[np.float32] = pixels[above] * (1 - weight) + pixels[below] * weight
    return rows
