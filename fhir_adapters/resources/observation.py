"""Observation -> coded values, each either usable or refused with a reason.

Rules this module enforces (FHIR R4 Observation, and the harm each one stops):

* ``entered-in-error``, ``cancelled`` and ``registered`` carry no usable value; a
  missing or unknown status is quarantined, never read as "final".
* ``modifierExtension`` may negate everything (R4 2.4.0.1): what we cannot interpret
  is not used. ``focus`` means the value is about somebody else, such as a fetus.
* A code counts only if it is in the table; two codes for different measurements on
  one value are a conflict, not a choice.
* Panels are read through their components; an Observation is *used* when at least
  one value of it is, else it is skipped once, with the most telling reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from fhir_adapters.code_systems import (
    CODE_ONLY,
    LOINC,
    MEASUREMENTS,
    PREFERRED,
    measurement_code,
)
from fhir_adapters.errors import ValueRejectedError
from fhir_adapters.patient_record import CodedValue, Provenance, Skip
from fhir_adapters.policy import AdapterPolicy
from fhir_adapters.resources.elements import (
    Json,
    child,
    children,
    codings,
    number,
    text,
)
from fhir_adapters.resources.moment import Moment, check_cutoff, effective_moment
from fhir_adapters.resources.quantity import Measured, read_value, value_key
from fhir_adapters.units import conversion_of, convert, to_canonical

_REFUSED = {
    "entered-in-error": "entered_in_error",
    "cancelled": "cancelled",
    "registered": "registered",
}
_STATUS_FLAGS: dict[str, tuple[str, ...]] = {
    "final": (),
    "amended": ("amended",),
    "corrected": ("corrected",),
    "preliminary": ("preliminary",),
}
_INTERPRETATIONS = frozenset({"LL", "L", "N", "H", "HH"})
# For a skipped panel these reasons count least, in this order.
_LEAST_TELLING = ("unmapped_code", "no_value", "data_absent")


@dataclass(frozen=True, slots=True)
class ObservationReading:
    """Usable values, refused components, and the reason when nothing is usable."""

    values: tuple[CodedValue, ...] = ()
    components: tuple[Skip, ...] = ()
    skipped: Skip | None = None


# Path below the Observation, the node there, its (system, code) pairs.
_Node = tuple[str, Json, list[tuple[str, str]]]


@dataclass(frozen=True, slots=True)
class _Site:
    """Everything that the values of one Observation share."""

    moment: Moment
    provenance: Provenance
    flags: tuple[str, ...]


def read_observation(
    resource: Json,
    provenance: Provenance,
    *,
    cutoff: datetime,
    policy: AdapterPolicy,
) -> ObservationReading:
    """Read one Observation whose subject is already known to be the patient.

    Args:
        resource: Plain JSON with decimals; any shape.
        provenance: Reference, origin and digest of this resource.
        cutoff: Aware time; nothing measured later is used.
        policy: Site policy.
    """
    reference = provenance.reference
    nodes = _measured_nodes(resource)
    try:
        site = _site(resource, nodes, provenance, cutoff, policy)
    except ValueRejectedError as error:
        return ObservationReading(skipped=Skip(reference, error.reason, error.detail))
    values: list[CodedValue] = []
    refused: list[Skip] = []
    for path, node, coded in nodes:
        try:
            values.append(_coded_value(node, coded, site))
        except ValueRejectedError as error:
            refused.append(Skip(reference + path, error.reason, error.detail))
    if values:
        # Only components: the head of a panel has no value to lose.
        components = tuple(skip for skip in refused if "#" in skip.reference)
        return ObservationReading(tuple(values), components)
    worst = _most_telling(refused)
    return ObservationReading(skipped=Skip(reference, worst.reason, worst.detail))


def _site(
    resource: Json,
    nodes: list[_Node],
    provenance: Provenance,
    cutoff: datetime,
    policy: AdapterPolicy,
) -> _Site:
    """Check what concerns the Observation as a whole.

    Unmapped codes are told apart first, so that the reason of a skip says whether the
    evidence was of a kind that Trivium could have used at all.
    """
    _check_mapped(nodes)
    status = text(resource, "status")
    if status in _REFUSED:
        raise ValueRejectedError(_REFUSED[status])
    if status not in _STATUS_FLAGS:
        raise ValueRejectedError("unknown_status" if status else "missing_status")
    if resource.get("modifierExtension"):
        raise ValueRejectedError("modifier_extension")
    if resource.get("focus"):
        raise ValueRejectedError("other_focus")
    moment = effective_moment(resource, policy)
    check_cutoff(moment, cutoff, policy)
    return _Site(moment, provenance, (*_STATUS_FLAGS[status], *moment.flags))


def _measured_nodes(resource: Json) -> list[_Node]:
    """The Observation itself and its components: path below it, node, codings."""
    found: list[_Node] = [("", resource, codings(resource, "code"))]
    for place, component in enumerate(children(resource, "component")):
        found.append((f"#component.{place}", component, codings(component, "code")))
    return found


def _check_mapped(nodes: list[_Node]) -> None:
    """Raise ``unmapped_code`` when neither it nor a component is in the table."""
    for _, _, coded in nodes:
        for system, code in coded:
            if measurement_code(system, code):
                return
            if system == LOINC and code in CODE_ONLY:
                return
    raise ValueRejectedError("unmapped_code")


def _code_of(node: Json, coded: list[tuple[str, str]]) -> str:
    """The one measurement that the codings of a node mean.

    Raises:
        ValueRejectedError: ``unmapped_code``, ``conflicting_codes`` or, for the head
            of a panel, ``no_value``.
    """
    found = {measurement_code(system, code) for system, code in coded}
    found.discard(None)
    if len(found) > 1:
        for exact, general in PREFERRED:
            if exact in found:
                found.discard(general)
    if len(found) > 1:
        raise ValueRejectedError("conflicting_codes")
    for loinc in found:
        if loinc is not None:
            return loinc
    if any(system == LOINC and code in CODE_ONLY for system, code in coded):
        # Its absent reason, where given, says more than that a panel has no value.
        absent = node.get("dataAbsentReason") is not None
        raise ValueRejectedError("data_absent" if absent else "no_value")
    raise ValueRejectedError("unmapped_code")


def _coded_value(node: Json, coded: list[tuple[str, str]], site: _Site) -> CodedValue:
    loinc = _code_of(node, coded)
    if node.get("modifierExtension"):
        raise ValueRejectedError("modifier_extension")
    if node.get("hasMember") and not value_key(node):
        raise ValueRejectedError("no_value", "values are in its members")
    measured = read_value(node, loinc)
    value, unit_flags = to_canonical(loinc, measured.value, measured.unit)
    row = MEASUREMENTS[loinc]
    low, high = _reference_range(node, loinc, measured)
    interpretation, interpretation_flags = _interpretation(node)
    comparator = _comparator(loinc, measured)
    censored = () if comparator is None else ("censored",)
    flags = (*site.flags, *measured.flags, *unit_flags, *interpretation_flags)
    return CodedValue(
        loinc,
        row.name,
        value,
        row.unit,
        site.moment.at,
        site.provenance,
        comparator,
        interpretation,
        low,
        high,
        str(measured.value),
        measured.unit,
        (*flags, *censored),
    )


def _comparator(loinc: str, measured: Measured) -> str | None:
    """The sign of a bound; a falling conversion (nmol/L to pH) turns it around."""
    comparator = measured.comparator
    if comparator is None:
        return None
    conversion = conversion_of(loinc, measured.unit)
    if conversion is not None and conversion.formula == "hydrogen_ion":
        return comparator.translate(str.maketrans("<>", "><"))
    return comparator


def _interpretation(node: Json) -> tuple[str | None, tuple[str, ...]]:
    """LL, L, N, H or HH as the laboratory said it; contradictions are left out."""
    coded = codings(node, "interpretation")
    said = {code for _, code in coded if code in _INTERPRETATIONS}
    if len(said) > 1:
        return None, ("interpretation-conflict",)
    return next(iter(said), None), ()


def _reference_range(
    node: Json, loinc: str, measured: Measured
) -> tuple[Decimal | None, Decimal | None]:
    """Low and high of the normal range in the canonical unit, where it can be had.

    A range for some other group (``appliesTo``, ``age``) or of another type (critical,
    therapeutic) is not this patient's normal range, and is left out.
    """
    for reference_range in children(node, "referenceRange"):
        if reference_range.get("appliesTo") is not None:
            continue
        if reference_range.get("age") is not None:
            continue
        if any(kind != "normal" for _, kind in codings(reference_range, "type")):
            continue
        low = _bound(child(reference_range, "low"), loinc, measured)
        high = _bound(child(reference_range, "high"), loinc, measured)
        if low is not None and high is not None and low > high:
            low, high = None, None  # a falling conversion, or simply a wrong range
        return low, high
    return None, None


def _bound(quantity: Json, loinc: str, measured: Measured) -> Decimal | None:
    """One bound; without a unit of its own it is in the unit of the value."""
    value = number(quantity, "value")
    if value is None:
        return None
    unit = text(quantity, "code") or text(quantity, "unit") or measured.unit
    conversion = conversion_of(loinc, unit)
    if conversion is None and unit:
        return None
    try:
        return convert(conversion, value) if conversion else value
    except ValueRejectedError:
        return None  # a bound that is no number of a measurement is no bound


def _most_telling(refused: list[Skip]) -> Skip:
    """The reason that says most about why nothing of an Observation was used."""

    def rank(skip: Skip) -> int:
        known = skip.reason in _LEAST_TELLING
        return _LEAST_TELLING.index(skip.reason) if known else len(_LEAST_TELLING)

    return max(refused, key=rank)
