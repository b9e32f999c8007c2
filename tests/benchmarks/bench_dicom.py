"""A 2500 x 2048 JPEG-LS film from bytes to the model's array, beside its bare decode.

Every repeat measures both, one after the other, and the figure is the median of the
ratios: what else the machine does then weighs on both. The bare decode is pydicom's, by
the same plugin. The way through the limited child is measured too, without a bar: it
adds two copies through a pipe and the switch between two processes.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from pydicom import dcmread

from fhir_adapters.dicom.decode_process import DecodeLimits, DecodePool
from fhir_adapters.dicom.image import load_image
from model.inference.views import letterbox
from tests.benchmarks.measure import entry, median, show
from tests.fhir_adapters.dicom_files import EXPECTED, dataset, film, in_syntax

MODULE = "bench_dicom"
ROWS, COLUMNS, BITS = 2500, 2048, 12
MODEL_SIZE = 224
REPEATS = 9
WORST_LOAD_RATIO = 1.5
_ARGUMENTS = {"reference": "ImagingStudy/bench", "origin": "folder"}


def jpeg_ls_film() -> bytes:
    """A film with the grain of a detector, 12 bits, as JPEG-LS."""
    grain = np.random.default_rng(0).normal(0, 12, (ROWS, COLUMNS))
    pixels = np.clip(film(ROWS, COLUMNS, BITS) * 0.8 + grain, 0, 2**BITS - 1)
    return in_syntax("jpeg-ls", dataset(pixels.astype(np.uint16), bits=BITS))


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def run() -> list[dict[str, Any]]:
    """Measure."""
    data = jpeg_ls_film()
    pool = DecodePool(DecodeLimits(children=1))
    pool.warm()

    def bare() -> object:
        ds = dcmread(io.BytesIO(data))
        ds.pixel_array_options(decoding_plugin="pyjpegls")
        return ds.pixel_array

    def here() -> object:
        image = load_image(data, expected=EXPECTED, **_ARGUMENTS)
        return letterbox(image.pixels, MODEL_SIZE)

    def there() -> object:
        image = pool.decode(data, expected=EXPECTED, **_ARGUMENTS)
        return letterbox(image.pixels, MODEL_SIZE)

    try:
        for work in (bare, here, there):
            work()
        times = [tuple(map(seconds, (bare, here, there))) for _ in range(REPEATS)]
    finally:
        pool.close()
    ratio = median([one[1] / one[0] for one in times])
    return [
        entry(
            "dicom.load_ratio",
            ratio,
            "x",
            MODULE,
            bar=f"<= {WORST_LOAD_RATIO}",
            holds=ratio <= WORST_LOAD_RATIO,
        ),
        entry(
            "dicom.child_load_ratio",
            median([one[2] / one[0] for one in times]),
            "x",
            MODULE,
        ),
        entry(
            "dicom.bare_decode_ms",
            median([one[0] for one in times]) * 1e3,
            "ms",
            MODULE,
        ),
    ]


if __name__ == "__main__":
    show(run, __doc__)
