"""Which numbers a living patient cannot have: a closed table, each row with its source.

The adapters refuse implausible numbers on their own way in. This is the model's own
check, because a record may come another way (a folder, a program), and a number in the
wrong unit is more dangerous than a missing one. Codes outside the table are not judged.

Sources:

- ``DEFINITION``: the scale itself ends there (a share of a whole, a score).
- ``BENCHMARK``: outlier limits of the MIMIC-III benchmarks, ``variable_ranges.csv``
  (Harutyunyan et al., Scientific Data 6:96, 2019).
- ``HOUSE``: an engineering choice, at least as wide as the adapters' own limit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fhir_adapters.patient_record import CodedValue

DEFINITION = "definition of the scale"
BENCHMARK = "MIMIC-III benchmarks, outlier limits"
HOUSE = "engineering choice"


@dataclass(frozen=True, slots=True)
class Limits:
    """One code: UCUM unit, lowest and highest possible number, who says so."""

    unit: str
    low: float
    high: float
    source: str


# fmt: off
LIMITS: Mapping[str, Limits] = {
    "8867-4": Limits("/min", 0, 390, BENCHMARK),  # heart rate
    "9279-1": Limits("/min", 0, 330, BENCHMARK),  # respiratory rate
    "8310-5": Limits("Cel", 14.2, 47, BENCHMARK),  # body temperature
    "8480-6": Limits("mm[Hg]", 0, 375, BENCHMARK),  # systolic pressure
    "8462-4": Limits("mm[Hg]", 0, 375, BENCHMARK),  # diastolic pressure
    "8478-0": Limits("mm[Hg]", 0, 375, BENCHMARK),  # mean pressure
    "59408-5": Limits("%", 0, 100, DEFINITION),  # SpO2 by pulse oximetry
    "2708-6": Limits("%", 0, 100, DEFINITION),  # arterial SaO2
    "3150-0": Limits("%", 20, 100, DEFINITION),  # inhaled O2; room air holds 20.9
    "8302-2": Limits("cm", 0, 275, BENCHMARK),  # body height
    "29463-7": Limits("kg", 0, 650, HOUSE),  # body weight
    "9269-2": Limits("{score}", 3, 15, DEFINITION),  # Glasgow coma score
    "6690-2": Limits("10*3/uL", 0, 1100, BENCHMARK),  # leukocytes
    "26464-8": Limits("10*3/uL", 0, 1100, BENCHMARK),  # leukocytes, any method
    "770-8": Limits("%", 0, 100, DEFINITION),  # neutrophils
    "736-9": Limits("%", 0, 100, DEFINITION),  # lymphocytes
    "713-8": Limits("%", 0, 100, DEFINITION),  # eosinophils
    "764-1": Limits("%", 0, 100, DEFINITION),  # bands
    "718-7": Limits("g/dL", 0, 30, BENCHMARK),  # haemoglobin
    "4544-3": Limits("%", 0, 100, DEFINITION),  # haematocrit
    "777-3": Limits("10*3/uL", 0, 2500, HOUSE),  # platelets
    "1988-5": Limits("mg/L", 0, 700, HOUSE),  # C-reactive protein
    "33959-8": Limits("ng/mL", 0, 1000, HOUSE),  # procalcitonin
    "2524-7": Limits("mmol/L", 0, 35, HOUSE),  # lactate, serum or plasma
    "2518-9": Limits("mmol/L", 0, 35, HOUSE),  # lactate, arterial
    "32693-4": Limits("mmol/L", 0, 35, HOUSE),  # lactate, blood
    "2951-2": Limits("mmol/L", 50, 250, BENCHMARK),  # sodium
    "2823-3": Limits("mmol/L", 0, 15, BENCHMARK),  # potassium
    "2075-0": Limits("mmol/L", 0, 200, BENCHMARK),  # chloride
    "1963-8": Limits("mmol/L", 0, 70, HOUSE),  # bicarbonate
    "2028-9": Limits("mmol/L", 0, 70, HOUSE),  # total CO2
    "3094-0": Limits("mg/dL", 0, 300, HOUSE),  # urea nitrogen
    "2160-0": Limits("mg/dL", 0, 66, BENCHMARK),  # creatinine
    "2345-7": Limits("mg/dL", 10, 2200, HOUSE),  # glucose, serum or plasma
    "2339-0": Limits("mg/dL", 10, 2200, HOUSE),  # glucose, blood
    "19123-9": Limits("mg/dL", 0, 22, BENCHMARK),  # magnesium
    "2777-1": Limits("mg/dL", 0, 25, HOUSE),  # phosphate
    "1975-2": Limits("mg/dL", 0, 70, HOUSE),  # bilirubin
    "1742-6": Limits("U/L", 0, 20000, HOUSE),  # ALT
    "1920-8": Limits("U/L", 0, 22000, BENCHMARK),  # AST
    "2532-0": Limits("U/L", 0, 35000, BENCHMARK),  # LDH
    "1751-7": Limits("g/dL", 0, 7, HOUSE),  # albumin
    "2744-1": Limits("[pH]", 6.3, 8.4, BENCHMARK),  # arterial pH
    "2703-7": Limits("mm[Hg]", 0, 770, BENCHMARK),  # arterial pO2
    "2019-8": Limits("mm[Hg]", 0, 220, BENCHMARK),  # arterial pCO2
    "2093-3": Limits("mg/dL", 0, 1000, HOUSE),  # cholesterol
}
# fmt: on


def is_possible(value: CodedValue) -> bool:
    """False for a number that no living patient has, or one in another unit.

    A number whose unit is not the table's cannot be compared and is not believed: the
    model would read it as if it were. Codes outside the table pass.
    """
    limits = LIMITS.get(value.loinc)
    if limits is None:
        return value.value.is_finite()
    return (
        value.unit == limits.unit
        and value.value.is_finite()
        and limits.low <= float(value.value) <= limits.high
    )
