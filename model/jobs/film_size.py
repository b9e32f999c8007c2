"""Films fit for the queue: a native radiograph has more pixels than anyone here reads.

A chest film of 3000 x 3000 float pixels is 36 MB; to encode, seal and store it costs
more than half a hook's budget. The model reads at most a few hundred pixels a side and
the evidence page draws about a thousand, so larger films cross the queue as means over
squares of pixels. The step is listed in the film's ``transforms``; its provenance still
names the bytes that were received, and places on it are fractions of its size.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from PIL import Image

from fhir_adapters.patient_record import ChestImage, PatientRecord


def fit_films(record: PatientRecord, max_side: int) -> PatientRecord:
    """The record with no film side above ``max_side`` pixels; itself if none is."""
    if all(max(image.pixels.shape) <= max_side for image in record.images):
        return record
    return replace(record, images=tuple(_fit(i, max_side) for i in record.images))


def _fit(image: ChestImage, max_side: int) -> ChestImage:
    """Mean over ``factor`` x ``factor`` squares; the last ones may be smaller."""
    factor = -(-max(image.pixels.shape) // max_side)
    if factor <= 1:
        return image
    reduced = Image.fromarray(image.pixels).reduce(factor)
    return replace(
        image,
        pixels=np.array(reduced, dtype=np.float32),
        transforms=(*image.transforms, f"mean {factor}x{factor}"),
    )
