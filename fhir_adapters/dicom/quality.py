"""Quality flags: a film that shows nothing must not look like a film that shows health.

Loader rule 18. Computed from the histogram, so it costs nothing per pixel. The limits
are engineering choices that call attention; they refuse nothing by themselves.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fhir_adapters.dicom.voi import value_at_percent

BLANK_SPREAD = 0.02  # 1st to 99th percentile, in grey
LOW_CONTRAST_SPREAD = 0.15  # 5th to 95th percentile, in grey
SATURATED_SHARE = 0.5  # of the pixels at either end of the window


def quality_flags(
    grey: NDArray[np.float64], counts: NDArray[np.int64]
) -> tuple[str, ...]:
    """Flags of a film by its histogram.

    Args:
        grey: Grey in [0, 1] of each stored value, (N,).
        counts: Unpadded pixels with that value, (N,).

    Returns:
        Any of "qc-blank", "qc-low-contrast", "qc-saturated".
    """
    total = int(counts.sum())
    low, high = (value_at_percent(grey, counts, percent) for percent in (1.0, 99.0))
    if total == 0 or high - low < BLANK_SPREAD:
        return ("qc-blank",)
    flags = []
    low, high = (value_at_percent(grey, counts, percent) for percent in (5.0, 95.0))
    if high - low < LOW_CONTRAST_SPREAD:
        flags.append("qc-low-contrast")
    ends = max(counts[grey <= 0.0].sum(), counts[grey >= 1.0].sum())
    if ends / total > SATURATED_SHARE:
        flags.append("qc-saturated")
    return tuple(flags)
