"""Units: a closed table keyed by (LOINC, unit as spelled), and nothing else.

Rules this module enforces:

* A unit counts only if the row of *this* analyte lists it. ``K/uL`` is "thousand per
  microlitre" for a cell count and unknown everywhere else (general UCUM parsers read
  it as kelvin), ``K`` is kelvin for a temperature only, IU/L is U/L for the enzymes
  of the table only.
* Spellings are matched after white space, case and the two micro signs are evened
  out; no analyte has two units that differ in case alone (checked at import).
* The unit is never guessed from the size of the number. A temperature of 98.6 Cel is
  implausible, not Fahrenheit.
* A missing unit is accepted only for quantities whose number has no unit to lose
  (:data:`UNITLESS`), and flagged.
* Arithmetic is decimal. A converted value keeps 12 significant digits.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from decimal import Context, Decimal
from functools import lru_cache

from fhir_adapters.code_systems import MEASUREMENTS, CodeTableError, Conversion
from fhir_adapters.errors import ImplausibleValueError, UnknownUnitError

UNITLESS = frozenset({"{INR}", "[pH]", "{score}", "mL/min/{1.73_m2}"})
"""Canonical units whose number means the same when a sender leaves the unit out."""

_SAME = Conversion()
_ARITHMETIC = Context(prec=12)
_KELVIN_OF_ZERO = Decimal("273.15")
_MAX_UNIT = 40
# More digits, or a wider exponent, than any measurement: refuse before arithmetic.
_MAX_DIGITS = 40
_MAX_EXPONENT = 15

# How sites spell a UCUM unit, lower case and without spaces.
SPELLINGS: Mapping[str, tuple[str, ...]] = {
    "10*3/uL": (
        *("k/ul", "k/mcl", "k/mm3", "k/mm^3", "k/cumm", "x10^3/ul", "10^3/ul"),
        *("x10*3/ul", "x10e3/ul", "10e3/ul", "x10(3)/ul", "10(3)/ul", "x103/ul"),
        *("x10^3/mcl", "10^3/mcl", "x10e3/mcl", "10e3/mcl", "10*3/mcl"),
        *("thou/mm3", "thou/ul", "thou/mcl", "thousand/ul", "thousands/ul"),
        *("th/mm3", "th/ul", "x10^3/mm3", "10^3/mm3", "1000/ul", "10*3/mm3"),
    ),
    "10*9/L": ("x10^9/l", "10^9/l", "x10*9/l", "x10e9/l", "10e9/l", "x10(9)/l"),
    "/uL": (
        "/mcl",
        "/mm3",
        "/cumm",
        "cells/ul",
        "cells/mcl",
        "cells/mm3",
        "{cells}/ul",
    ),
    "mm[Hg]": ("mmhg", "mm(hg)", "mm[hg]"),
    "Cel": ("c", "degc", "°c", "deg c", "℃", "celsius", "degreesc", "degreescelsius"),
    "[degF]": (
        *("f", "degf", "°f", "℉", "fahrenheit", "degreesf"),
        "degreesfahrenheit",
    ),
    "K": ("kelvin",),
    "/min": (
        *("{beats}/min", "beats/min", "beats/minute", "bpm", "beatsperminute"),
        *("{breaths}/min", "breaths/min", "breaths/minute", "breathsperminute"),
        *("br/min", "resp/min", "1/min", "permin", "perminute", "/minute"),
    ),
    "%": ("percent", "pct"),
    "L/min": ("lpm", "liters/min", "litres/min", "l/minute"),
    "mL/min": ("ml/minute",),
    "kg": ("kgs", "kilogram", "kilograms"),
    "g": ("gram", "grams", "gm"),
    "[lb_av]": ("lb", "lbs", "pound", "pounds", "[lb_us]"),
    "[in_i]": ("in", "inch", "inches", "[in_us]"),
    "m": ("meter", "metre", "meters", "metres"),
    "cm": ("centimeter", "centimetre", "centimeters", "centimetres"),
    "kg/m2": ("kg/m^2", "kg/m*2", "kg/m²", "kg/(m^2)", "kg/sqm"),
    "{score}": ("score", "(score)", "{pointscore}", "points", "1"),
    "g/dL": ("gm/dl", "g/100ml", "grams/dl"),
    "mg/dL": ("mg/100ml", "mgs/dl"),
    "ug/L": ("mcg/l",),
    "ug/mL{FEU}": ("ug/mlfeu", "mcg/mlfeu", "mcg/ml{feu}", "ug/ml(feu)"),
    "mg/L{FEU}": ("mg/lfeu", "mg/l(feu)"),
    "ng/mL{FEU}": ("ng/mlfeu", "ng/ml(feu)"),
    "meq/L": ("mequ/l",),
    "umol/L": ("mcmol/l", "micromol/l"),
    "U/L": ("iu/l", "[iu]/l", "units/l", "unit/l", "[u]/l"),
    "ukat/L": ("mckat/l", "microkat/l"),
    "L/L": ("l/l",),
    "{INR}": ("inr", "ratio", "{ratio}"),
    "s": ("sec", "secs", "second", "seconds"),
    "[pH]": ("ph", "phunits", "{ph}", "{phunits}", "1"),
    "mL/min/{1.73_m2}": (
        *("ml/min/1.73m2", "ml/min/1.73m^2", "ml/min/1.73m²", "ml/min/{1.73m2}"),
        *("ml/min/1.73sqm", "ml/min/1.73", "ml/min/1.73_m2", "ml/min/{1.73m^2}"),
        "ml/min/1.73m*2",
    ),
    "mL": ("cc", "mls", "milliliter", "millilitre", "milliliters", "millilitres"),
    "L": ("liter", "litre", "liters", "litres"),
}


def normalise(unit: str) -> str:
    """Even out what never carries meaning: spaces, case, micro signs, widths."""
    # U+00B5 MICRO SIGN and U+03BC GREEK MU both mean "u" in UCUM's ASCII spelling.
    text = unicodedata.normalize("NFC", unit).replace("\u00b5", "u")
    text = text.replace("\u03bc", "u").replace("\u200b", "")
    return "".join(text.split()).casefold()


def _closed_table() -> dict[tuple[str, str], Conversion]:
    table: dict[tuple[str, str], Conversion] = {}
    for loinc, row in MEASUREMENTS.items():
        for unit, conversion in {row.unit: _SAME, **row.alternatives}.items():
            for spelling in (unit, *SPELLINGS.get(unit, ())):
                key = loinc, normalise(spelling)
                # "1" may be a fraction here and a pure number there, never both.
                if table.setdefault(key, conversion) != conversion:
                    raise CodeTableError(f"two meanings of {key}")
    return table


_CONVERSIONS = _closed_table()


def conversion_of(loinc: str, unit: str) -> Conversion | None:
    """The conversion of ``unit`` as spelled for this code, None when unknown."""
    if not unit or len(unit) > _MAX_UNIT:
        return None
    return _lookup(loinc, unit)


@lru_cache(maxsize=4096)
def _lookup(loinc: str, unit: str) -> Conversion | None:
    return _CONVERSIONS.get((loinc, normalise(unit)))


def convert(conversion: Conversion, value: Decimal) -> Decimal:
    """Apply one conversion; raises ImplausibleValueError where it has no result."""
    digits = value.as_tuple().digits if value.is_finite() else ()
    if not digits or len(digits) > _MAX_DIGITS or abs(value.adjusted()) > _MAX_EXPONENT:
        # Also keeps 1E+999999 from overflowing the arithmetic below.
        raise ImplausibleValueError(detail="not a number of a measurement")
    if conversion.formula == "fahrenheit":
        shifted = _ARITHMETIC.multiply(_ARITHMETIC.subtract(value, Decimal(32)), 5)
        return _ARITHMETIC.divide(shifted, Decimal(9))
    if conversion.formula == "kelvin":
        return _ARITHMETIC.subtract(value, _KELVIN_OF_ZERO)
    if conversion.formula == "hydrogen_ion":
        if value <= 0:
            raise ImplausibleValueError(detail="a concentration is positive")
        return _ARITHMETIC.subtract(Decimal(9), _ARITHMETIC.log10(value))
    if conversion is _SAME or conversion.factor == 1:
        return value  # exactly as received: no rounding without a conversion
    return _ARITHMETIC.multiply(value, conversion.factor)


def to_canonical(
    loinc: str, value: Decimal, unit: str
) -> tuple[Decimal, tuple[str, ...]]:
    """Convert ``value`` in ``unit`` to the canonical unit of ``loinc``.

    Args:
        loinc: A code of MEASUREMENTS.
        value: The number as received.
        unit: The unit as spelled by the sender; may be empty for UNITLESS rows.

    Returns:
        The value in the canonical unit, and flags ("unit-converted", "unit-absent").

    Raises:
        UnknownUnitError: The code, or the unit for this code, is not in the table.
        ImplausibleValueError: The result is outside the row's range.
    """
    row = MEASUREMENTS.get(loinc)
    if row is None:
        raise UnknownUnitError("unmapped_code", "code not in the table")
    flags: tuple[str, ...] = ()
    conversion = conversion_of(loinc, unit)
    if not unit.strip() and row.unit in UNITLESS:
        conversion, flags = _SAME, ("unit-absent",)
    elif not unit.strip():
        raise UnknownUnitError("missing_unit", f"no unit for {loinc}")
    if conversion is None:
        raise UnknownUnitError(detail=f"for {loinc}")
    if conversion is not _SAME and conversion != _SAME:
        flags = ("unit-converted",)
    result = convert(conversion, value)
    if not row.low <= result <= row.high:
        # The number itself stays out of the message: it is part of a patient's record.
        raise ImplausibleValueError(detail=f"outside the range of {loinc}")
    return result, flags
