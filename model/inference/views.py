"""Which films the model reads, and how a film or a slice becomes a square of pixels.

The current study comes first: its frontal film, then its lateral, then its other films;
films of other studies follow as priors, frontal ones before the rest, newest first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from fhir_adapters.patient_record import ChestImage, PatientRecord
from model.errors import ConfigurationError
from model.network.inputs import VIEW_KINDS, TriModalInputs

Pixels = NDArray[np.float32]
Box = tuple[float, float, float, float]

_FRONTAL = frozenset({"PA", "AP", "FRONTAL"})
_LATERAL = frozenset({"LATERAL", "LL", "RL"})
_ORDER = ("frontal", "lateral", "other")
_SECONDS_A_DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class View:
    """One film, what kind of view it is, and how many days older than the current."""

    image: ChestImage
    kind: str
    days: float = 0.0


@dataclass(frozen=True, slots=True)
class Slices:
    """Evenly spaced slices of one volume, ready to be views of one study.

    ``place`` is where a slice lies along the axis, from 0 (first) to 1 (last).
    """

    pixels: NDArray[np.float32]  # (V, 1, S, S) standardised
    place: NDArray[np.float32]  # (V,)
    box: NDArray[np.float32]  # (V, 4), see TriModalInputs.box
    index: tuple[int, ...]  # number of each slice in the volume


def letterbox(
    pixels: Pixels, size: int, scale: tuple[float, float] | None = None
) -> tuple[Pixels, Box]:
    """Fit an image into a square without distortion, by area resampling.

    Args:
        pixels: (H, W) in [0, 1].
        size: Side of the square.
        scale: Mean and deviation to standardise by; by default those of the content.

    Returns:
        (size, size) standardised pixels with the padding 0; and the square's place on
        the native image as (left, top, width, height) in fractions of its width and
        height.
    """
    height, width = pixels.shape
    side = max(height, width)
    inner_w = max(1, round(width * size / side))
    inner_h = max(1, round(height * size / side))
    left, top = (size - inner_w) // 2, (size - inner_h) // 2
    content: Pixels = np.ascontiguousarray(pixels, dtype=np.float32)
    if (inner_h, inner_w) != (height, width):
        method = Image.Resampling.BOX if side > size else Image.Resampling.BILINEAR
        resized = Image.fromarray(content).resize((inner_w, inner_h), method)
        content = np.asarray(resized, dtype=np.float32)
    mean, spread = (content.mean(), content.std()) if scale is None else scale
    content = np.asarray((content - mean) / (spread + 1e-3), dtype=np.float32)
    square = np.zeros((size, size), dtype=np.float32)
    square[top : top + inner_h, left : left + inner_w] = content
    box = (-left / inner_w, -top / inner_h, size / inner_w, size / inner_h)
    return square, box


def chosen_views(record: PatientRecord, views: int) -> tuple[View, ...]:
    """The films that the model reads, in the order stated at the top of this module.

    The current study is that of the newest frontal film, or of the newest film where no
    frontal one exists; films without a date count as oldest, and among equals the order
    of the record stays.
    """
    if not record.images:
        return ()
    frontal = [i for i in record.images if _projection(i) == "frontal"]
    current = max(frontal or record.images, key=_taken)
    same: list[ChestImage] = []
    others: list[ChestImage] = []
    for image in record.images:
        if image is not current:
            own = image.study_uid == current.study_uid
            (same if own else others).append(image)
    same.sort(key=lambda i: _ORDER.index(_projection(i)))
    others.sort(key=lambda i: (_projection(i) != "frontal", -_taken(i)))
    chosen = [View(i, _projection(i)) for i in (current, *same)]
    chosen += [_earlier(image, current) for image in others]
    return tuple(chosen[:views])


def chosen_images(record: PatientRecord, views: int) -> tuple[ChestImage, ...]:
    """The films of :func:`chosen_views` alone."""
    return tuple(view.image for view in chosen_views(record, views))


def _projection(image: ChestImage) -> str:
    view = (image.view or "").upper()
    if view in _FRONTAL:
        return "frontal"
    return "lateral" if view in _LATERAL else "other"


def _taken(image: ChestImage) -> float:
    """Seconds since the epoch, older than everything where unknown."""
    return image.acquired_at.timestamp() if image.acquired_at else -math.inf


def _earlier(image: ChestImage, current: ChestImage) -> View:
    """A film of another study: a prior, unless it is newer than the current one."""
    seconds = _taken(current) - _taken(image)
    if seconds < 0:
        return View(image, _projection(image))
    days = seconds / _SECONDS_A_DAY if math.isfinite(seconds) else 0.0
    return View(image, "prior", days)


def slices_of(
    volume: NDArray[np.floating], *, window: tuple[float, float], views: int, size: int
) -> Slices:
    """A CT or MR series as views: windowed, evenly spaced, on one common scale.

    Args:
        volume: (slices, H, W) in the modality's own unit (Hounsfield units for CT).
        window: Centre and width of the intensity window (DICOM 0028,1050 and
            0028,1051).
        views: Most slices taken; a shorter volume gives all of its own.
        size: Side of each square.

    Returns:
        The slices, standardised by the mean and deviation of all of them together, so
        that a bright slice stays brighter than a dark one.

    Raises:
        ConfigurationError: no volume, an empty one, or a window without width.
    """
    centre, width = window
    if volume.ndim != 3 or not volume.size or width <= 0 or views < 1:
        raise ConfigurationError("slices need a volume, a window with width, a count")
    count = min(views, len(volume))
    middle = (np.arange(count) + 0.5) * len(volume) / count
    index = tuple(int(i) for i in np.floor(middle))
    low = centre - width / 2
    shown = np.clip((volume[list(index)] - low) / width, 0, 1).astype(np.float32)
    scale = (float(shown.mean()), float(shown.std()))
    squares = [letterbox(part, size, scale) for part in shown]
    return Slices(
        pixels=np.stack([square for square, _ in squares])[:, None],
        place=(np.array(index) / max(1, len(volume) - 1)).astype(np.float32),
        box=np.array([box for _, box in squares], dtype=np.float32),
        index=index,
    )


def with_slices(
    inputs: TriModalInputs, volumes: Sequence[tuple[Slices, str]]
) -> TriModalInputs:
    """The batch with the films of each record replaced by slices of a volume.

    Args:
        inputs: B records.
        volumes: Per record the slices and the reference of their series.

    Raises:
        ConfigurationError: not one volume per record.
    """
    if len(volumes) != len(inputs):
        raise ConfigurationError("there must be one volume per record")
    views = max(len(slices.index) for slices, _ in volumes)
    size = volumes[0][0].pixels.shape[-1]
    batch = len(inputs)
    pixels = torch.zeros(batch, views, 1, size, size)  # (B, V, 1, S, S)
    mask = torch.zeros(batch, views, dtype=torch.bool)  # (B, V)
    box = torch.tensor([0.0, 0.0, 1.0, 1.0]).repeat(batch, views, 1)  # (B, V, 4)
    place = torch.zeros(batch, views)  # (B, V)
    for row, (slices, _) in enumerate(volumes):
        count = len(slices.index)
        pixels[row, :count] = torch.from_numpy(slices.pixels)
        box[row, :count] = torch.from_numpy(slices.box)
        place[row, :count] = torch.from_numpy(slices.place)
        mask[row, :count] = True
    present = inputs.present.clone()  # (B, 3)
    present[:, 0] = True
    return replace(
        inputs,
        pixels=pixels,
        pixel_mask=mask,
        box=box,
        view_kind=torch.full((batch, views), VIEW_KINDS.index("slice")),
        view_dt=torch.zeros(batch, views),
        view_place=place,
        present=present,
        image_ids=tuple(
            tuple(f"{reference}#{number}" for number in slices.index)
            for slices, reference in volumes
        ),
    )
