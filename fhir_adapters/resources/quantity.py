"""The number, unit and comparator of ``value[x]``, from a Quantity or from text.

A comparator stays a comparator: "<0.01" is a bound, and turning it into 0.01 would
invent a measurement. Text that is not one number with an optional unit ("POS",
"1,200", "5-10") is not interpreted: a comma means thousands in one country and
decimals in the next.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal

from fhir_adapters.code_systems import UCUM
from fhir_adapters.errors import UnknownUnitError, ValueRejectedError
from fhir_adapters.resources.elements import Json, child, children, number, text
from fhir_adapters.units import conversion_of

COMPARATORS = frozenset({"<", "<=", ">=", ">"})

_TEXT_VALUE = re.compile(
    r"(<=|>=|<|>|≤|≥)?\s*"
    r"([+-]?[0-9]{1,12}(?:\.[0-9]{1,12})?)\s*"
    r"([^\s0-9,.:;+-][!-~µμ° ]{0,30})?"
)
_SIGNS = {"≤": "<=", "≥": ">="}


@dataclass(frozen=True, slots=True)
class Measured:
    """A number as sent: ``unit`` is the spelling that the unit table will look up."""

    value: Decimal
    unit: str
    comparator: str | None = None
    flags: tuple[str, ...] = ()


def value_key(node: Json) -> str:
    """The one ``value[x]`` element present, empty when there is none.

    Raises:
        ValueRejectedError: ``several_values``; choosing one would be a guess.
    """
    keys = [
        key
        for key in node
        # "value" alone and "valueset" are not elements of value[x].
        if key.startswith("value") and key[5:6].isupper() and node[key] is not None
    ]
    if len(keys) > 1:
        raise ValueRejectedError("several_values")
    return keys[0] if keys else ""


def read_value(node: Json, loinc: str) -> Measured:
    """Read the value of an Observation or component whose code is ``loinc``.

    Raises:
        ValueRejectedError: ``no_value``, ``data_absent``, ``value_type``,
            ``malformed_value``, ``text_value`` or ``several_values``.
        UnknownUnitError: ``unit_conflict`` when code and text name different units.
    """
    key = value_key(node)
    if node.get("dataAbsentReason") is not None:
        # obs-6 forbids a value beside it; where both stand, absence is the safe side.
        raise ValueRejectedError("data_absent")
    if key == "valueQuantity":
        return read_quantity(child(node, key), loinc)
    if key == "valueInteger":
        value = number(node, key)
        if value is None:
            raise ValueRejectedError("malformed_value")
        return Measured(value, "")
    if key == "valueString":
        return _read_text(text(node, key), node)
    raise ValueRejectedError("value_type" if key else "no_value")


def read_quantity(quantity: Json, loinc: str) -> Measured:
    """Read a Quantity; raises as :func:`read_value`."""
    value = number(quantity, "value")
    if value is None:
        raise ValueRejectedError("malformed_value" if quantity else "no_value")
    comparator = quantity.get("comparator")
    if comparator is not None and text(quantity, "comparator") not in COMPARATORS:
        raise ValueRejectedError("malformed_value", "unknown comparator")
    return Measured(value, _unit(quantity, loinc), text(quantity, "comparator") or None)


def _unit(quantity: Json, loinc: str) -> str:
    """The spelling to look up: the UCUM code, unless only the text is known.

    Raises:
        UnknownUnitError: ``unit_conflict``; one of the two is wrong and a factor of
            ten to a thousand hangs on which.
    """
    code, spelled = text(quantity, "code"), text(quantity, "unit")
    by_code = conversion_of(loinc, code)
    if by_code is not None and code == spelled:
        return code
    by_text = conversion_of(loinc, spelled)
    if by_code and by_text and by_code != by_text:
        raise UnknownUnitError("unit_conflict", f"for {loinc}")
    if by_code is not None:
        return code
    if code and text(quantity, "system") == UCUM and by_text is not None:
        # A coded UCUM unit this analyte cannot have outweighs a friendly label.
        raise UnknownUnitError("unit_conflict", f"for {loinc}")
    return spelled if by_text is not None else (code or spelled)


def _read_text(value: str, node: Json) -> Measured:
    match = _TEXT_VALUE.fullmatch(value)
    if match is None:
        raise ValueRejectedError("text_value" if value else "malformed_value")
    sign, digits, unit = match.groups()
    comparator = _SIGNS.get(sign, sign)
    flags: tuple[str, ...] = ("value-from-text",)
    if not unit:
        unit = _unit_of_range(node)
        flags = (*flags, "unit-from-range") if unit else flags
    return Measured(Decimal(digits), (unit or "").strip(), comparator, flags)


def _unit_of_range(node: Json) -> str:
    """The unit that the laboratory wrote on its own reference range of this result."""
    for reference_range in children(node, "referenceRange"):
        for bound in ("low", "high"):
            quantity = child(reference_range, bound)
            unit = text(quantity, "code") or text(quantity, "unit")
            if unit:
                return unit
    return ""
