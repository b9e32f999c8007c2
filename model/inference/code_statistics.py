"""How the values of each measurement code spread among the training records.

Robust statistics, because one absurd value must not move the scale of all others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fhir_adapters.patient_record import PatientRecord

AGE, SEX = "30525-0", "46098-0"  # LOINC: age, sex; tokens beside measured values
SEX_NUMBERS = {"female": 0.0, "male": 1.0}
VITAL_SIGNS = frozenset(
    {
        "8867-4",  # heart rate
        "9279-1",  # respiratory rate
        "8310-5",  # body temperature
        "59408-5",  # oxygen saturation by pulse oximetry
        "2708-6",  # oxygen saturation, arterial
        "8480-6",  # systolic pressure
        "8462-4",  # diastolic pressure
        "8478-0",  # mean pressure
        "29463-7",  # body weight
        "8302-2",  # body height
        "39156-5",  # body mass index
    }
)
_MIN_COUNT = 5  # a code measured less often gets no statistic and no token


@dataclass(frozen=True, slots=True)
class CodeStatistic:
    """One measurement code: how its values spread among the training records.

    ``edges`` are the K + 1 bounds of its bins in robust z = (x - median) / iqr.
    """

    loinc: str
    kind: str
    median: float
    iqr: float
    edges: tuple[float, ...]

    def encode(self, value: float) -> NDArray[np.float32]:
        """Piecewise-linear encoding of ``value`` in the code's own unit: (K,).

        1 for every bin below the value, 0 above, the fraction inside; the outer bins
        go on to -1 and 2, so that extreme values stay apart but bounded.
        """
        edges = np.asarray(self.edges)
        z = (value - self.median) / self.iqr
        share = (z - edges[:-1]) / (edges[1:] - edges[:-1])  # (K,)
        low, high = np.zeros(len(share)), np.ones(len(share))
        low[0], high[-1] = -1.0, 2.0
        encoded: NDArray[np.float32] = np.clip(share, low, high).astype(np.float32)
        return encoded


def fit_codes(records: Sequence[PatientRecord], bins: int) -> tuple[CodeStatistic, ...]:
    """Robust statistics of every code that was measured often enough.

    Sex and age are always in the list, because they are tokens beside measured values.
    """
    samples: dict[str, list[float]] = {AGE: [], SEX: []}
    for record in records:
        for item in record.values:
            samples.setdefault(item.loinc, []).append(float(item.value))
        age = record.patient.age_years(record.cutoff)
        if age is not None:
            samples[AGE].append(age)
    samples[SEX] = [0.0, 1.0]
    codes = []
    for loinc in sorted(samples):
        values = samples[loinc]
        if len(values) < _MIN_COUNT and loinc not in {AGE, SEX}:
            continue
        codes.append(_statistic(loinc, np.asarray(values or [0.0, 100.0]), bins))
    return tuple(codes)


def expected_codes(
    records: Sequence[PatientRecord], share: float | None
) -> tuple[str, ...]:
    """Codes that at least ``share`` of the records with values have, sorted.

    Codes without a statistic are left out, because they have no token.
    """
    if share is None:
        return ()
    measured = [{v.loinc for v in record.values} for record in records if record.values]
    counts = Counter(loinc for codes in measured for loinc in codes)
    least = max(_MIN_COUNT, share * len(measured))
    return tuple(sorted(code for code, count in counts.items() if count >= least))


def _statistic(loinc: str, values: NDArray[np.float64], bins: int) -> CodeStatistic:
    """Median, interquartile range and bin edges at even quantiles."""
    if loinc in VITAL_SIGNS:
        kind = "vital"
    else:
        kind = "demo" if loinc in {AGE, SEX} else "lab"
    low, median, high = np.quantile(values, [0.25, 0.5, 0.75])
    iqr = max(float(high - low), 1e-6 + 1e-3 * abs(float(median)))
    edges = np.quantile((values - median) / iqr, np.linspace(0, 1, bins + 1))
    gaps = np.maximum(np.diff(edges), 0.02)  # equal quantiles must not close a bin
    edges = np.concatenate([edges[:1], edges[0] + np.cumsum(gaps)])
    return CodeStatistic(
        loinc,
        kind,
        round(float(median), 6),
        round(iqr, 6),
        tuple(round(float(edge), 6) for edge in edges),
    )
