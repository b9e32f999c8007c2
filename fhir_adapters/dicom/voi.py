"""From stored values to grey: modality LUT, VOI, inversion, as one table.

A stored value has at most 16 bits, so each step is worked out once for each of the
65,536 possible values in float64 and the image is one lookup in float32. Five million
pixels then cost milliseconds, and the result depends on the tags alone (loader rules 5,
6 and 7; PS3.3 C.11.1, C.11.2; PS3.14).

Grey runs from 0 to 1 over the **window's** range, never the image's own minimum and
maximum: the same value gives the same grey whatever else is in the film. Only where no
usable VOI exists does content decide (0.5 and 99.5 percentile), and a flag says so.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from fhir_adapters.dicom.tags import number, numbers, text
from fhir_adapters.errors import ImageUnreadableError

Levels = NDArray[np.float64]
_LOW_PERCENT, _HIGH_PERCENT = 0.5, 99.5
_LARGEST_RESCALE = 1e12


@dataclass(frozen=True, slots=True)
class Greys:
    """Grey in [0, 1] of every stored value, with the steps that led there."""

    table: Levels
    transforms: tuple[str, ...]
    flags: tuple[str, ...]


def grey_table(dataset: Dataset, stored: Levels, counts: NDArray[np.int64]) -> Greys:
    """Grey of each stored value.

    Args:
        dataset: The instance's tags.
        stored: Every value a pixel of this type can store, any order, (N,).
        counts: How many unpadded pixels have it, (N,).

    Raises:
        ImageUnreadableError: "modality_lut_malformed".
    """
    values, modality = _modality(dataset, stored)
    grey, voi, flags = _voi(dataset, values, counts)
    transforms = [*modality, voi]
    if _inverted(dataset):
        grey = 1.0 - grey
        transforms.append("invert")
    return Greys(grey, tuple(transforms), flags)


def value_at_percent(
    values: Levels, counts: NDArray[np.int64], percent: float
) -> float:
    """The value below which ``percent`` of the counted pixels lie; 0 without pixels."""
    present = np.flatnonzero(counts)
    if not present.size:
        return 0.0
    order = present[np.argsort(values[present], kind="stable")]
    cumulative = np.cumsum(counts[order])
    position = np.searchsorted(cumulative, percent / 100.0 * cumulative[-1])
    return float(values[order[min(int(position), order.size - 1)]])


def _inverted(dataset: Dataset) -> bool:
    """Rule 7: MONOCHROME1, INVERSE or both mean one inversion.

    pydicom's own INVERSE works on the image's maximum and so depends on content.
    """
    return (
        text(dataset, "PhotometricInterpretation") == "MONOCHROME1"
        or text(dataset, "PresentationLUTShape") == "INVERSE"
    )


def _modality(dataset: Dataset, stored: Levels) -> tuple[Levels, list[str]]:
    """Modality LUT, else rescale, else the stored values as they are."""
    try:
        sequence = dataset.get("ModalityLUTSequence")
        if sequence:
            table, first, _bits = _lut(sequence[0], stored)
            return _look_up(table, first, stored), ["modality-lut"]
        slope = numbers(dataset, "RescaleSlope")
        intercept = numbers(dataset, "RescaleIntercept")
    except (AttributeError, IndexError, TypeError, ValueError) as cause:
        raise ImageUnreadableError("modality_lut_malformed") from cause
    if not slope or not intercept:
        return stored, []
    if slope[0] == 0:
        raise ImageUnreadableError("modality_lut_malformed", "slope is zero")
    if max(abs(slope[0]), abs(intercept[0])) > _LARGEST_RESCALE:
        # Beyond it the arithmetic of windows ends in infinities, and grey in NaN.
        raise ImageUnreadableError("modality_lut_malformed", "rescale out of range")
    step = f"rescale slope={slope[0]:g} intercept={intercept[0]:g}"
    return stored * slope[0] + intercept[0], [step]


def _voi(
    dataset: Dataset, values: Levels, counts: NDArray[np.int64]
) -> tuple[Levels, str, tuple[str, ...]]:
    """Rule 6: LUT before window, first of several, percentiles as the last resort."""
    try:
        if dataset.get("VOILUTSequence"):
            items = dataset.VOILUTSequence
            table, first, bits = _lut(items[0], values)
            grey = np.clip(_look_up(table, first, values) / (2.0**bits - 1), 0.0, 1.0)
            return grey, f"voi-lut 0 of {len(items)}", ()
        centers = numbers(dataset, "WindowCenter")
        widths = numbers(dataset, "WindowWidth")
        if centers and widths:
            function = text(dataset, "VOILUTFunction") or "LINEAR"
            grey = _window(values, centers[0], widths[0], function)
            place = f"window 0 of {len(centers)}"
            step = f"{place} {function} center={centers[0]:g} width={widths[0]:g}"
            return grey, step, ()
        reasons: tuple[str, ...] = ()
    except (AttributeError, IndexError, TypeError, ValueError):
        # Not swallowed: the flag goes into the record and onto the evidence page.
        reasons = ("voi-invalid",)
    low = value_at_percent(values, counts, _LOW_PERCENT)
    high = value_at_percent(values, counts, _HIGH_PERCENT)
    grey = np.clip((values - low) / max(high - low, 1e-12), 0.0, 1.0)
    step = f"percentile low={low:g} high={high:g}"
    return grey, step, ("voi-percentile", *reasons)


def _window(values: Levels, center: float, width: float, function: str) -> Levels:
    """Apply one window (PS3.3 C.11.2.1.2 and C.11.2.1.3) and scale to [0, 1].

    Raises:
        ValueError: The width is too small for the function, or it is unknown.
    """
    if function == "LINEAR" and width >= 1:
        if width == 1:
            return (values > center - 0.5).astype(np.float64)
        return np.clip((values - (center - 0.5)) / (width - 1) + 0.5, 0.0, 1.0)
    if function == "LINEAR_EXACT" and width > 0:
        return np.clip((values - center) / width + 0.5, 0.0, 1.0)
    if function == "SIGMOID" and width > 0:
        exponent = np.clip(-4.0 * (values - center) / width, -700.0, 700.0)
        return 1.0 / (1.0 + np.exp(exponent))
    raise ValueError("window")


def _lut(item: Dataset, values: Levels) -> tuple[Levels, int, int]:
    """Entries, first mapped value and bits of a LUT item.

    Raises:
        ValueError: Descriptor and data do not fit each other.
    """
    entries, first, bits = (int(part) for part in item.LUTDescriptor)
    # 0 means 65,536 entries; a count read as signed 16 bits wraps the same way.
    entries = (entries & 0xFFFF) or 65536
    if first > 0x7FFF and values.min() < 0:
        first -= 0x10000
    if not 8 <= bits <= 16:
        raise ValueError("bits")
    return _lut_entries(item.LUTData, entries), first, bits


def _lut_entries(raw: object, entries: int) -> Levels:
    """The entries of a LUT, 16 bits each or two packed into a word."""
    if isinstance(raw, bytes | bytearray):
        data = bytes(raw)
    else:
        words = np.atleast_1d(np.asarray(raw, dtype=np.int64)) & 0xFFFF
        data = words.astype("<u2").tobytes()
    if len(data) == 2 * entries:
        return np.frombuffer(data, dtype="<u2").astype(np.float64)
    if len(data) == entries + entries % 2:
        return np.frombuffer(data, dtype=np.uint8)[:entries].astype(np.float64)
    raise ValueError("LUT length")


def _look_up(table: Levels, first: int, values: Levels) -> Levels:
    """Below the first mapped value the first entry holds, above the last the last."""
    index = np.clip(np.rint(values) - first, 0, table.size - 1).astype(np.int64)
    found: Levels = table[index]
    return found


def padding_mask(dataset: Dataset, stored: Levels) -> NDArray[np.bool_]:
    """Which stored values are padding (PS3.3 C.7.5.1.1.2), (N,) bool."""
    if dataset.get("PixelPaddingValue") is None:
        return np.zeros(stored.shape, dtype=np.bool_)
    edge = number(dataset, "PixelPaddingValue", 0)
    other = number(dataset, "PixelPaddingRangeLimit", edge)
    low, high = min(edge, other), max(edge, other)
    return (stored >= low) & (stored <= high)
