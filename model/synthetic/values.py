"""Laboratory values and vital signs of a synthetic case.

Four items carry the severity as the values see it, three the differential count, the
rest is noise. Any single informative item is enough to tell its state, so the random
absences cost next to nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

import numpy as np

from model.synthetic.case import Carries, MeasuredValue
from model.synthetic.latents import CellPattern, Severity

Band = tuple[float, float]

ABSENCE = 0.08

# Share of the laboratory results that come with the laboratory's own flag.
FLAGGED = 0.5


@dataclass(frozen=True, slots=True)
class Item:
    """How one code is drawn: one band per state, or a single one for noise.

    ``log`` spreads the band evenly in its logarithm, as for values that range over
    decades.
    """

    loinc: str
    name: str
    unit: str
    digits: int
    carries: Carries
    bands: tuple[Band, ...]
    category: str = "laboratory"
    low: str | None = None
    high: str | None = None
    log: bool = False


_E, _C, _N = Carries.SEVERITY, Carries.CELLS, Carries.NOTHING

# Bands follow low, ambiguous, high; the gaps between them are as telling as the bands.
# fmt: off
ITEMS: tuple[Item, ...] = (
    Item("1988-5", "C-reactive protein", "mg/L", 1, _E,
         ((0.6, 8.0), (24.0, 62.0), (110.0, 320.0)), high="10", log=True),
    Item("6690-2", "Leukocytes", "10*3/uL", 1, _E,
         ((5.0, 9.0), (10.8, 12.4), (13.8, 22.0)), low="4.0", high="10.0"),
    Item("59408-5", "Oxygen saturation by pulse oximetry", "%", 0, _E,
         ((96.6, 99.4), (93.6, 95.4), (84.6, 92.4)), "vital-signs", low="95"),
    Item("9279-1", "Respiratory rate", "/min", 0, _E,
         ((11.6, 17.4), (19.6, 22.4), (25.6, 35.4)), "vital-signs", "12", "20"),
    Item("770-8", "Neutrophils/100 leukocytes", "%", 1, _C,
         ((81.0, 88.0), (66.0, 75.0), (44.0, 57.0)), low="40", high="75"),
    Item("736-9", "Lymphocytes/100 leukocytes", "%", 1, _C,
         ((9.0, 14.0), (2.0, 6.0), (19.0, 28.0)), low="20", high="45"),
    Item("713-8", "Eosinophils/100 leukocytes", "%", 1, _C,
         ((0.0, 0.6), (1.4, 3.6), (9.0, 22.0)), low="0", high="6"),
    Item("718-7", "Hemoglobin", "g/dL", 1, _N, ((10.5, 16.5),), low="12.0",
         high="17.0"),
    Item("777-3", "Platelets", "10*3/uL", 0, _N, ((140, 420),), low="150", high="400"),
    Item("2951-2", "Sodium", "mmol/L", 0, _N, ((131, 146),), low="135", high="145"),
    Item("2823-3", "Potassium", "mmol/L", 1, _N, ((3.3, 5.3),), low="3.5", high="5.1"),
    Item("2160-0", "Creatinine", "mg/dL", 2, _N, ((0.5, 1.9),), low="0.5", high="1.2",
         log=True),
    Item("2345-7", "Glucose", "mg/dL", 0, _N, ((70, 240),), low="70", high="140",
         log=True),
    Item("30934-4", "Natriuretic peptide B", "pg/mL", 0, _N, ((8, 900),), high="100",
         log=True),
    Item("8867-4", "Heart rate", "/min", 0, _N, ((58, 112),), "vital-signs",
         "60", "100"),
    Item("8480-6", "Systolic blood pressure", "mm[Hg]", 0, _N, ((104, 168),),
         "vital-signs"),
)
# fmt: on


def measure(
    severity: Severity,
    cells: CellPattern,
    film_at: datetime,
    rng: np.random.Generator,
    absence: float = ABSENCE,
) -> tuple[tuple[MeasuredValue, ...], tuple[str, ...]]:
    """Draw the values of one case.

    Args:
        severity: Severity as the values show it.
        cells: Cell pattern as the values show it.
        film_at: Time of the film; values are taken in the 24 hours before it.
        rng: Random stream of this case's values.
        absence: Chance of each item, on its own, not to have been measured.

    Returns:
        The measured values and the LOINC codes of the absent ones.
    """
    values: list[MeasuredValue] = []
    absent: list[str] = []
    for item, draw in zip(ITEMS, rng.random((len(ITEMS), 4)), strict=True):
        if draw[0] < absence:
            absent.append(item.loinc)
            continue
        state = {_E: int(severity), _C: int(cells), _N: 0}[item.carries]
        minutes = int(10 + draw[2] * (24 * 60 - 10))
        values.append(
            _result(
                item,
                item.bands[state],
                draw[1],
                film_at - timedelta(minutes=minutes),
                flagged=draw[3] < FLAGGED,
            )
        )
    return tuple(values), tuple(absent)


def _result(
    item: Item, band: Band, place: float, measured_at: datetime, flagged: bool
) -> MeasuredValue:
    """One result at ``place`` (0 to 1) within its band."""
    low, high = band
    if item.log:
        amount = math.exp(math.log(low) + place * math.log(high / low))
    else:
        amount = low + place * (high - low)
    value = Decimal(f"{amount:.{item.digits}f}")
    floor = None if item.low is None else Decimal(item.low)
    ceiling = None if item.high is None else Decimal(item.high)
    flag = None
    if flagged and item.category == "laboratory":
        flag = "N"
        if floor is not None and value < floor:
            flag = "L"
        elif ceiling is not None and value > ceiling:
            flag = "H"
    return MeasuredValue(
        loinc=item.loinc,
        name=item.name,
        value=value,
        unit=item.unit,
        measured_at=measured_at,
        category=item.category,
        carries=item.carries,
        reference_low=floor,
        reference_high=ceiling,
        interpretation=flag,
    )
