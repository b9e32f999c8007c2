"""Changes of a film: mild ones that must not matter, gross ones that must be caught.

Each takes the pixels (H, W) in [0, 1] and a random stream, and returns new pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fhir_adapters.patient_record import PatientRecord

Plane = NDArray[np.float32]
FilmShift = Callable[[Plane, np.random.Generator], Plane]

NOISE, STRONG_NOISE = 0.03, 0.10
JPEG_QUALITY = 60
DEGREES = 10.0
CONTRAST = 0.7
GAMMA = 0.85


def with_film(
    record: PatientRecord, shift: FilmShift, random: np.random.Generator
) -> PatientRecord:
    """The record with every film changed."""
    images = tuple(
        replace(image, pixels=_kept(shift(image.pixels, random)))
        for image in record.images
    )
    return replace(record, images=images)


def _kept(pixels: Plane) -> Plane:
    """Within [0, 1], as float32."""
    result: Plane = np.clip(pixels, 0.0, 1.0).astype(np.float32)
    return result


def gaussian_noise(pixels: Plane, random: np.random.Generator) -> Plane:
    """White noise of 3 % of the grey scale."""
    return _noisy(pixels, random, NOISE)


def strong_noise(pixels: Plane, random: np.random.Generator) -> Plane:
    """White noise of 10 % of the grey scale."""
    return _noisy(pixels, random, STRONG_NOISE)


def _noisy(pixels: Plane, random: np.random.Generator, scale: float) -> Plane:
    noise: Plane = random.normal(0.0, scale, pixels.shape).astype(np.float32)
    return pixels + noise


def jpeg(pixels: Plane, random: np.random.Generator) -> Plane:
    """Eight bits and JPEG compression."""
    grey = Image.fromarray(np.round(pixels * 255).astype(np.uint8))
    file = BytesIO()
    grey.save(file, "JPEG", quality=JPEG_QUALITY)
    read = np.asarray(Image.open(file), dtype=np.float32)
    return read / np.float32(255)


def rotation(pixels: Plane, random: np.random.Generator) -> Plane:
    """Ten degrees to either side; what comes in from outside is dark, as air."""
    degrees = DEGREES if random.random() < 0.5 else -DEGREES
    turned = Image.fromarray(pixels).rotate(degrees, Image.Resampling.BILINEAR)
    return np.asarray(turned, dtype=np.float32)


def contrast(pixels: Plane, random: np.random.Generator) -> Plane:
    """Contrast reduced to 70 % around the mean."""
    mean = np.float32(pixels.mean())
    return mean + np.float32(CONTRAST) * (pixels - mean)


def inversion(pixels: Plane, random: np.random.Generator) -> Plane:
    """A negative whose header says nothing of it."""
    return np.float32(1) - pixels


def blank(pixels: Plane, random: np.random.Generator) -> Plane:
    """Nothing at all."""
    return np.zeros_like(pixels)


def white_noise(pixels: Plane, random: np.random.Generator) -> Plane:
    """Uniform noise instead of a film."""
    return random.random(pixels.shape).astype(np.float32)


def hand(pixels: Plane, random: np.random.Generator) -> Plane:
    """Another body part: a palm and five bright fingers on a dark ground."""
    x, y = _coordinates(pixels.shape)
    picture = 0.55 * (((x - 0.5) / 0.22) ** 2 + ((y - 0.72) / 0.20) ** 2 < 1)
    for number in range(5):
        centre = 0.28 + 0.11 * number
        tip = 0.20 + 0.05 * abs(number - 2) + 0.02 * random.random()
        finger = (np.abs(x - centre) < 0.035) & (y > tip) & (y < 0.66)
        bone = (np.abs(x - centre) < 0.015) & (y > tip + 0.02) & (y < 0.64)
        picture = np.maximum(picture, 0.45 * finger + 0.35 * bone)
    return _noisy(0.04 + picture.astype(np.float32), random, 0.012)


def limb(pixels: Plane, random: np.random.Generator) -> Plane:
    """Another body part: soft tissue around two long bones."""
    x, y = _coordinates(pixels.shape)
    lean = 0.06 * (random.random() - 0.5)
    middle = 0.5 + lean * (y - 0.5)
    picture = 0.35 * (np.abs(x - middle) < 0.20) + 0.0 * y
    for offset in (-0.08, 0.07):
        picture = picture + 0.45 * (np.abs(x - middle - offset) < 0.035)
    return _noisy(0.04 + picture.astype(np.float32), random, 0.012)


def _coordinates(shape: tuple[int, ...]) -> tuple[Plane, Plane]:
    """Pixel centres in fractions of the sides, (H, W) each."""
    y, x = np.meshgrid(
        (np.arange(shape[0]) + 0.5) / shape[0],
        (np.arange(shape[1]) + 0.5) / shape[1],
        indexing="ij",
    )
    return x.astype(np.float32), y.astype(np.float32)


def stamped(pixels: Plane, random: np.random.Generator) -> Plane:
    """A burnt-in tag in the lower left corner, which means nothing."""
    side = pixels.shape[0]
    result = pixels.copy()
    unit = max(1, side // 64)
    top, left = side - 8 * unit, 2 * unit
    for bar in range(3):
        start = left + 3 * bar * unit
        result[top : top + 5 * unit, start : start + 2 * unit] = 0.98
    return result


def other_scanner(pixels: Plane, random: np.random.Generator) -> Plane:
    """Another site's look: a brighter curve, a little less contrast, its own tag."""
    bright = np.clip(pixels, 0, 1) ** np.float32(GAMMA)
    return stamped(np.float32(0.02) + np.float32(0.95) * bright, random)
