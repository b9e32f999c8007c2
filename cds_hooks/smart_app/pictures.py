"""The film and its overlay as PNG; pure, numpy and Pillow only."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.jobs.explanation import HeatMap

MAX_SIDE = 1024
WARM = (255, 96, 32)
STRONGEST_ALPHA = 170


def film_png(pixels: NDArray[np.float32]) -> bytes:
    """One radiograph as an 8-bit grey PNG, at most 1024 pixels on its longer side.

    Args:
        pixels: (H, W) in [0, 1], bright means dense.
    """
    grey = np.round(np.clip(pixels, 0.0, 1.0) * 255).astype(np.uint8)
    picture = Image.fromarray(grey, "L")
    picture.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
    return _png(picture)


def overlay_png(heat_map: HeatMap, shape: tuple[int, int]) -> bytes | None:
    """The heat map as a transparent PNG of the film's proportions, None when blank.

    The scale is the map's own peak, and only maps above the evidence floor get here:
    stretching a map of noise to full colour would show evidence where there is none.

    Args:
        heat_map: patch grid with its box on the native image.
        shape: (H, W) of the native image.
    """
    if heat_map.blank or heat_map.peak <= 0:
        return None
    height, width = _display_size(shape)
    left, top, box_width, box_height = heat_map.box
    grid = np.asarray(heat_map.grid, dtype=np.float32) / heat_map.peak
    size = (max(1, round(box_width * width)), max(1, round(box_height * height)))
    patch = Image.fromarray(np.clip(grid, 0, 1)).resize(size, Image.Resampling.BILINEAR)
    alpha = Image.new("F", (width, height), 0.0)
    alpha.paste(patch, (round(left * width), round(top * height)))
    strength = np.asarray(alpha) * STRONGEST_ALPHA
    pixels = np.zeros((height, width, 4), dtype=np.uint8)
    pixels[..., :3] = WARM
    pixels[..., 3] = np.clip(strength, 0, 255).astype(np.uint8)
    return _png(Image.fromarray(pixels, "RGBA"))


def _display_size(shape: tuple[int, int]) -> tuple[int, int]:
    height, width = shape
    scale = min(1.0, MAX_SIDE / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=False)
    return buffer.getvalue()
