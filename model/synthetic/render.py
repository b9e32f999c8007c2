"""Chest-radiograph-like images with one planted lesion.

Geometry is in fractions of the image side, x to the right and y down; the left of the
image is the patient's right. Bright means dense. Size and brightness of the lesion
carry the severity that the image shows, its shape the image pattern; pacemaker, nipple
shadow and burnt-in marker mean nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from model.synthetic.case import Distractor, Film, Lobe
from model.synthetic.latents import ImagePattern, Severity

Plane = NDArray[np.float32]
Mask = NDArray[np.bool_]

MIN_SIZE, MAX_SIZE = 32, 224

# Lesion radius and added density by severity: three clearly apart.
RADIUS = {Severity.LOW: 0.062, Severity.AMBIGUOUS: 0.092, Severity.HIGH: 0.132}
DENSITY = {Severity.LOW: 0.26, Severity.AMBIGUOUS: 0.40, Severity.HIGH: 0.56}

# Where lesion centres may lie: x from, x to, y from, y to.
_LOBE_BOX = {
    Lobe.RIGHT_UPPER: (0.30, 0.37, 0.29, 0.38),
    Lobe.RIGHT_MIDDLE: (0.26, 0.36, 0.46, 0.53),
    Lobe.RIGHT_LOWER: (0.25, 0.35, 0.60, 0.69),
    Lobe.LEFT_UPPER: (0.63, 0.71, 0.29, 0.41),
    Lobe.LEFT_LOWER: (0.70, 0.77, 0.53, 0.66),
}

# Angular frequency of the reticular strands: one every 6.6 % of the image side.
_STRANDS = 2 * np.pi / 0.066

_GLYPHS = {
    "L": ("1000", "1000", "1000", "1000", "1111"),
    "R": ("1110", "1001", "1110", "1010", "1001"),
    "P": ("1110", "1001", "1110", "1000", "1000"),
    "A": ("0110", "1001", "1111", "1001", "1001"),
    "X": ("1001", "1001", "0110", "1001", "1001"),
    "3": ("1110", "0001", "0110", "0001", "1110"),
}
_SITE_TAGS = ("PA", "AX3", "PX")


@dataclass(frozen=True, slots=True)
class _Grid:
    """Coordinates of the pixel centres, (S, S) each."""

    x: Plane
    y: Plane


@lru_cache(maxsize=8)
def _grid(size: int) -> _Grid:
    centres = (np.arange(size) + 0.5) / size
    x, y = np.meshgrid(centres, centres)
    return _Grid(x.astype(np.float32), y.astype(np.float32))


@lru_cache(maxsize=16)
def _upsampling(coarse: int, size: int) -> Plane:
    """Smooth interpolation weights, (size, coarse)."""
    at = (np.arange(size) + 0.5) / size * (coarse - 1)
    gap = at[:, None] - np.arange(coarse)
    weights = np.exp(-0.5 * (gap / 0.6) ** 2)
    result: Plane = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    return result


def render_film(
    severity: Severity,
    pattern: ImagePattern,
    lobe: Lobe,
    rng: np.random.Generator,
    size: int = 64,
    distractor_rate: float = 0.15,
) -> Film:
    """Render one film with its lesion mask.

    Args:
        severity: Severity as the image shows it.
        pattern: Shape of the lesion as the image shows it.
        lobe: Lobe that holds the lesion.
        rng: Random stream of this case's film.
        size: Side in pixels, 32 to 224.
        distractor_rate: Chance of each kind of distractor.

    Raises:
        ValueError: The size is out of range.
    """
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise ValueError(f"image size {size} is not within {MIN_SIZE}-{MAX_SIZE}")
    grid = _grid(size)
    image = _anatomy(grid, rng)
    left, right, top, bottom = _LOBE_BOX[lobe]
    centre = (rng.uniform(left, right), rng.uniform(top, bottom))
    radius = RADIUS[severity] * rng.uniform(0.94, 1.06)
    lesion, mask = _lesion(grid, centre, radius, pattern, rng)
    lesion *= np.float32(DENSITY[severity] * rng.uniform(0.95, 1.05))
    # Dense tissue over the lesion leaves it less contrast.
    image = image + lesion * np.clip(1.2 - image, 0.3, 1.0)
    found = tuple(d for d in Distractor if rng.random() < distractor_rate)
    for distractor in found:
        image = _DRAW[distractor](image, grid, rng)
    image = image + _noise(size, 12, 0.03, rng) + _noise(size, 5, 0.04, rng)
    image += rng.normal(0.0, 0.012, image.shape).astype(np.float32)
    return Film(np.clip(image, 0.0, 1.0).astype(np.float32), mask, found)


def _step(distance: Plane, softness: float) -> Plane:
    """1 where ``distance`` is well below zero, 0 well above, soft between."""
    scaled = np.clip(distance / softness, -12, 12)
    result: Plane = (1 / (1 + np.exp(scaled))).astype(np.float32)
    return result


def _noise(size: int, coarse: int, scale: float, rng: np.random.Generator) -> Plane:
    """Low-frequency mottle, (S, S)."""
    weights = _upsampling(coarse, size)
    field = rng.normal(0.0, scale, (coarse, coarse)).astype(np.float32)
    result: Plane = (weights @ field @ weights.T).astype(np.float32)
    return result


def _ellipse(
    grid: _Grid, cx: float, cy: float, rx: float, ry: float, power: float = 2.0
) -> Plane:
    """Below zero inside a (super)ellipse, about the distance to it near its edge."""
    u, v = np.abs(grid.x - cx) / rx, np.abs(grid.y - cy) / ry
    power_sum: Plane = u**power + v**power
    norm = np.sqrt(power_sum) if power == 2.0 else power_sum ** (1 / power)
    result: Plane = ((norm - 1) * min(rx, ry)).astype(np.float32)
    return result


def _anatomy(grid: _Grid, rng: np.random.Generator) -> Plane:
    """Trunk, lungs, heart, spine, ribs and clavicles without any lesion."""
    shift = rng.normal(0.0, 0.006, 4).astype(np.float32)
    breadth, heart_size, exposure = rng.uniform(-1, 1, 3).astype(np.float32)
    x, y = grid.x - shift[0], grid.y - shift[1]
    here = _Grid(x, y)
    off_midline = np.abs(x - 0.5)
    trunk = _step(_ellipse(here, 0.5, 0.74, 0.48, 0.64, 3.0), 0.022)
    neck = _step(_ellipse(here, 0.5, 0.02, 0.13, 0.22, 3.0), 0.03)
    image = 0.05 + (0.60 + 0.03 * exposure) * np.maximum(trunk, neck)

    # The chest wall narrows to the apex; the diaphragm is higher on the right.
    depth = np.clip(1 - ((0.86 - y) / 0.75) ** 2, 0, 1)
    wall = (0.325 + 0.01 * breadth) * depth**0.42
    dome = np.where(x < 0.5, 0.785, 0.805) + 1.8 * (off_midline - 0.17) ** 2
    outside = np.maximum(off_midline - wall, 0.072 - off_midline)
    lungs = _step(outside, 0.013) * _step(y - dome - shift[2], 0.009)
    image = image - (0.43 + 0.02 * exposure) * lungs

    # The apex points down to the patient's left, the right border stays near the spine.
    tilted = _Grid(x - 0.35 * (y - 0.66), y)
    radius = 0.155 + 0.012 * heart_size
    heart = _step(_ellipse(tilted, 0.55, 0.69, radius, 0.165, 2.1), 0.018)
    knob = _step(_ellipse(here, 0.55, 0.31, 0.045, 0.05), 0.015)
    image = np.maximum(image, 0.60 * np.maximum(heart, 0.9 * knob))
    hila = np.exp(-(((off_midline - 0.085) / 0.035) ** 2 + ((y - 0.47) / 0.07) ** 2))
    image = image + 0.10 * hila * lungs
    image = image + 0.09 * _step(off_midline - 0.04, 0.015) * trunk

    arch = y + 0.9 * (off_midline - 0.22) ** 2 - 0.16 * off_midline
    ribs = np.cos(2 * np.pi * (arch / 0.095 + 20 * shift[3]))
    image = image + 0.08 * np.clip(ribs - 0.4, 0, None) * lungs
    clavicle = np.abs(y - 0.215 + 0.22 * (off_midline - 0.1)) - 0.012
    bones = _step(clavicle, 0.006) * _step(0.05 - off_midline, 0.008)
    result: Plane = (image + 0.09 * bones * trunk).astype(np.float32)
    return result


def _lesion(
    grid: _Grid,
    centre: tuple[float, float],
    radius: float,
    pattern: ImagePattern,
    rng: np.random.Generator,
) -> tuple[Plane, Mask]:
    """Density of the lesion, about -0.5 to 1, and the pixels that it covers."""
    dx, dy = grid.x - centre[0], grid.y - centre[1]
    angle = np.arctan2(dy, dx)
    turn = rng.uniform(0, 2 * np.pi, 2)
    wobble = 1 + 0.06 * np.cos(2 * angle + turn[0]) + 0.04 * np.cos(3 * angle + turn[1])
    distance = np.sqrt(dx * dx + dy * dy) / wobble
    disc = _step(distance - radius, 0.012)
    if pattern is ImagePattern.SOLID:
        density = disc
    elif pattern is ImagePattern.RING:
        density = 1.15 * disc - 1.45 * _step(distance - 0.56 * radius, 0.010)
    else:
        density = _reticulum(dx, dy, rng) * _step(distance - 1.15 * radius, 0.016)
    return density.astype(np.float32), distance <= 1.1 * radius


def _reticulum(dx: Plane, dy: Plane, rng: np.random.Generator) -> Plane:
    """Crossing bright strands with dark gaps, slightly bent."""
    turn, phase = rng.uniform(0.55, 1.0), rng.uniform(0, 2 * np.pi)
    u = dx * np.cos(turn) + dy * np.sin(turn)
    v = dy * np.cos(turn) - dx * np.sin(turn)
    bend = 0.009 * np.sin(27 * u + phase) + 0.006 * np.sin(41 * v + 2 * phase)
    one, other = np.cos(_STRANDS * (u - bend)), np.cos(_STRANDS * (v + bend))
    # Strands differ in strength, as no real network is even.
    uneven = 0.85 + 0.2 * np.sin(23 * (u - v) + phase)
    result: Plane = uneven * np.maximum(one, 0.8 * other) - 0.05
    return result


def _draw_pacemaker(image: Plane, grid: _Grid, rng: np.random.Generator) -> Plane:
    """A generator below one clavicle and its lead to the heart."""
    side = 1.0 if rng.random() < 0.8 else -1.0
    x0, y0 = 0.5 + side * 0.30, 0.22
    box = _step(_ellipse(grid, x0, y0, 0.045, 0.04, 4.0), 0.006)
    t = np.clip((grid.y - y0) / 0.52, 0, 1)
    path = x0 + (0.55 - x0) * t**0.6
    lead = _step(np.abs(grid.x - path) - 0.004, 0.004)
    lead = lead * ((grid.y > y0) & (grid.y < y0 + 0.52))
    result: Plane = np.maximum(image, 0.95 * np.maximum(box, 0.85 * lead))
    return result


def _draw_nipple(image: Plane, grid: _Grid, rng: np.random.Generator) -> Plane:
    """A small round shadow low on one side, fainter than any lesion."""
    x0 = 0.20 if rng.random() < 0.5 else 0.80
    y0 = rng.uniform(0.70, 0.75)
    spot = _step(_ellipse(grid, x0, y0, 0.022, 0.022), 0.008)
    result: Plane = image + 0.12 * spot
    return result


def _draw_marker(image: Plane, grid: _Grid, rng: np.random.Generator) -> Plane:
    """A side letter or site tag burnt into an upper corner."""
    on_left = rng.random() < 0.5
    text = (
        ("R" if on_left else "L") if rng.random() < 0.6 else str(rng.choice(_SITE_TAGS))
    )
    rows = ["0".join(_GLYPHS[letter][row] for letter in text) for row in range(5)]
    dots = np.array([[int(dot) for dot in row] for row in rows], dtype=np.float32)
    cell = max(1, round(image.shape[0] / 64))
    stamp = np.kron(dots, np.ones((cell, cell), dtype=np.float32))
    height, width = stamp.shape
    top = 2 * cell
    left = 2 * cell if on_left else image.shape[1] - width - 2 * cell
    result = image.copy()
    patch = result[top : top + height, left : left + width]
    np.maximum(patch, 0.98 * stamp, out=patch)
    return result


_DRAW = {
    Distractor.PACEMAKER: _draw_pacemaker,
    Distractor.NIPPLE: _draw_nipple,
    Distractor.MARKER: _draw_marker,
}
