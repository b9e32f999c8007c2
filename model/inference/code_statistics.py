"""How the values of each measurement code spread among the training records.

Robust statistics, because one absurd value must not move the scale of all others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fhir_adapters.code_systems import MEASUREMENTS
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
_ROUNDING = 1e-4  # edges are stored rounded
#: Two codes go together from this mutual information on, in nats.
_TOGETHER = 0.2
_MIN_IN_BIN = 30  # fewer do not tell a range
_NO_RANGE = (1.0, 0.0)
_MIN_TOGETHER = 500  # records with both codes: fewer do not tell what is rare
_MIN_COUNT = 5  # a code measured less often gets no statistic and no token


@dataclass(frozen=True, slots=True)
class CodeStatistic:
    """One measurement code: how its values spread among the training records.

    ``edges`` are the K + 1 bounds of its bins in robust z = (x - median) / iqr;
    ``decimals`` the most digits behind the point that a training value had, None where
    units are not watched.
    """

    loinc: str
    kind: str
    median: float
    iqr: float
    edges: tuple[float, ...]
    decimals: int | None = None

    def usual(self, value: float) -> bool:
        """Whether ``value`` lies among the training values."""
        z = (value - self.median) / self.iqr
        return self.edges[0] - _ROUNDING <= z <= self.edges[-1] + _ROUNDING

    def bin(self, value: float) -> int:
        """The bin of ``value``, 0 to K - 1; the outer ones are open."""
        z = (value - self.median) / self.iqr
        return int(np.clip(np.searchsorted(self.edges, z, "right"), 1, self.bins)) - 1

    @property
    def bins(self) -> int:
        """K."""
        return len(self.edges) - 1

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


@dataclass(frozen=True, slots=True)
class Company:
    """Between which values one code lies when another lies in a given bin.

    ``ranges[a]`` are the least and the largest training value of ``loinc`` in records
    with ``other`` in bin a; the least above the largest where there was none.
    """

    loinc: str
    other: str
    ranges: tuple[tuple[float, float], ...]

    def usual(self, value: float, beside: int) -> bool | None:
        """Whether ``value`` lies in the range of bin ``beside``; None without one."""
        low, high = self.ranges[beside]
        return low <= value <= high if low <= high else None


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


def other_factors(loinc: str) -> tuple[float, ...]:
    """What a number of this code is multiplied by if it was of another unit in use.

    Units that differ by a formula, or not at all, have no factor.
    """
    known = MEASUREMENTS.get(loinc)
    if known is None:
        return ()
    return tuple(
        float(conversion.factor)
        for conversion in known.alternatives.values()
        if not conversion.formula and conversion.factor != 1
    )


def with_decimals(
    codes: Sequence[CodeStatistic], records: Sequence[PatientRecord]
) -> tuple[CodeStatistic, ...]:
    """The same statistics with the most decimals that each code's values had."""
    most: dict[str, int] = {}
    for record in records:
        for item in record.values:
            exponent = item.value.normalize().as_tuple().exponent
            digits = max(0, -exponent) if isinstance(exponent, int) else 0
            most[item.loinc] = max(digits, most.get(item.loinc, 0))
    return tuple(replace(code, decimals=most.get(code.loinc)) for code in codes)


def fit_company(
    codes: Sequence[CodeStatistic], records: Sequence[PatientRecord]
) -> tuple[Company, ...]:
    """Codes that a change of unit could hide in, each with the codes it goes with.

    Args:
        codes: Statistics with bins.
        records: Training records.

    Returns:
        One table for each pair with enough records and enough mutual information.
    """
    measured = [{v.loinc: float(v.value) for v in r.values} for r in records]
    found = []
    for code in codes:
        if not any(_hides(code, factor) for factor in other_factors(code.loinc)):
            continue
        for other in codes:
            pairs = np.array(
                [
                    (m[other.loinc], m[code.loinc])
                    for m in measured
                    if other.loinc in m and code.loinc in m
                ]
            )  # (n, 2)
            if other is not code and len(pairs) >= _MIN_TOGETHER:
                found += _together(code, other, pairs)
    return tuple(found)


def _together(
    code: CodeStatistic, other: CodeStatistic, pairs: NDArray[np.float64]
) -> list[Company]:
    """The ranges of ``code`` beside ``other``, if the two tell of each other."""
    theirs = np.array([other.bin(x) for x in pairs[:, 0]])
    mine = np.array([code.bin(x) for x in pairs[:, 1]])
    counts = np.zeros((other.bins, code.bins))
    np.add.at(counts, (theirs, mine), 1)
    if _information(counts) < _TOGETHER:
        return []
    ranges = []
    for row in range(other.bins):
        values = pairs[theirs == row, 1]
        few = len(values) < _MIN_IN_BIN
        ranges.append(_NO_RANGE if few else (float(values.min()), float(values.max())))
    return [Company(code.loinc, other.loinc, tuple(ranges))]


def _hides(code: CodeStatistic, factor: float) -> bool:
    """Whether some usual value is usual in the other unit, too."""
    low = code.median + code.edges[0] * code.iqr
    high = code.median + code.edges[-1] * code.iqr
    return max(low, low / factor) <= min(high, high / factor)


def _information(counts: NDArray[np.float64]) -> float:
    """Mutual information of rows and columns, nats."""
    joint = counts / counts.sum()
    apart = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    some = joint > 0
    return float((joint[some] * np.log(joint[some] / apart[some])).sum())
