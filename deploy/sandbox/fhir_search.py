"""FHIR search over the store: a pure function of resources and parameters.

Rules (FHIR R4, section 3.1.1):

- a parameter given twice is AND, a comma inside one value is OR;
- a token is ``code``, ``system|code``, ``|code`` (no system) or ``system|``;
- a modifier we do not know is refused, never ignored: ignoring ``:not`` would return
  the opposite of what was asked (3.1.1.3);
- a parameter we do not know is ignored and reported back, or refused when the client
  asked for ``Prefer: handling=strict`` (3.1.1.2);
- results are ordered by ``_sort`` and then by id, so that pages are stable.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from deploy.sandbox.errors import RequestError
from deploy.sandbox.fhir_dates import interval_of, matches_date, parse_date
from deploy.sandbox.store import Resource, Store, patient_of

DEFAULT_COUNT = 50
MAX_COUNT = 200

Parameters = list[tuple[str, str]]

# kind of parameter and the elements it looks at, by resource type
_SUBJECT = {"patient": ("patient", ()), "subject": ("patient", ())}
SEARCH_PARAMETERS: dict[str, dict[str, tuple[str, tuple[str, ...]]]] = {
    "Patient": {
        "identifier": ("token", ("identifier",)),
        "gender": ("token", ("gender",)),
        "name": ("string", ("name",)),
        "birthdate": ("date", ("birthDate",)),
    },
    "Observation": {
        **_SUBJECT,
        "category": ("token", ("category",)),
        "code": ("token", ("code",)),
        "status": ("token", ("status",)),
        "date": ("date", ("effectiveDateTime", "effectivePeriod", "effectiveInstant")),
    },
    "DiagnosticReport": {
        **_SUBJECT,
        "category": ("token", ("category",)),
        "code": ("token", ("code",)),
        "status": ("token", ("status",)),
        "date": ("date", ("effectiveDateTime", "effectivePeriod")),
        "issued": ("date", ("issued",)),
    },
    "DocumentReference": {
        **_SUBJECT,
        "category": ("token", ("category",)),
        "type": ("token", ("type",)),
        "status": ("token", ("status",)),
        "date": ("date", ("date",)),
    },
    "ImagingStudy": {
        **_SUBJECT,
        "identifier": ("token", ("identifier",)),
        "modality": ("token", ("modality",)),
        "status": ("token", ("status",)),
        "started": ("date", ("started",)),
    },
    "Encounter": {
        **_SUBJECT,
        "class": ("token", ("class",)),
        "status": ("token", ("status",)),
        "date": ("date", ("period",)),
    },
    "Condition": {
        **_SUBJECT,
        "category": ("token", ("category",)),
        "code": ("token", ("code",)),
        "clinical-status": ("token", ("clinicalStatus",)),
        "onset-date": ("date", ("onsetDateTime", "onsetPeriod")),
        "recorded-date": ("date", ("recordedDate",)),
    },
    "Endpoint": {
        "identifier": ("token", ("identifier",)),
        "status": ("token", ("status",)),
        "connection-type": ("token", ("connectionType",)),
    },
    "Practitioner": {
        "identifier": ("token", ("identifier",)),
        "name": ("string", ("name",)),
    },
}
_EVERYWHERE = {"_id": ("id", ("id",)), "_lastUpdated": ("date", ("lastUpdated",))}
_ANY_TIME = parse_date("2000")
_CONTROL = {"_count", "_sort", "_format"}


@dataclass
class SearchResult:
    """All matches in order, and what the caller has to be told about them."""

    matches: list[Resource]
    count: int
    used: Parameters
    ignored: list[str] = field(default_factory=list)


def parameters_of(query: str) -> Parameters:
    """Parameters of a query string, in order, blanks kept."""
    return parse_qsl(query, keep_blank_values=True)


def search(
    store: Store,
    kind: str,
    parameters: Parameters,
    *,
    patient: str | None = None,
    strict: bool = False,
) -> SearchResult:
    """Everything of one type that satisfies the parameters.

    ``patient`` restricts the search to that patient's compartment whatever the
    parameters say (types outside every compartment are not affected).

    Raises:
        RequestError: 404 unknown type, 400 malformed or refused parameter.
    """
    known = SEARCH_PARAMETERS.get(kind)
    if known is None:
        raise RequestError(404, "not-supported", f"no search on {kind}")
    result = SearchResult([], DEFAULT_COUNT, [])
    tests: list[Callable[[Resource], bool]] = []
    orders: list[tuple[str, bool]] = []
    for name, value in parameters:
        if name == "_count":
            result.count = _parse_count(value)
        elif name == "_sort":
            orders = _parse_sort(kind, value, result, strict)
        elif name.split(":")[0] in known or name.split(":")[0] in _EVERYWHERE:
            tests.append(_test(kind, name, value))
        elif name not in _CONTROL:
            _ignore(result, name, strict)
            continue
        result.used.append((name, value))
    candidates: Iterable[Resource] = store.all(kind)
    if patient is not None and in_compartment(kind):
        candidates = store.all(kind, patient)
    result.matches = [r for r in candidates if all(test(r) for test in tests)]
    for name, descending in reversed(orders):
        result.matches = _ordered(kind, result.matches, name, descending)
    return result


def in_compartment(kind: str) -> bool:
    """Whether resources of this type belong to one patient."""
    return kind not in ("Endpoint", "Practitioner")


def _ignore(result: SearchResult, name: str, strict: bool) -> None:
    if strict:
        raise RequestError(400, "not-supported", f"unknown parameter {name[:40]}")
    result.ignored.append(name[:40])


def _parse_count(value: str) -> int:
    if not re.fullmatch(r"\d{1,6}", value):
        raise RequestError(400, "value", "_count takes a whole number")
    return min(int(value), MAX_COUNT)


def _parse_sort(
    kind: str, value: str, result: SearchResult, strict: bool
) -> list[tuple[str, bool]]:
    orders = []
    known = {**SEARCH_PARAMETERS[kind], **_EVERYWHERE}
    for part in value.split(","):
        name = part.removeprefix("-")
        if known.get(name, ("", ()))[0] in ("date", "id"):
            orders.append((name, part.startswith("-")))
        else:
            _ignore(result, f"_sort={part}", strict)
    return orders


def _ordered(
    kind: str, resources: list[Resource], name: str, descending: bool
) -> list[Resource]:
    """Stable sort by one parameter; resources without it come last either way."""
    sort, elements = {**SEARCH_PARAMETERS[kind], **_EVERYWHERE}[name]
    if sort == "id":
        return sorted(resources, key=lambda r: str(r["id"]), reverse=descending)
    dated, undated = [], []
    for resource in resources:
        interval = _date_of(resource, elements)
        if interval is None:
            undated.append(resource)
        else:
            dated.append((interval.start, resource))
    # reverse=True keeps the order of equal dates, so ids still ascend within a date
    dated.sort(key=lambda pair: pair[0], reverse=descending)
    return [resource for _, resource in dated] + undated


def _test(kind: str, name: str, value: str) -> Callable[[Resource], bool]:
    """The predicate of one parameter.

    Raises:
        RequestError: 400 for a modifier or a value that cannot be understood.
    """
    plain, _, modifier = name.partition(":")
    sort, elements = {**SEARCH_PARAMETERS[kind], **_EVERYWHERE}[plain]
    if modifier and not (sort == "patient" and modifier == "Patient"):
        raise RequestError(400, "not-supported", f"modifier on {plain} not supported")
    wanted = value.split(",")
    if sort == "patient":
        ids = {_patient_id(item) for item in wanted}
        return lambda resource: patient_of(resource) in ids
    if sort == "id":
        return lambda resource: resource["id"] in wanted
    if sort == "date":
        return _date_test(wanted, elements)
    if sort == "string":
        starts = tuple(item.casefold() for item in wanted)
        return lambda resource: any(
            word.casefold().startswith(starts) for word in _name_words(resource)
        )
    return lambda resource: any(
        _token_matches(pair, item)
        for element in elements
        for pair in _codings(resource.get(element))
        for item in wanted
    )


def _patient_id(value: str) -> str:
    """``A`` and ``Patient/A`` name the same patient; both forms are legal."""
    return value.removeprefix("Patient/")


def _date_test(
    wanted: list[str], elements: tuple[str, ...]
) -> Callable[[Resource], bool]:
    try:
        for item in wanted:
            matches_date(_ANY_TIME, item)
    except (ValueError, OverflowError) as error:
        raise RequestError(400, "value", "not a FHIR date expression") from error

    def test(resource: Resource) -> bool:
        have = _date_of(resource, elements)
        return have is not None and any(matches_date(have, item) for item in wanted)

    return test


def _date_of(resource: Resource, elements: tuple[str, ...]) -> Any:
    for element in elements:
        holder = resource.get("meta", {}) if element == "lastUpdated" else resource
        interval = interval_of(holder.get(element))
        if interval is not None:
            return interval
    return None


def _name_words(resource: Resource) -> list[str]:
    words: list[str] = []
    for name in resource.get("name", []):
        parts = [name.get("family", ""), name.get("text", ""), *name.get("given", [])]
        words += [part for part in parts if part]
    return words


def _codings(value: Any) -> list[tuple[str, str]]:
    """(system, code) pairs of a code, Coding, CodeableConcept, Identifier or list."""
    if isinstance(value, list):
        return [pair for item in value for pair in _codings(item)]
    if isinstance(value, str):
        return [("", value)]
    if not isinstance(value, dict):
        return []
    pairs = _codings(value.get("coding", []))
    code = value.get("code") or value.get("value")
    if code:
        pairs.append((str(value.get("system", "")), str(code)))
    return pairs


def _token_matches(pair: tuple[str, str], wanted: str) -> bool:
    system, bar, code = wanted.partition("|")
    if not bar:
        return pair[1] == system
    return pair[0] == system and (not code or pair[1] == code)
